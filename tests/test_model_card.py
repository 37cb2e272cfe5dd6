"""The script that writes the bundled model's card: the numbers it is given are the numbers it prints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from araio.train.recipe import Recipe
from araio.train.tasks import TASKS

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "pocket.toml"
LEVELS = {
    "countdown": ["3 numbers"],
    "knights": ["2 people"],
    "recall": ["one-word keys, up to 1024 tokens", "two-word keys, up to 1024 tokens"],
}


def report(accuracy, n, **changed):
    """An evaluation in which every task and level has one accuracy, but for the named tasks."""
    tasks = {}
    for name in TASKS:
        entry = {"accuracy": changed.get(name, accuracy), "ci95": [0.111, 0.999], "n": n}
        levels = dict.fromkeys(LEVELS.get(name, []), entry)
        tasks[name] = entry | {"mean_reasoning_tokens": 57.3, "levels": levels}
    return {"seed": 7, "tasks": tasks}


@pytest.fixture
def card(tmp_path):
    """The card of a run of one second a step."""
    validation = {"loss": {"prose": 3.21}, "max_violation_global": 0.12, "worst_layer": 0.34}
    files = {
        "validation.json": json.dumps(validation | {"mtp_accuracy": 0.456}),
        "metrics.jsonl": '{"seconds": 0.5}\n{"seconds": 1.5}\n',
        "test.json": json.dumps(report(0.97, 200, letters=0.79)),
        "beyond.json": json.dumps(report(0.123, 150)),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    options = [
        "--run",
        tmp_path,
        "--recipe",
        RECIPE,
        "--hardware",
        "2 CPU cores",
        "--deviation",
        "It rained.",
    ]
    options += ["--test", tmp_path / "test.json", "--beyond", tmp_path / "beyond.json"]
    command = [sys.executable, ROOT / "scripts" / "model_card.py", *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def test_the_card_holds_what_was_measured(card):
    steps = Recipe.from_file(RECIPE).steps
    hours = steps / 3600
    for text in (
        "araio eval pocket --n 200 --seed 7 --levels",
        "araio eval pocket --n 150 --seed 7 --split beyond",
        "| letters | language | 79.0 % | 11.1 to 99.9 | 57 |",
        "| letters | language | 12.3 % | 11.1 to 99.9 | 57 |",
        f"{steps:,} over ",
        f"in {hours:.1f} hours of training",
        "2 CPU cores",
        "**Deviation**: It rained.",
        "The author assumes, without a source, that the cores drew 5 to 20 W",
        f"if so, the run took {5 * hours:.0f} to {20 * hours:.0f} Wh.",
        "global MaxVio 0.12",
        "worst layer 0.34",
        "45.6 % of the tokens after the next",
        "3.21 nats a token",
    ):
        assert text in " ".join(card.split()), text
    assert "{" not in card


def test_what_was_missed_is_marked_and_recall_says_how_long_it_was(card):
    assert "| letters | all | 80.0 % | 79.0 % (11.1 to 99.9) | 200 | **no** |" in card
    assert card.count("**no**") == 1
    assert "| chain | all | 95.0 % | 97.0 % (11.1 to 99.9) | 200 | yes |" in card
    assert "| recall | two-word keys, 513 to 1,000 tokens | 90.0 % |" in card
