"""Bytes read from disk with a profile pinned, beside the same places without it, with walls, and with LRU.

    .venv/bin/python benchmarks/pins.py
    .venv/bin/python benchmarks/pins.py --domain mathematics --other language --places 88 112 --prompts 8

`pocket` answers held-out questions of a domain greedily, with so many places for its 160 experts: alone, with
a question of another domain before each, and, as the wrong profile, the other domain's questions alone. The
profile keeps half of the experts and is fitted to other questions of its domain.

    none     what keeps experts in memory knows nothing at first and learns while it runs
    profile  it begins with what it learned when the profile was fitted, and prefers the kept experts
    walls    the kept experts never leave once they are there
    lru      the least recently used leaves first, as most systems do

Memory is empty at first. Nothing is read ahead of need, for how much of that is in vain depends on the speed
of the disk; so the bytes are the same in every run. The answers must be those of the model with every expert
in memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from report import Report, run

import araio
from araio.adapt.calibration import calibrate
from araio.adapt.fit import fit
from araio.adapt.select import Target
from araio.engine.generate import generate
from araio.engine.request import SamplingParams
from araio.eval.prompts import BUNDLED_DOMAINS, read_prompts
from araio.expert_profile import ExpertProfile
from araio.nn.model import Model
from araio.train.tasks import Split
from araio.weights.load import Memory, open_with_places
from araio.weights.locate import locate
from araio.weights.policies import LRU
from araio.weights.residency import StreamedExperts

GREEDY = SamplingParams(max_tokens=160, temperature=0)
WAYS = ("none", "profile", "walls", "lru")


class Asker:
    """Questions as token ids, and answers of any network that has the model's weights."""

    def __init__(self, model: araio.Model, count: int) -> None:
        self._model, self._count = model, count

    def questions(self, domain: str, split: Split) -> list[list[int]]:
        """Of a domain; those of both splits differ."""
        prompts = read_prompts([f"domain:{domain}"], n=self._count, split=split)
        return [self._model.prepare(list(prompt.messages)).job.prompt.tolist() for prompt in prompts]

    def answer(self, network: Model, question: Sequence[int]) -> list[int]:
        """Its ids, the last of which ends it."""
        return [token.id for token in generate(network, question, GREEDY)]


def fitted(model: araio.Model, domain: str, count: int) -> ExpertProfile:
    """A profile of half the experts, from so many questions that are not asked."""
    prompts = read_prompts([f"domain:{domain}"], n=count, split="train")
    return fit(calibrate(model, prompts), model.config, Target(keep=0.5), name=domain).profile


def compare(options: argparse.Namespace) -> Report:
    """Every number of places in every way, by what is asked."""
    model = araio.load(options.model, speculate="off")
    asker = Asker(model, options.prompts)
    profile = fitted(model, options.domain, options.fitted_to)
    own, other = (asker.questions(domain, "test") for domain in (options.domain, options.other))
    expected = {id(asked): [asker.answer(model.network, one) for one in asked] for asked in (own, other)}
    rows = []
    for places in options.places:
        for asked, counted, between in (
            ("alone", own, None),
            ("among others", own, other),
            ("other", other, None),
        ):
            for way in WAYS:
                read = 0
                network, experts = opened(model, places, way, profile)
                for place, question in enumerate(counted):
                    if between is not None:
                        asker.answer(network, between[place])
                    before = experts.counters.read_bytes
                    answer = asker.answer(network, question)
                    assert answer == expected[id(counted)][place], "another text"
                    read += experts.counters.read_bytes - before
                rows.append({"places": places, "asked": asked, "way": way, "read_bytes": read})
    tokens = {name: sum(map(len, expected[id(asked)])) for name, asked in (("own", own), ("other", other))}
    return {
        "model": options.model,
        "domain": options.domain,
        "other": options.other,
        "tokens": tokens,
        "rows": rows,
    }


def opened(
    model: araio.Model, places: int, way: str, profile: ExpertProfile
) -> tuple[Model, StreamedExperts]:
    """The model with so many places, none of which is read into before it is needed."""
    memory = Memory(
        pins=profile.keep if way == "walls" else None,
        prefers=profile.keep if way == "profile" else None,
        habits=profile.habits if way == "profile" else None,
        gives_way=False,
        remembers=False,
    )
    network, experts = open_with_places(locate(model.name), places, model.network.ops, memory)
    if way == "lru":
        experts.policy = LRU(experts.count)
    experts.expect = lambda *guess: False  # type: ignore[method-assign]
    return network, experts


def text(report: Report) -> str:
    """A line for each number of places and what is asked."""
    lines = [
        f"{report['model']}: MB read for {report['tokens']['own']} tokens of {report['domain']}, and for "
        f"{report['tokens']['other']} of {report['other']}, the wrong one; all texts are the same",
        f"{'places':>6}  {'asked':<14}" + "".join(f"{way:>10}" for way in WAYS),
    ]
    rows = report["rows"]
    for first in range(0, len(rows), len(WAYS)):
        group = rows[first : first + len(WAYS)]
        cells = "".join(f"{row['read_bytes'] / 1e6:>10.1f}" for row in group)
        lines.append(f"{group[0]['places']:>6}  {group[0]['asked']:<14}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pocket", help="a checkpoint that knows the bundled families")
    parser.add_argument("--domain", choices=BUNDLED_DOMAINS, default="mathematics", help="of the profile")
    parser.add_argument("--other", choices=BUNDLED_DOMAINS, default="language", help="what runs in between")
    parser.add_argument(
        "--places", type=int, nargs="+", default=[88, 112, 128], help="for experts, in memory"
    )
    parser.add_argument("--prompts", type=int, default=8, help="questions of each kind")
    parser.add_argument("--fitted-to", type=int, default=64, help="questions that the profile is fitted to")
    run(parser, compare, text)
