"""The benchmarks of the server: their arithmetic, their vocabulary, their clients against a real server."""

import asyncio
import random
import socket
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
import serve_abuse
import serve_models
import soak
from gguf import GGUFReader
from peers import llama_server
from peers.araio_server import AraioServer
from peers.json_process import PeerError
from peers.llama_server import LlamaServer
from peers.server_process import ServerProcess
from report import table
from serve_abuse import ABUSES, CLOSED, LEFT, Target, verdict
from serve_checked import Checked, questions
from serve_clients import Answered, Load, ServeError, drive
from serve_models import serve_gguf, serve_store
from serve_rows import figures_of, rows_of
from serve_vocabulary import Vocabulary
from serve_watch import Sample
from stream_models import small

import serve
from araio.config import ModelConfig
from araio.testing.shapes import lite
from araio.text.deepseek import CONTROL_TOKENS
from araio.text.tokenizer import Tokenizer

pytest.importorskip("araio.kernels._native")

needs_llama_server = pytest.mark.skipif(
    not llama_server.PROGRAM.exists(), reason=f"llama-server is not built: {llama_server.BUILD_COMMAND}"
)


def answered(begun: float, *arrivals: float, tokens: int = 0) -> Answered:
    return Answered(begun, arrivals, "", 10, tokens or len(arrivals))


# ---------------------------------------------------------------------- arithmetic


def test_waits_are_those_of_the_client() -> None:
    one = answered(1.0, 3.0, 3.5, 4.5)
    assert one.ttft == 2.0
    assert one.itl == [0.5, 1.0]
    assert one.tpot == pytest.approx(3.5 / 3)


def test_throughput_is_of_all_clients_together() -> None:
    figures = figures_of([answered(0.0, 1.0, 2.0), answered(1.0, 2.0, 4.0)])
    assert figures["output tokens"] == 1.0
    assert figures["total tokens"] == 6.0
    assert figures["TTFT"] == 1000
    assert figures["ITL"] == 1500


def test_a_ratio_above_one_is_better_in_speeds_and_in_waits() -> None:
    ours = [figures_of([answered(0.0, 1.0, 2.0)])]
    theirs = [figures_of([answered(0.0, 2.0, 4.0)])]
    rows = {row.name: row for row in rows_of(16, ours, theirs)}
    assert {row.ratio for row in rows.values()} == {2.0}
    assert set(serve.GOALS) - set(rows) == {"1 client: TTFT, ms"}
    assert "2.00x" in table([vars(row) for row in rows.values()])


def test_without_a_peer_there_are_no_ratios() -> None:
    rows = rows_of(1, [figures_of([answered(0.0, 1.0, 2.0)])], [])
    assert all(row.peer is None and row.ratio is None for row in rows)


def test_growth_is_what_is_more_at_rest_than_is_allowed() -> None:
    before = Sample(0, 100 << 20, 10, 8, 1, 0.0, 0, 0)
    busy = replace(before, rss=900 << 20, fds=90, cache=0.8)
    leaking = replace(before, rss=200 << 20, fds=12, threads=12)
    growth = {one.what: one for one in soak.grown(before, [before, busy, leaking], leaking)}
    assert {what for what, one in growth.items() if one.is_too_much} == {"rss", "threads"}
    assert growth["fds"].most == 90


def test_tracebacks_are_found_in_a_log() -> None:
    log = "ready\nTraceback (most recent call last):\n  one\nok\nTraceback (most recent call last):\n  two\n"
    assert [entry.split()[-1] for entry in soak.tracebacks(log)] == ["ok", "two"]
    assert soak.tracebacks("ready\n") == []


@pytest.mark.parametrize("outcome", [CLOSED, LEFT, 200, 400, 413, 431, 503])
def test_a_server_may_refuse_or_close(outcome) -> None:
    assert verdict(outcome)


@pytest.mark.parametrize("outcome", [500, 502, "TimeoutError: "])
def test_a_server_may_not_fail_nor_leave_a_connection_open(outcome) -> None:
    assert not verdict(outcome)


# ---------------------------------------------------------------------- models


@pytest.mark.parametrize("config", [lite(), small(), replace(small(), vocab_size=512)])
def test_every_id_is_a_token_of_its_own_and_the_ends_are_the_models(config) -> None:
    vocabulary = Vocabulary(config)
    assert len(vocabulary.ids) == config.vocab_size
    assert set(CONTROL_TOKENS) <= set(vocabulary.ids)
    assert vocabulary.begin == (config.bos_token_id or 0)
    assert vocabulary.end in (config.eos_token_id or (1,))
    assert not {vocabulary.begin, vocabulary.end} & set(vocabulary.ordinary)


