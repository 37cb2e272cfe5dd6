"""Experts tuned for a domain, against the whole model fine-tuned on the same data: gained, lost, stored.

    .venv/bin/python benchmarks/tune.py
    .venv/bin/python benchmarks/tune.py --target task:family --rates 3e-4,1e-3 --full-rates 1e-4,3e-4

The target are problems just outside of what the model was trained on, of which some are learned and others
asked; the general tasks are all families within the trained ranges, the target's among them. Both ways get
the same batches, and each runs at every learning rate that is named for it; on both sides the one that counts
is chosen by the same rule, the held-out loss on the target. The same seed gives the same problems.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import report
import torch

import araio
from araio.adapt.answers import ask
from araio.adapt.behaviour import paired_interval
from araio.adapt.lessons import read_lessons
from araio.adapt.relevance import relevant_experts
from araio.adapt.tune import Tuner
from araio.adapt.tune_settings import TuneSettings
from araio.api import Model
from araio.eval.prompts import BUNDLED_DOMAINS, Prompt, read_prompts
from araio.eval.wilson import wilson_interval

LENGTH = 512


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pocket", help="a checkpoint that knows the bundled families")
    parser.add_argument("--target", default="task:equation", help="task:NAMES or domain:NAME to tune for")
    parser.add_argument("--p", type=float, default=0.2, help="share of each layer's relevance that is tuned")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=4, help=f"of {LENGTH} tokens, in a batch")
    parser.add_argument("--rates", default="1e-3", help="learning rates of the experts, with commas")
    parser.add_argument("--full-rates", default="3e-4", help="learning rates of the whole model")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--n", type=int, default=100, help="problems asked of the target")
    parser.add_argument("--general", type=int, default=240, help="problems asked of all families together")
    parser.add_argument("--max-tokens", type=int, default=384, help="of an answer")
    parser.add_argument("--seed", type=int, default=0)
    report.run(parser, compare, text)


def compare(options: argparse.Namespace) -> report.Report:
    torch.manual_seed(options.seed)
    model = araio.load(options.model)
    target = read_prompts([options.target], n=options.n, seed=options.seed, split="beyond-test")
    general = [
        prompt
        for domain in BUNDLED_DOMAINS
        for prompt in read_prompts(
            [f"domain:{domain}"],
            n=options.general // len(BUNDLED_DOMAINS),
            seed=options.seed,
            split="test",
        )
    ]
    lessons = read_lessons(
        [options.target], model.chat_format, longest=LENGTH, n=2000, seed=options.seed, split="beyond-train"
    )
    experts = relevant_experts(model, lessons.learned[:64], p=options.p)
    before = graded(model, target, options), graded(model, general, options)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for chosen, rates in ((experts, options.rates), (None, options.full_rates)):
            for rate in map(float, rates.split(",")):
                out = Path(folder) / f"{'full' if chosen is None else 'experts'}-{rate:g}"
                rows += [tuned(out, options, lessons, chosen, rate, (target, general), before)]
                print(line(rows[-1]), file=sys.stderr, flush=True)
    return {
        "model": options.model,
        "target": options.target,
        "steps": options.steps,
        "tokens_per_step": options.rows * LENGTH,
        "seed": options.seed,
        "experts": {str(layer): list(ids) for layer, ids in experts.items()},
        "before": {"target": share(before[0]), "general": share(before[1])},
        "rows": rows,
        "chosen": {way: best(rows, way) for way in ("experts", "full")},
    }


def graded(model: Model, prompts: Sequence[Prompt], options: argparse.Namespace) -> np.ndarray[Any, Any]:
    """Whether each problem was answered rightly, (n,), greedily decoded."""
    asked = ask(model, prompts, temperature=0, repetition_penalty=1, max_tokens=options.max_tokens)
    return np.array(
        [bool(one.is_finished and one.prompt.is_right(one.answer.content)) for one in asked], float
    )


def tuned(
    out: Path,
    options: argparse.Namespace,
    lessons: Any,
    experts: Any,
    rate: float,
    asked: tuple[Sequence[Prompt], Sequence[Prompt]],
    before: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
) -> dict[str, Any]:
    """One run: what it took, and what it did to both kinds of problems."""
    settings = TuneSettings(options.steps, rate, options.rows, LENGTH, options.seed, options.dtype)
    begun_s = time.perf_counter()
    tuner = Tuner(options.model, out, lessons, settings, experts)
    tuner.run(lambda report: None, lambda: False)
    seconds = time.perf_counter() - begun_s
    changed = araio.load(out) if experts is None else araio.load(options.model, adapter=out)
    after = graded(changed, asked[0], options), graded(changed, asked[1], options)
    energy = tuner.receipt.to_json()["energy"][0]
    by_source = {
        source: float(
            np.mean([right for right, one in zip(after[1], asked[1], strict=True) if one.source == source])
        )
        for source in dict.fromkeys(one.source for one in asked[1])
    }
    return {
        "way": "experts" if experts is not None else "full",
        "learning_rate": rate,
        "trained_parameters": tuner.trained_parameters,
        "held_out_loss": tuner.held_out_loss(),
        "target": share(after[0]) | {"change": change(after[0], before[0])},
        "general": share(after[1]) | {"change": change(after[1], before[1]), "by_source": by_source},
        "bytes": sum(
            path.stat().st_size for path in out.iterdir() if path.suffix in (".safetensors", ".json")
        ),
        "seconds": seconds,
        "step_seconds": tuner.receipt.to_json()["seconds"],
        "joules": energy["joules"],
        "joules_method": energy["joules_method"],
    }


def share(right: np.ndarray[Any, Any]) -> dict[str, Any]:
    n, correct = len(right), int(right.sum())
    return {"n": n, "accuracy": correct / n, "ci95": list(wilson_interval(correct, n))}


def change(after: np.ndarray[Any, Any], before: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Of accuracy, with a 95 % interval by the bootstrap over problems, which both answered."""
    return {"mean": float((after - before).mean()), "ci95": list(paired_interval(after - before))}


