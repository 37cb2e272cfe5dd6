"""Tuned experts against a tuned model on a tiny checkpoint: a whole report, whatever it says."""

from argparse import Namespace

import tune

from araio.testing.checkpoints import write_tiny_checkpoint


def test_both_ways_in_one_report(tmp_path):
    write_tiny_checkpoint(tmp_path / "tiny", "v3", max_position_embeddings=2048)
    options = Namespace(
        model=str(tmp_path / "tiny"),
        target="task:letters",
        p=0.2,
        steps=1,
        rows=1,
        rates="1e-3",
        full_rates="1e-3,1e-4",
        dtype="float32",
        n=2,
        general=3,
        max_tokens=3,
        seed=0,
    )
    report = tune.compare(options)
    assert [row["way"] for row in report["rows"]] == ["experts", "full", "full"]
    experts, *full = report["rows"]
    assert experts["bytes"] < min(row["bytes"] for row in full)
    assert experts["trained_parameters"] < full[0]["trained_parameters"]
    assert report["chosen"]["full"] == min(full, key=lambda row: row["held_out_loss"])
    assert report["before"]["general"]["n"] == 3
    assert all(row["joules"] > 0 and row["general"]["change"]["ci95"] for row in report["rows"])
    assert "*experts" in tune.text(report)
