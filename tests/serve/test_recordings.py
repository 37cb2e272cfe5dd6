"""Traces that are begun and ended over HTTP, and experts that a trace names."""

import httpx2 as httpx
import pytest

import araio
from araio.errors import RequestError
from araio.serve.service import Service
from araio.serve.settings import Settings
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.traces import Trace

START, STOP, DUMP = (f"/{verb}_expert_distribution_record" for verb in ("start", "stop", "dump"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings") / "tiny"
    write_tiny_checkpoint(folder, "v3", max_position_embeddings=1024)
    return folder


def complete(client, ids):
    done = client.post("/v1/completions", json={"prompt": ids, "max_tokens": 4, "ignore_eos": True})
    assert done.status_code == 200, done.text


def test_a_named_recording_becomes_a_trace(folder, tmp_path, start_live):
    live = start_live(folder, traces=tmp_path / "traces")
    with httpx.Client(base_url=live.url, timeout=60) as client:
        begun = client.post(START, json={"name": "math", "domain": "sums", "text": False})
        assert begun.status_code == 200, begun.text
        assert begun.json()["trace"]["name"] == "math"
        complete(client, [1, 2, 3])
        assert client.post(DUMP).json()["is_recording"]
        again = client.post(START, json={"name": "other"})
        assert (again.status_code, "stop that first" in again.text) == (400, True)
        ended = client.post(STOP).json()
        assert ended["trace"]["domains"] == {"sums": ended["trace"]["tokens"]}
        assert not ended["is_recording"]
        taken = client.post(START, json={"name": "math"})
        assert (taken.status_code, str(tmp_path) in taken.text) == (400, False)
        assert client.post(START, json={"name": "empty"}).status_code == 200
        assert client.post(STOP).status_code == 400
    trace = Trace.open(tmp_path / "traces" / "math.moetrace")
    assert trace.tokens == ended["trace"]["tokens"] == 6
    assert trace.domains == ("sums",)
    assert [path.name for path in (tmp_path / "traces").iterdir()] == ["math.moetrace"]
    assert not trace.header.has_text


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x\u0000", "x" * 65])
def test_a_name_is_no_path(folder, tmp_path, start_live, name):
    live = start_live(folder, traces=tmp_path / "traces")
    with httpx.Client(base_url=live.url, timeout=60) as client:
        assert client.post(START, json={"name": name}).status_code == 400
        assert client.post(STOP).status_code == 400
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_recorded_is_refused_by_the_field_that_is_at_fault(folder, tmp_path, start_live):
    live = start_live(folder, traces=tmp_path / "traces")
    with httpx.Client(base_url=live.url, timeout=60) as client:
        for body, param in (
            ({"name": "../x"}, "name"),
            ({"name": "x", "domain": "\u202e"}, "domain"),
            ({"name": "x", "domain": ""}, "domain"),
            ({"name": "x", "text": 1}, "text"),
        ):
            reply = client.post(START, json=body)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
        form = {"Content-Type": "text/plain"}
        assert client.post(START, content='{"name": "x"}', headers=form).status_code == 415
        unknown = client.post(START, json={"name": "x", "start_step": 3})
        assert unknown.status_code == 200, "as everywhere, a field that nobody knows is ignored"
        assert client.post(START, json={"name": "y"}).json()["error"]["param"] == "name"


def test_a_trace_has_a_limit(folder, tmp_path, start_live):
    live = start_live(folder, traces=tmp_path, trace_tokens=10)
    with httpx.Client(base_url=live.url, timeout=60) as client:
        client.post(START, json={"name": "math"})
        for _ in range(4):
            complete(client, [1, 2, 3])
        ended = client.post(STOP).json()
    assert ended["tokens"] == 4 * 6, "counts go on"
    assert ended["trace"]["is_full"]
    assert Trace.open(tmp_path / "math.moetrace").tokens == ended["trace"]["tokens"] == 10


def test_a_folder_that_cannot_be_is_the_servers_fault_and_not_told(folder, tmp_path, start_live):
    (tmp_path / "traces").write_text("a file")
    live = start_live(folder, traces=tmp_path / "traces")
    with httpx.Client(base_url=live.url, timeout=60) as client:
        failed = client.post(START, json={"name": "math"})
        assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
        assert str(tmp_path) not in failed.text
        complete(client, [1, 2, 3])


def test_what_somebody_else_records_is_not_named(folder, tmp_path, start_live):
    live = start_live(folder, traces=tmp_path, keys=("first-key", "second-key"))
    mine, other = ({"x-api-key": key} for key in ("first-key", "second-key"))
    with httpx.Client(base_url=live.url, timeout=60) as client:
        client.post(START, json={"name": "secret"}, headers=mine)
        refused = client.post(START, json={"name": "x"}, headers=other)
        assert (refused.status_code, "secret" in refused.text) == (400, False)
        assert client.post(START, headers=other).json()["trace"] is None
        assert client.post(STOP, headers=other).json()["trace"] is None
        assert client.post(DUMP, headers=mine).json()["trace"]["name"] == "secret"


def test_a_recording_that_failed_does_not_keep_the_server_from_ending(folder, tmp_path, start_live, caplog):
    live = start_live(folder, traces=tmp_path)
    with httpx.Client(base_url=live.url, timeout=60) as client:
        client.post(START, json={"name": "math"})
        complete(client, [1, 2, 3])
    live.service.model.recording._recorder.error = KeyError("a mistake of ours")
    live.stop()
    assert "the recording had failed" in caplog.text
    assert live.service._threads._shutdown


def test_without_a_folder_counts_are_recorded_and_no_trace(folder, start_live):
    live = start_live(folder)
    with httpx.Client(base_url=live.url, timeout=60) as client:
        refused = client.post(START, json={"name": "math"})
        assert (refused.status_code, "--traces" in refused.text) == (400, True)
        assert client.post(START).json()["trace"] is None
        complete(client, [1, 2, 3])
        assert client.post(STOP).json()["tokens"] == 6


def test_a_server_that_ends_completes_its_trace(folder, tmp_path, start_live):
    live = start_live(folder, traces=tmp_path)
    with httpx.Client(base_url=live.url, timeout=60) as client:
        client.post(START, json={"name": "math"})
        complete(client, [1, 2, 3])
    live.stop()
    assert Trace.open(tmp_path / "math.moetrace").tokens == 6


def test_a_trace_names_the_domains_of_experts(folder, tmp_path, start_live):
    model = araio.load(folder)
    with model.trace(tmp_path / "x.moetrace") as recording:
        for number in range(12):
            with recording.domain("low" if number % 2 else "high"):
                model.complete([number % 2 * 40 + 1 + place % 7 for place in range(60)], max_tokens=1)
    live = start_live(model, trace=tmp_path / "x.moetrace")
    domains = httpx.get(f"{live.url}/v1/experts", timeout=60).json()["domains"]
    assert domains["names"] == ["high", "low"]
    assert [len(layer) for layer in domains["experts"]] == [16] * len(model.config.moe_layers)
    assert {0, 1} <= {domain for layer in domains["experts"] for domain in layer}


def test_a_trace_of_another_model_is_refused_at_the_start(folder, tmp_path):
    write_tiny_checkpoint(tmp_path / "other", "v3", seed=1)
    other = araio.load(tmp_path / "other")
    with other.trace(tmp_path / "x.moetrace"):
        other.complete([1, 2], max_tokens=1)
    with pytest.raises(RequestError, match="whose routers are not those"):
        Service(araio.load(folder), Settings(port=0, trace=tmp_path / "x.moetrace"))
