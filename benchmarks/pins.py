"""Bytes read from disk where a profile's experts stay in memory, beside the same places left to the cache.

    .venv/bin/python benchmarks/pins.py
    .venv/bin/python benchmarks/pins.py --domain mathematics --other language --places 88 112 --prompts 8

`pocket` answers held-out questions of a domain greedily, with so many places for its 160 experts: alone, and
with a question of another domain before each. Pinned are those experts that were chosen most often for other
questions of the domain, as many of each group: half of all, and the better half of these. Memory is empty at
first. Bytes are counted; how many experts are read ahead in vain depends a little on the disk's speed. The
answers must be those of the model with every expert in memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
from report import Report, run

import araio
from araio.engine.generate import generate
from araio.engine.request import SamplingParams
from araio.eval.prompts import BUNDLED_DOMAINS, read_prompts
from araio.nn.model import Model
from araio.train.tasks import Split
from araio.weights.load import Memory, open_with_places
from araio.weights.locate import locate

GREEDY = SamplingParams(max_tokens=160, temperature=0)
NAME = "pocket"

Keep = Mapping[int, Sequence[int]]


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


def most_used(model: araio.Model, asker: Asker, questions: Sequence[Sequence[int]], share: float) -> Keep:
    """Experts of each layer by how often they are chosen, as many of each group."""
    config = model.config
    counts = {layer: np.zeros(config.n_routed_experts) for layer in config.moe_layers}
    for question in questions:
        ids, _ = model.route([*question, *asker.answer(model.network, question)])
        for place, layer in enumerate(config.moe_layers):
            counts[layer] += np.bincount(ids[:, place].ravel(), minlength=config.n_routed_experts)
    size = config.n_routed_experts // config.n_group
    kept: dict[int, list[int]] = {}
    for layer, count in counts.items():
        order = np.argsort(-count.reshape(config.n_group, size), axis=1, kind="stable")
        best = order[:, : round(share * size)] + size * np.arange(config.n_group)[:, None]
        kept[layer] = sorted(best.ravel().tolist())
    return kept


def compare(options: argparse.Namespace) -> Report:
    """Every number of places, alone and among others, with each set of pins."""
    model = araio.load(NAME, speculate="off")
    asker = Asker(model, options.prompts)
    learned_from = asker.questions(options.domain, "train")
    pins: dict[str, Keep] = {
        "none": {},
        "half": most_used(model, asker, learned_from, 0.5),
        "quarter": most_used(model, asker, learned_from, 0.25),
    }
    held_out, others = asker.questions(options.domain, "test"), asker.questions(options.other, "test")
    expected = [asker.answer(model.network, question) for question in held_out]
    rows = []
    for places in options.places:
        for is_mixed in (False, True):
            for name, pinned in pins.items():
                memory = Memory(pins=pinned, gives_way=False, remembers=False)
                network, experts = open_with_places(locate(NAME), places, model.network.ops, memory)
                read = 0
                for question, other, answer in zip(held_out, others, expected, strict=True):
                    if is_mixed:
                        asker.answer(network, other)
                    before = experts.counters.read_bytes
                    assert asker.answer(network, question) == answer, "another text"
                    read += experts.counters.read_bytes - before
                rows.append({"places": places, "mixed": is_mixed, "pinned": name, "read_bytes": read})
    return {"domain": options.domain, "tokens": sum(map(len, expected)), "rows": rows}


def text(report: Report) -> str:
    """A line for each run."""
    lines = [f"{report['tokens']} tokens of {report['domain']}, the same in every run"]
    for row in report["rows"]:
        among = "among others" if row["mixed"] else "alone"
        lines.append(
            f"{row['places']:>5} places  {among:<13}{row['pinned']:<9}{row['read_bytes'] / 1e6:>8.1f} MB"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--domain", choices=BUNDLED_DOMAINS, default="mathematics", help="of the profile")
    parser.add_argument("--other", choices=BUNDLED_DOMAINS, default="language", help="what runs in between")
    parser.add_argument("--places", type=int, nargs="+", default=[88, 112], help="for experts, in memory")
    parser.add_argument("--prompts", type=int, default=8, help="questions of each kind")
    run(parser, compare, text)