def test_a_written_vocabulary_is_read_as_it_is(tmp_path) -> None:
    vocabulary = Vocabulary(small())
    vocabulary.write(tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (vocabulary.begin, vocabulary.end)
    assert tokenizer.decode(vocabulary.ordinary[-2:]) == "".join(
        vocabulary.pieces[place].replace("Ġ", " ") for place in vocabulary.ordinary[-2:]
    )
    assert tokenizer.decode(tokenizer.encode("the number é")) == "the number é"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The store and the GGUF of a model that is small enough for a test."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve_models, "r1_small", small)
        store = serve_store("small", folder)
        assert serve_store("small", folder) == store
        yield store, serve_gguf(store)


def test_both_files_have_the_same_tokens(models) -> None:
    store, gguf = models
    vocabulary = Vocabulary(ModelConfig.from_file(store))
    fields = GGUFReader(gguf).fields
    assert fields["tokenizer.ggml.tokens"].contents() == vocabulary.pieces
    assert fields["tokenizer.ggml.eos_token_id"].contents() == vocabulary.end


# ---------------------------------------------------------------------- servers


def load(model: tuple[Path, Path], clients: int, tokens: int = 3) -> Load:
    vocabulary = Vocabulary(ModelConfig.from_file(model[0]))
    prompts = [[[vocabulary.begin, *vocabulary.ordinary[at : at + 9]]] for at in range(clients)]
    return Load(prompts, tokens, [vocabulary.end])


@pytest.fixture(scope="module")
def server(models) -> Iterator[AraioServer]:
    with AraioServer(models[0], threads=1) as server:
        yield server


def test_every_client_gets_answers_of_the_length_that_it_asked_for(models, server) -> None:
    answers = drive(server.url, load(models, clients=3))
    assert [(one.prompt_tokens, one.tokens) for one in answers] == [(10, 3)] * 3
    assert all(one.begun < one.arrivals[0] <= one.arrivals[-1] for one in answers)


def test_a_request_that_is_refused_ends_the_benchmark(models, server) -> None:
    with pytest.raises(ServeError, match="answered with status 400"):
        drive(server.url, load(models, clients=2, tokens=10**6))


def test_a_server_that_ends_is_told_with_its_last_words() -> None:
    with pytest.raises(PeerError, match=r"^nothing ended with status 3: out of luck$"):
        ServerProcess("nothing", lambda port: [sys.executable, "-c", "print('out of luck'); exit(3)"])


def test_a_server_that_is_not_ready_in_time_is_ended() -> None:
    started = []

    def command(port: int) -> list[str]:
        started.append(port)
        return [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]

    with pytest.raises(PeerError, match="was not ready after 1 s"):
        ServerProcess("files", command, ready_s=1)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", started[0]))


def test_a_missing_llama_server_is_told_with_the_command_that_makes_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(llama_server, "PROGRAM", tmp_path / "nowhere")
    with pytest.raises(PeerError, match=r"is not built .* python benchmarks/build_peer\.py llama-server"):
        LlamaServer(tmp_path / "no.gguf", threads=1, slots=1, context=64)


@needs_llama_server
def test_both_servers_begin_alike(models, server) -> None:
    asked = load(models, clients=2)
    with LlamaServer(models[1], threads=1, slots=2, context=64) as peer:
        theirs = drive(peer.url, asked)
    assert [one.first for one in theirs] == [one.first for one in drive(server.url, asked)]


def test_a_whole_report_of_a_small_model(models) -> None:
    folder = models[0].parent
    chosen = {"model": "small", "clients": [1, 16], "prompt": 8, "tokens": 2, "requests": 1, "rounds": 1}
    report = serve.compare(Namespace(**chosen, threads=1, alone=True, folder=folder))
    names = {row["name"] for row in report["rows"]}
    assert set(serve.GOALS) <= names
    assert all(row["value"] > 0 for row in report["rows"])
    assert "against nobody" in serve.text(report)


# ---------------------------------------------------------------------- the soak


@pytest.fixture(scope="module")
def pocket() -> Iterator[AraioServer]:
    with AraioServer("pocket", threads=1, options=["--limit", "header_s=1", "--limit", "body_s=1"]) as server:
        yield server


@pytest.mark.parametrize("abuse", ABUSES, ids=lambda abuse: abuse.__name__)
def test_a_server_bears_it(abuse, pocket, monkeypatch) -> None:
    monkeypatch.setattr(serve_abuse, "REST_S", 0.05)
    address = urlsplit(pocket.url)
    target = Target(address.hostname, address.port, "nobody's")
    assert verdict(asyncio.run(abuse(target, random.Random(0))))
    assert httpx2.get(f"{pocket.url}/health", trust_env=False).status_code == 200


def test_a_wrong_answer_is_found_in_a_stream_and_in_one_piece(pocket) -> None:
    def ways(checked: Checked) -> set[bool]:
        return {" in a stream: " in line for line in checked.failures}

    async def ask() -> Checked:
        checked, over = Checked(), asyncio.Event()
        async with httpx2.AsyncClient(base_url=pocket.url, trust_env=False) as http:
            await checked.learn(http, questions(3))
            wrong = next(iter(checked.answers))
            checked.answers[wrong] += "!"
            task = asyncio.create_task(checked.client(http, 0, over))
            async with asyncio.timeout(60):
                while not checked.counts["right"] or len(ways(checked)) < 2:
                    await asyncio.sleep(0.01)
            over.set()
            await task
        return checked

    checked = asyncio.run(ask())
    assert all("WrongAnswerError" in line and "What is 3 + 8?" in line for line in checked.failures)
