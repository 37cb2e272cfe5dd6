"""The client of llama.cpp: clear errors without one, and where it is built, a tiny model that runs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from peers import llama_cpp
from peers.gguf_models import write_gguf
from peers.llama_cpp import LlamaCpp, PeerError

from araio.config import ModelConfig
from araio.testing.checkpoints import tiny_config

needs_llama_cpp = pytest.mark.skipif(
    not llama_cpp.COMPLETE.exists(), reason=f"llama.cpp is not built: {llama_cpp.BUILD_COMMAND}"
)
CONTEXT, VOCABULARY = 4096, 512


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    sizes = dict.fromkeys(("hidden_size", "kv_lora_rank", "q_lora_rank", "moe_intermediate_size"), 64)
    heads = {"qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 32}
    return tiny_config("v3", **sizes, **heads, vocab_size=VOCABULARY, max_position_embeddings=CONTEXT)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory, config: ModelConfig) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(config, "q4_0", path)
    return path


@pytest.fixture(scope="module")
def peer(gguf: Path) -> Iterator[LlamaCpp]:
    with LlamaCpp(gguf, threads=1) as peer:
        yield peer


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of llama.cpp's Python, for a test to write."""
    program = tmp_path / "python"
    monkeypatch.setattr(llama_cpp, "PYTHON", program)
    monkeypatch.setattr(llama_cpp, "COMPLETE", tmp_path)
    return program


MODEL = {"vocabulary": 1, "model_bytes": 1, "system": ""}


def write_program(path: Path, lines: str) -> None:
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{lines}\n")
    path.chmod(0o755)


def write_worker(path: Path, *answers: dict[str, object]) -> Path:
    """A program that gives these answers whatever it is asked; the file to which it copies the questions."""
    log = path.with_suffix(".log")
    loop = f"for answer, line in zip({[MODEL, *answers]}, sys.stdin):"
    write_program(
        path, f"{loop}\n open({str(log)!r}, 'a').write(line)\n print(json.dumps(answer), flush=True)"
    )
    return log


def test_a_missing_build_is_told_with_the_command_that_makes_it(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "COMPLETE", tmp_path / "nowhere")
    with pytest.raises(PeerError, match=r"is not built .* python benchmarks/build_peer\.py llama-cpp"):
        LlamaCpp(gguf, threads=1)


def test_a_missing_model_is_told_with_the_command_that_makes_it(tmp_path: Path, stand_in: Path) -> None:
    with pytest.raises(PeerError, match=r"no\.gguf is missing; run: python benchmarks/peers/gguf_models\.py"):
        LlamaCpp(tmp_path / "no.gguf", threads=1)


def test_a_model_larger_than_the_free_memory_is_not_loaded(
    gguf: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1))
    with pytest.raises(PeerError, match=r"tiny\.gguf needs 0\.0 GB of memory, and 0\.0 GB are free"):
        LlamaCpp(gguf, threads=1)


def test_a_process_that_ends_is_told_with_its_last_words(gguf: Path, stand_in: Path) -> None:
    write_program(stand_in, "sys.exit('out of luck')")
    with pytest.raises(PeerError, match="ended with status 1: out of luck"):
        LlamaCpp(gguf, threads=1)


def test_an_error_of_one_command_leaves_the_others(gguf: Path, stand_in: Path) -> None:
    write_worker(stand_in, {"error": "too long"}, {"seconds": 2.5})
    with LlamaCpp(gguf, threads=1) as peer:
        with pytest.raises(PeerError, match="too long"):
            peer.prefill(4)
        assert peer.prefill(4) == 2.5


def test_a_command_carries_the_threads_of_the_moment(gguf: Path, stand_in: Path) -> None:
    log = write_worker(stand_in, {"seconds": 1}, {"seconds": 1})
    with LlamaCpp(gguf, threads=1) as peer:
        peer.decode(3, context=5)
        peer.threads = 2
        peer.decode_together(sequences=4, tokens=3)
    assert log.read_text().splitlines() == [
        f'{{"gguf": "{gguf}"}}',
        '{"kind": "decode", "tokens": 3, "filled": 5, "threads": 1}',
        '{"kind": "decode", "tokens": 3, "sequences": 4, "threads": 2}',
    ]


def test_a_mapped_model_may_be_larger_than_memory_and_plays_what_it_is_given(
    gguf: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1))
    log = write_worker(stand_in, {"seconds": 1.5, "experts": [[[3, 1]]]})
    with LlamaCpp(gguf, threads=2, mapped=True) as peer:
        played = peer.play([7], fresh=True, watched=True)
    assert (played.seconds, played.experts, played.counters) == (1.5, [[[3, 1]]], {})
    asked = '"ids": [7], "fresh": true, "together": false, "watched": true, "threads": 2'
    assert log.read_text().splitlines() == [
        f'{{"gguf": "{gguf}", "mapped": true}}',
        f'{{"kind": "play", {asked}}}',
    ]


@needs_llama_cpp
def test_tokens_beyond_the_room_to_play_are_refused(peer: LlamaCpp) -> None:
    with pytest.raises(PeerError, match="room for 1024 tokens to play"):
        peer.play([1] * 1025, fresh=True)
    assert peer.play([1], fresh=True).seconds > 0


@needs_llama_cpp
def test_a_model_is_what_the_file_says(peer: LlamaCpp) -> None:
    assert peer.vocabulary == VOCABULARY
    assert "REPACK = 1" in peer.system


@needs_llama_cpp
def test_everything_can_be_timed(peer: LlamaCpp) -> None:
    runs = [
        peer.prefill(8),
        peer.decode(4),
        peer.decode(4, context=1),
        peer.decode(4, context=1000),
        peer.decode_together(sequences=3, tokens=2),
    ]
    assert all(0 < seconds < 60 for seconds in runs)


@needs_llama_cpp
def test_each_token_chooses_k_experts_in_each_layer(peer: LlamaCpp, config: ModelConfig) -> None:
    chosen = peer.experts(5)
    assert len(chosen) == 5
    assert {len(layers) for layers in chosen} == {len(config.moe_layers)}
    for experts in (experts for layers in chosen for experts in layers):
        assert len(set(experts)) == config.num_experts_per_tok
        assert set(experts) <= set(range(config.n_routed_experts))
    assert peer.experts(5) == chosen


@needs_llama_cpp
def test_a_context_that_the_model_does_not_have_is_refused_and_the_rest_works(peer: LlamaCpp) -> None:
    with pytest.raises(PeerError, match=f"longer than the {CONTEXT} tokens of this model's context"):
        peer.decode(1, context=CONTEXT)
    assert peer.decode(1) > 0


@needs_llama_cpp
def test_a_file_that_is_no_model_is_told_as_llama_cpp_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("no model")
    with pytest.raises(PeerError, match=r"(?s)expected 'GGUF'.*cannot load"):
        LlamaCpp(path, threads=1)
