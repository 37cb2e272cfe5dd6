"""The receipt of a run: it grows with every saved state, and goes on where the run does."""

import json

import pytest

from araio.costs.tariff import choose_tariff
from araio.errors import TrainingError
from araio.meters.energy import Energy
from araio.train.loop import Trainer
from araio.train.receipt import RunReceipt


class Steps:
    """A meter by which every look at it is one joule after the one before."""

    def __init__(self, method="model:tdp", idle=0.25):
        self.method, self.idle, self.now = method, idle, 0.0

    def mark(self):
        self.now += 1.0
        return self.now

    def between(self, start, end):
        joules = end - start
        idle = None if self.idle is None else self.idle * joules
        return Energy(joules, joules / 2, joules * 2, idle, self.method)


@pytest.fixture
def tariff():
    return choose_tariff("tiny", "100", "none")


@pytest.fixture
def make(tmp_path, tariff):
    return lambda **meter: RunReceipt(tmp_path / "receipt.json", Steps(**meter), tariff)


def written(tmp_path):
    return json.loads((tmp_path / "receipt.json").read_text(encoding="utf-8"))


def test_what_is_written_is_what_was_counted(make, tmp_path):
    receipt = make()
    receipt.begin()
    for _ in range(3):
        receipt.count(tokens=100, seconds=0.5)
    receipt.save()
    (energy,) = (document := written(tmp_path))["energy"]
    assert (document["steps"], document["tokens"], document["seconds"]) == (3, 300, 1.5)
    assert (energy["joules"], energy["joules_low"], energy["joules_high"]) == (1.0, 0.5, 2.0)
    assert (energy["idle_joules"], energy["joules_method"]) == (0.25, "model:tdp")
    assert document["grams_co2e"] == pytest.approx(100 / 3.6e6)
    assert document["grid"]["grams_per_kwh"] == 100
    assert receipt.text() == "3 steps, 300 tokens, 1.5 s, ~1.00 J (500 mJ to 2.00 J), ~27.8 µg CO2e"


def test_lines_and_states_have_windows_of_their_own(make, tmp_path):
    receipt = make()
    receipt.begin()  # at 2
    assert receipt.since_line().joules == 1  # 2 to 3
    receipt.save()  # 2 to 4
    assert receipt.since_line().joules == 2  # 3 to 5
    receipt.save()  # 4 to 6
    assert written(tmp_path)["energy"][0]["joules"] == 4


def test_a_run_that_goes_on_has_one_receipt(make, tmp_path):
    for _ in range(2):
        receipt = make()
        receipt.resume()
        receipt.begin()
        receipt.count(tokens=10, seconds=1.0)
        receipt.save()
    assert written(tmp_path)["steps"] == 2
    assert written(tmp_path)["energy"][0]["joules"] == 2.0
    assert written(tmp_path)["energy"][0]["idle_joules"] == 0.5


def test_methods_are_kept_apart_and_unknown_idling_stays_unknown(make, tmp_path):
    for meter in ({"method": "rapl", "idle": None}, {"method": "model:tdp"}, {"method": "rapl"}):
        receipt = make(**meter)
        receipt.resume()
        receipt.begin()
        receipt.save()
    counted, modelled = written(tmp_path)["energy"]
    assert (counted["joules_method"], counted["joules"], counted["idle_joules"]) == ("rapl", 2.0, None)
    assert (modelled["joules_method"], modelled["joules"]) == ("model:tdp", 1.0)
    assert " and ~1.00 J (" in receipt.text()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"energy": [{}]}', '{"energy": 3}', "\xff"])
def test_a_file_that_is_no_receipt_is_told(make, tmp_path, content):
    (tmp_path / "receipt.json").write_text(content, encoding="latin-1")
    with pytest.raises(TrainingError, match=r"receipt\.json: is not the receipt of a run .* move it away"):
        make().resume()


def test_a_folder_that_cannot_be_written_is_told(tariff, tmp_path):
    receipt = RunReceipt(tmp_path / "missing" / "receipt.json", Steps(), tariff)
    with pytest.raises(TrainingError, match="cannot be written"):
        receipt.save()


def test_a_run_counts_all_of_its_steps_however_often_it_stops(tiny_recipe, tmp_path):
    reports = []
    for until in (4, 7, None):
        trainer = Trainer(tiny_recipe, tmp_path)
        trainer.run(reports.append, lambda trainer=trainer, until=until: trainer.step == until)
    document = written(tmp_path)
    assert document["steps"] == tiny_recipe.steps
    assert document["seconds"] >= sum(report.seconds for report in reports)
    (energy,) = document["energy"]
    assert energy["joules"] >= sum(report.joules for report in reports[-2:]) > 0
    assert all(report.joules_low <= report.joules <= report.joules_high for report in reports)
    assert {report.joules_method for report in reports} == {energy["joules_method"]}


def test_an_older_run_without_a_receipt_goes_on(tiny_recipe, tmp_path):
    Trainer(tiny_recipe, tmp_path).run(lambda report: None, iter([False] * 3 + [True]).__next__)
    (tmp_path / "receipt.json").unlink()
    trainer = Trainer(tiny_recipe, tmp_path)
    trainer.run(lambda report: None, lambda: trainer.step == 5)
    assert written(tmp_path)["steps"] == 2