def best(rows: Sequence[dict[str, Any]], way: str) -> dict[str, Any]:
    return min((row for row in rows if row["way"] == way), key=lambda row: row["held_out_loss"])


def text(document: report.Report) -> str:
    before = document["before"]
    lines = [
        f"{document['model']}, {document['target']} beyond the trained ranges, {document['steps']} steps of "
        f"{document['tokens_per_step']:,} tokens",
        f"before: target {percent(before['target'])}, general {percent(before['general'])}",
        f"{'':<8}{'rate':>8}{'loss':>8}  {'target':<44}{'general':<44}{'bytes':>12}{'s':>7}{'J':>8}",
    ]
    best_rows = list(document["chosen"].values())
    lines += [("*" if row in best_rows else " ") + line(row) for row in document["rows"]]
    lines.append("*: chosen by the held-out loss; changes have 95 % intervals of the bootstrap over problems")
    return "\n".join(lines)


def line(row: dict[str, Any]) -> str:
    return (
        f"{row['way']:<7}{row['learning_rate']:>8.0e}{row['held_out_loss']:>8.4f}  "
        f"{percent(row['target']):<44}{percent(row['general']):<44}{row['bytes']:>12,}"
        f"{row['step_seconds']:>7.0f}{row['joules']:>8.0f}"
    )


def percent(score: dict[str, Any]) -> str:
    low, high = score["ci95"]
    plain = f"{score['accuracy']:.1%} ({low:.1%} to {high:.1%})"
    if "change" not in score:
        return plain
    moved = score["change"]
    return f"{plain}, {moved['mean']:+.1%} ({moved['ci95'][0]:+.1%} to {moved['ci95'][1]:+.1%})"


if __name__ == "__main__":
    main()
