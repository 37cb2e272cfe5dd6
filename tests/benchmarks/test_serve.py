"""The benchmarks of the server: their arithmetic, their vocabulary, their clients against a real server."""

import random
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import serve
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
from serve_checked import Checked, WrongAnswerError, questions
from serve_clients import Answered, Load, ServeError, drive
from serve_models import serve_gguf, serve_store
from serve_rows import figures_of, rows_of
from serve_vocabulary import Vocabulary
from serve_watch import Sample, WatchError
from stream_models import small

from araio.config import ModelConfig
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.testing.shapes import lite
from araio.text.deepseek import BOS, CONTROL_TOKENS, EOS
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
