"""A store as a GGUF: every number the same, and every choice of an expert where llama.cpp is built."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from peers import llama_cpp
from peers.gguf_of_store import kept_gguf, q4_0_blocks, transposed
from peers.llama_cpp import LlamaCpp
from random_store import kept_store
from routed_weights import RoutedWeights, Text, fitted_to
from stream_models import small
from stream_turns import agreement

from araio.codecs import codec
from araio.codecs.integers import unpack_rows
from araio.errors import AraioError
from araio.formats.store import Store
from araio.testing.routes import UNIFORM

Q4_0 = GGMLQuantizationType.Q4_0
q4 = codec("q4")


@pytest.fixture(scope="module")
def weights() -> RoutedWeights:
    config = replace(small(), vocab_size=256, n_routed_experts=8, num_experts_per_tok=2, num_hidden_layers=3)
    return RoutedWeights(config, [Text("uniform", fitted_to(config, UNIFORM), 64, 0)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, weights: RoutedWeights) -> Path:
    return kept_store(weights, tmp_path_factory.mktemp("models") / "store")


@pytest.fixture(scope="module")
def gguf(store: Path) -> Path:
    return kept_gguf(store, store.with_suffix(".gguf"))


@pytest.mark.parametrize("rows", [48, 50])
def test_blocks_are_worth_what_the_matrix_is(rows: int) -> None:
    matrix = np.random.default_rng(rows).standard_normal((rows, 96), np.float32)
    weight = q4.encode(matrix)
    assert np.array_equal(dequantize(q4_0_blocks(weight).reshape(rows, -1), Q4_0), q4.decode(weight))


def test_a_transpose_is_worth_the_transpose(weights) -> None:
    weight = weights.read_weight("model.layers.1.self_attn.kv_b_proj.weight")
    blocks = transposed(*unpack_rows(weight, np.arange(64)))
    assert np.array_equal(dequantize(blocks.reshape(64, -1), Q4_0), q4.decode(weight)[:64].T)


def test_a_transpose_that_would_lose_numbers_is_refused() -> None:
    weight = q4.encode(np.random.default_rng(0).standard_normal((64, 64), np.float32))
    with pytest.raises(AraioError, match="cannot be transposed without a loss"):
        transposed(*unpack_rows(weight, np.arange(64)))


def test_every_tensor_is_that_of_the_store(weights, store, gguf) -> None:
    tensors = {one.name: dequantize(one.data, one.tensor_type) for one in GGUFReader(gguf).tensors}
    config = weights.config
    heads, keys = config.num_attention_heads, config.qk_nope_head_dim
    with Store(store, config) as opened:

        def worth(name: str) -> np.ndarray:
            weight = opened.read_weight(name)
            return opened.codec(name).decode(weight)

        assert np.array_equal(tensors["token_embd.weight"], worth("model.embed_tokens.weight"))
        assert np.array_equal(tensors["blk.1.ffn_gate_inp.weight"], worth("model.layers.1.mlp.gate.weight"))
        assert np.array_equal(tensors["output_norm.weight"], worth("model.norm.weight"))
        for expert in range(config.n_routed_experts):
            name = f"model.layers.2.mlp.experts.{expert}.up_proj.weight"
            assert np.array_equal(tensors["blk.2.ffn_up_exps.weight"][expert], worth(name))
        both = worth("model.layers.2.self_attn.kv_b_proj.weight").reshape(heads, -1, config.kv_lora_rank)
        assert np.array_equal(tensors["blk.2.attn_k_b.weight"], both[:, :keys].transpose(0, 2, 1))
        assert np.array_equal(tensors["blk.2.attn_v_b.weight"], both[:, keys:])


def test_the_file_of_another_store_is_refused(tmp_path, weights, gguf) -> None:
    other = kept_store(RoutedWeights(weights.config, weights.texts, seed=1), tmp_path / "other")
    with pytest.raises(AraioError, match="holds other weights than"):
        kept_gguf(other, gguf)


@pytest.mark.skipif(not llama_cpp.COMPLETE.exists(), reason="llama.cpp is not built")
def test_llama_cpp_chooses_the_same_experts(weights, gguf) -> None:
    ids = weights.ids("uniform")[:24].tolist()
    with LlamaCpp(gguf, threads=1, mapped=True) as peer:
        first = peer.play(ids[:16], fresh=True, watched=True).experts
        rest = peer.play(ids[16:], fresh=False, watched=True).experts
        assert peer.play(ids, fresh=True, together=True).seconds > 0
    routes = np.array(first + rest)
    assert agreement(routes, weights.intended("uniform", slice(24))) > 0.9
