"""Write the model card of the bundled model, pocket, from what was measured: its run, and its evaluation.

    araio eval MODEL --n 200 --json > test.json
    araio eval MODEL --n 200 --split beyond --json > beyond.json
    python scripts/model_card.py --run runs/pocket --recipe recipes/pocket.toml --hardware "2 CPU cores" \
        --test test.json --beyond beyond.json > src/araio/models/pocket/README.md
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

from araio.costs.parameters import count_parameters
from araio.train.recipe import Recipe, Stage
from araio.train.tasks import TASKS

# What the recipe aims at: task, level within it (None for all) and what it covers, accuracy.
# Recall's levels are powers of two; its longest documents in the trained range have 1,000 tokens.
AIMS = (
    ("chain", None, "all", 0.95),
    ("countdown", "3 numbers", "3 numbers", 0.60),
    ("equation", None, "all", 0.90),
    ("story", None, "all", 0.80),
    ("knights", "2 people", "2 people", 0.85),
    ("order", None, "all", 0.90),
    ("letters", None, "all", 0.80),
    ("recall", "one-word keys, up to 1024 tokens", "one-word keys, 513 to 1,000 tokens", 0.90),
    ("recall", "two-word keys, up to 1024 tokens", "two-word keys, 513 to 1,000 tokens", 0.90),
)

# Nobody measured this: a guess at what two busy cores of a server draw.
ASSUMED_WATTS = (5, 20)

CARD = """\
---
license: apache-2.0
language: en
library_name: araio
pipeline_tag: text-generation
tags: [mixture-of-experts, deepseek-v3, reasoning]
---

# pocket

A sparse reasoning model in miniature: the DeepSeek-V3 architecture with {total} parameters, of which a token
uses {active}. It was trained from random weights by `recipes/pocket.toml` of araio and nothing else, to show
every part of such a model at work on a laptop. It thinks aloud, then answers.

It knows ten kinds of problems, in English, phrased much as its training phrased them, and a little about how
old novels sound. It knows no facts, follows no instructions and is no assistant. Use it to learn, to test
software and to study experts.

## Accuracy

Greedy decoding on problems that were never trained on, n a task, with Wilson's 95 % interval:
`araio eval pocket --n {n} --seed {seed} --levels`.

{accuracy}

Against the recipe's aims (in the trained ranges):

{aims}

Just outside the trained ranges (one term, person, digit or hop more; longer documents),
`araio eval pocket --n {n_beyond} --seed {seed} --split beyond`:

{beyond}

## Training

- **Data**: the ten families of `araio.train.tasks`, generated as they were needed, and nine English books of
  the public domain (Alice in Wonderland, Huckleberry Finn, The Jungle Book, The Little Colonel's Hero, Peter
  Pan, Pride and Prejudice, Sherlock Holmes, The Time Machine, The Wizard of Oz) with plays of Shakespeare.
  One problem in eight, decided by a hash, is kept for tests; so is one piece of prose in eight.
{steps}
{deviation}- **Energy**: not measured; the machine had no meter. The author assumes, without a
  source, that the cores drew {low_w} to {high_w} W; if so, the run took {low_wh:.0f} to {high_wh:.0f} Wh.
{balance}
- **Prose**: {prose}

## Limits

- Contexts: trained on documents of up to about 1,100 tokens. The configuration extends positions to 131,072
  by YaRN, and the software runs them; the model was not trained to use them.
- An answer outside the families above is likely to be fluent nonsense.
- No safety training of any kind.
"""


def main() -> None:
    options = parse()
    recipe = Recipe.from_file(options.recipe)
    test, beyond = read(options.test), read(options.beyond)
    seconds = training_seconds(options.run / "metrics.jsonl", recipe)
    parameters = count_parameters(recipe.model)
    validation = read(options.run / "validation.json")
    card = CARD.format(
        total=f"{parameters.model.total / 1e6:.1f} million",
        active=f"{parameters.model.active / 1e6:.1f} million",
        n=next(iter(test["tasks"].values()))["n"],
        n_beyond=next(iter(beyond["tasks"].values()))["n"],
        seed=test["seed"],
        accuracy=accuracy_table(test),
        aims=aims_table(test),
        beyond=accuracy_table(beyond),
        steps=bullet("Steps", steps_text(recipe, seconds, options.hardware)),
        deviation="".join(bullet("Deviation", text) + "\n" for text in options.deviation),
        low_w=ASSUMED_WATTS[0],
        high_w=ASSUMED_WATTS[1],
        low_wh=ASSUMED_WATTS[0] * seconds / 3600,
        high_wh=ASSUMED_WATTS[1] * seconds / 3600,
        balance=bullet("Balance", balance_text(validation)),
        prose=f"{validation['loss']['prose']:.2f} nats a token on held-out pieces.",
    )
    print(card, end="")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--run", "--recipe", "--test", "--beyond"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--hardware", required=True, help="what it was trained on, in words")
    parser.add_argument(
        "--deviation", action="append", default=[], help="how the run differed from the recipe"
    )
    return parser.parse_args()


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def training_seconds(metrics: Path, recipe: Recipe) -> float:
    """Wall seconds of all steps, from every logged one standing for those since the line before it."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return float(sum(line["seconds"] for line in lines) / len(lines) * recipe.steps)


def accuracy_table(report: Any) -> str:
    rows = [
        "| task | domain | right | 95 % interval | thought tokens |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, task in report["tasks"].items():
        rows.append(
            f"| {name} | {TASKS[name].domain} | {percent(task['accuracy'])} | {interval(task['ci95'])} "
            f"| {task['mean_reasoning_tokens']:.0f} |"
        )
    return "\n".join(rows)


def aims_table(report: Any) -> str:
    rows = ["| task | level | aim | right | n | reached |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for task, level, covered, aim in AIMS:
        entry = report["tasks"][task]
        entry = entry if level is None else entry["levels"][level]
        reached = "yes" if entry["accuracy"] >= aim else "**no**"
        rows.append(
            f"| {task} | {covered} | {percent(aim)} | {percent(entry['accuracy'])} "
            f"({interval(entry['ci95'])}) | {entry['n']} | {reached} |"
        )
    return "\n".join(rows)


def bullet(name: str, text: str) -> str:
    """A list item, wrapped like the rest of the card."""
    return textwrap.fill(f"- **{name}**: {text}", 110, subsequent_indent="  ", break_on_hyphens=False)


def steps_text(recipe: Recipe, seconds: float, hardware: str) -> str:
    tokens = sum(
        stage.steps * stage.rows * stage.sequence_length
        for stage in recipe.stages
        if isinstance(stage, Stage)
    )
    return (
        f"{recipe.steps:,} over {tokens / 1e6:.1f} million tokens, padding and questions included, in "
        f"{seconds / 3600:.1f} hours of training on {hardware}. Muon for the matrices, AdamW for the rest; "
        f"float32 weights, {recipe.dtype} arithmetic."
    )


def balance_text(validation: Any) -> str:
    text = (
        f"global MaxVio {validation['max_violation_global']:.2f} on held-out text in the last stage's "
        f"mixture (worst layer {validation['worst_layer']:.2f}; 0 is perfect)"
    )
    if validation["mtp_accuracy"] is not None:
        text += f"; the MTP module names {percent(validation['mtp_accuracy'])} of the tokens after the next"
    return text + "."


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def interval(bounds: list[float]) -> str:
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


if __name__ == "__main__":
    main()
