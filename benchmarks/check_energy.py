"""The energy of decoding by araio's meter and by CodeCarbon's offline tracker, over one window of time.

    .venv/bin/python benchmarks/check_energy.py
    .venv/bin/python benchmarks/check_energy.py --model FOLDER --seconds 60 --country FRA --json

CodeCarbon comes with the extra `energy-check`; offline, it asks no server. Where neither of the two measures,
both model, and by other rules: CodeCarbon counts memory by guessed DIMMs, araio by gigabytes. A ratio within
two is what araio's own bounds promise; the parts are printed, so that it can be seen which guess differs.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from report import run

import araio
from araio.costs.grid import JOULES_PER_KWH, find_intensity
from araio.engine.request import SamplingParams
from araio.meters.meter import choose_meter

PERIOD_S = 1  # of CodeCarbon's readings; more often costs speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a bundled model or a folder")
    parser.add_argument("--seconds", type=float, default=20.0, help="of decoding")
    parser.add_argument("--country", default="WORLD", help="a code of three letters")
    run(parser, compare, text)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Decode under both; joules and grams of each."""
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        raise SystemExit("CodeCarbon is not installed: pip install 'araio[energy-check]'") from None
    intensity = find_intensity(arguments.country)
    model = araio.load(arguments.model)
    meter = choose_meter()
    tracker = OfflineEmissionsTracker(
        country_iso_code=arguments.country if arguments.country != "WORLD" else "USA",
        measure_power_secs=PERIOD_S,
        tracking_mode="process",
        save_to_file=False,
        log_level="error",
    )
    tracker.start()
    start = meter.mark()
    tokens = decode(model, arguments.seconds)
    energy = meter.between(start, meter.mark())
    tracker.stop()
    theirs = tracker.final_emissions_data
    joules = theirs.energy_consumed * JOULES_PER_KWH
    return {
        "benchmark": "check_energy",
        "model": arguments.model,
        "tokens": tokens,
        "araio": {
            "joules": energy.joules,
            "joules_low": energy.low,
            "joules_high": energy.high,
            "joules_method": energy.method,
            "grams_co2e": intensity.grams(energy.joules),
            "reasons": meter.reasons,
        },
        "codecarbon": {
            "joules": joules,
            "cpu_joules": theirs.cpu_energy * JOULES_PER_KWH,
            "ram_joules": theirs.ram_energy * JOULES_PER_KWH,
            "grams_co2e": intensity.grams(joules),
        },
        "ratio": energy.joules / joules,
        "grid": f"{intensity.country}, {intensity.grams_per_kwh:g} g/kWh",
    }


def decode(model: araio.Model, seconds: float) -> int:
    """Generate for so long; the number of tokens."""
    prompt = model.tokenizer.encode("Once upon a time")
    deadline, count = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        job = model.engine.prepare(prompt, SamplingParams(max_tokens=256, temperature=1.0), stop_ids=[])
        count += sum(1 for _ in model.engine.tokens(job))
    return count


def text(document: dict[str, Any]) -> str:
    ours, theirs = document["araio"], document["codecarbon"]
    return "\n".join(
        [
            f"{document['tokens']} tokens of {document['model']}; {document['grid']}",
            f"araio       {ours['joules']:8.1f} J ({ours['joules_low']:.1f} to {ours['joules_high']:.1f}) "
            f"{ours['grams_co2e'] * 1e3:8.2f} mg  {ours['joules_method']}",
            f"codecarbon  {theirs['joules']:8.1f} J (processor {theirs['cpu_joules']:.1f}, memory "
            f"{theirs['ram_joules']:.1f}) {theirs['grams_co2e'] * 1e3:8.2f} mg",
            f"ratio       {document['ratio']:8.2f}",
        ]
    )


if __name__ == "__main__":
    main()
