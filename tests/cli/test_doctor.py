import json

import pytest

import araio
from araio.cli.commands import doctor
from araio.disk.select import serving
from araio.kernels.select import select
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import locate


def test_json_tells_python_processor_memory_kernels_and_models(araio_command):
    done = araio_command("doctor", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["araio"] == araio.__version__
    assert found["cpu"]["cores_usable"] >= 1
    assert 0 < found["memory"]["available_bytes"] <= found["memory"]["total_bytes"]
    assert found["kernels"]["error"] is None
    assert set(found["kernels"]["operations"]) == set(select("reference").reasons)
    assert set(found["models"]) == {"pocket"}


def test_the_forced_backend_is_told_with_its_reason(araio_command):
    done = araio_command("doctor", ARAIO_KERNELS="reference")
    assert "reference: " in done.stdout
    assert "reference was asked for" in done.stdout
    assert "native" not in done.stdout


def test_a_backend_that_does_not_exist_is_a_finding_not_a_failure(araio_command):
    done = araio_command("doctor", ARAIO_KERNELS="quantum")
    assert done.returncode == 0
    assert "'quantum' is unknown; choose one of auto, native, reference" in done.stdout


def test_text_has_one_labelled_line_per_finding(araio_command):
    lines = araio_command("doctor").stdout.splitlines()
    labels = [line.split()[0] for line in lines]
    assert labels[:5] == ["araio", "Python", "CPU", "vectors", "memory"]
    assert labels[-1] == "pocket"
    assert set(labels[5:-1]) == {"kernels", "disk", "energy"}


def test_who_reads_the_disk_is_told(araio_command):
    assert json.loads(araio_command("doctor", "--json").stdout)["disk"] == serving()
    assert f"read by {serving()}\n" in araio_command("doctor").stdout


def test_the_meter_is_told_with_its_reasons(araio_command):
    found = json.loads(araio_command("doctor", "--json", ARAIO_TDP="30").stdout)["energy"]
    assert found["error"] is None
    assert found["method"] in {"rapl", "nvml", "rapl+nvml", "model:given-tdp"}
    assert [reason.split(": ")[0].removeprefix("no ") for reason in found["reasons"]][:2] == ["rapl", "nvml"]


def test_a_wrong_tdp_is_a_finding(araio_command):
    done = araio_command("doctor", ARAIO_TDP="lots")
    assert done.returncode == 0
    assert "ARAIO_TDP is 'lots'; expected auto or watts above 0" in done.stdout


@pytest.mark.parametrize("family", ["v3", "v3-fp8"])
def test_a_model_is_usable_when_its_files_fit_its_config(tmp_path, monkeypatch, family):
    write_tiny_checkpoint(tmp_path, family)
    monkeypatch.setitem(locate.BUNDLED, "pocket", tmp_path)
    assert doctor._model("pocket")["is_usable"]
    next(tmp_path.glob("model-*")).write_bytes(b"")
    found = doctor._model("pocket")
    assert not found["is_usable"]
    assert "safetensors" in found["note"]
