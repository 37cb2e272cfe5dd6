import json

import pytest

from araio.errors import TrainingError
from araio.train.metrics import MetricsLog, StepReport


def make_report(step, **changes):
    values = {
        "stage": "only",
        **dict.fromkeys(("loss", "mtp_loss", "balance_loss", "learning_rate", "gradient_norm"), 1.0),
        "tokens": 300,
        "learned_tokens": 200,
        "seconds": 1.5,
        **dict.fromkeys(("max_violation_batch", "max_violation_global", "worst_layer", "entropy"), 0.5),
        "dead_experts": 0,
        **dict.fromkeys(("joules", "joules_low", "joules_high"), 2.0),
        "joules_method": "rapl",
    }
    return StepReport(step=step, steps=10, **(values | changes))


@pytest.fixture
def log(tmp_path):
    return MetricsLog(tmp_path / "metrics.jsonl")


def steps(log):
    return [json.loads(line)["step"] for line in log.path.read_text().splitlines()]


def test_a_log_of_later_steps_is_forgotten(log):
    for step in (2, 4, 6):
        log.append(make_report(step))
    log.forget_after(4)
    assert steps(log) == [2, 4]
    log.append(make_report(6))
    assert steps(log) == [2, 4, 6]


@pytest.mark.parametrize("cut", [1, 40, -2])
def test_a_line_that_a_kill_cut_short_is_forgotten(log, cut):
    log.append(make_report(2))
    whole = log.path.read_text()
    log.path.write_text(whole + whole.replace('"step": 2', '"step": 4')[:cut])
    log.forget_after(2)
    assert log.path.read_text() == whole


def test_a_log_that_is_not_there_is_an_empty_one(log):
    log.forget_after(3)
    log.append(make_report(1))
    assert steps(log) == [1]


@pytest.mark.parametrize("content", ["{}", "[1]}", '{"step": "x"}', b"\xff\xfe}"])
def test_a_foreign_file_is_refused_and_kept(log, content):
    content = content if isinstance(content, bytes) else content.encode()
    log.path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"metrics\.jsonl: is not the log of a run"):
        log.forget_after(3)
    assert log.path.read_bytes() == content


def test_a_log_that_cannot_be_written_is_one_clear_error(tmp_path):
    log = MetricsLog(tmp_path / "missing" / "metrics.jsonl")
    with pytest.raises(TrainingError, match=r"metrics\.jsonl: cannot be written"):
        log.append(make_report(1))


def test_speed_counts_every_position():
    assert make_report(1).tok_per_s == 200
