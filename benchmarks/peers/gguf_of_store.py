"""A store in q4 as a GGUF file in Q4_0, number for number, so that llama.cpp computes what araio does.

Both formats keep 32 numbers as integers less 8 under one float16 scale, so a matrix is only put into another
order. The exception is the key half of `kv_b_proj`, which GGUF has transposed: scales that 32 rows share, as
those of `routed_weights.py`, still are scales then, and others are refused. Routers, norms and biases are
float32 in both.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter, TokenType
from serve_vocabulary import Vocabulary

from araio.codecs.integers import unpack_rows
from araio.config import ModelConfig
from araio.errors import AraioError
from araio.formats.layout import expert_of, main_tensors
from araio.formats.store import Store
from araio.tensors import BLOCK_COLUMNS, TILE_ROWS, Quantized, Weight
from araio.text.deepseek import CONTROL_TOKENS
from peers.gguf_models import EXPERT_NAMES, FINGERPRINT, Array, Tensor, renamed, write_gguf

__all__ = ["kept_gguf", "q4_0_blocks", "transposed", "write_gguf_of"]

KEYS, VALUES = "attn_k_b.weight", "attn_v_b.weight"


def kept_gguf(folder: Path, path: Path, vocabulary: Vocabulary | None = None) -> Path:
    """The file of a store, written if it is not there yet; raises AraioError if it is that of another."""
    config = ModelConfig.from_file(folder)
    with Store(folder, config) as store:
        if not path.exists():
            write_gguf_of(store, config, path, vocabulary)
        elif _fingerprint(path) != store.manifest.source:
            raise AraioError(f"{path} holds other weights than {folder}; delete it, and it is written anew")
    return path


def write_gguf_of(
    store: Store, config: ModelConfig, path: Path, vocabulary: Vocabulary | None = None
) -> None:
    """Write every weight of a store, and the tokens of a vocabulary.

    Raises AraioError where a number would change, or the disk is full.
    """
    sources = {
        name: published
        for published, shape in main_tensors(config)
        for name, _ in renamed(config, published, shape)
    }

    def fill(tensor: Tensor) -> Array:
        published = sources[tensor.name]
        if tensor.part in EXPERT_NAMES.values():
            layer, _, matrix = expert_of(published) or (0, 0, "")
            names = [
                f"model.layers.{layer}.mlp.experts.{expert}.{matrix}.weight"
                for expert in range(config.n_routed_experts)
            ]
            return np.concatenate([_stored(store.read_weight(name)) for name in names])
        weight = store.read_weight(published)
        if tensor.part in (KEYS, VALUES):
            return _half(weight, config, tensor.part)
        return _stored(weight)

    tokens = {} if vocabulary is None else {"describe_tokens": partial(_describe_tokens, vocabulary)}
    write_gguf(config, "q4_0", path, fill, store.manifest.source, **tokens)


def _describe_tokens(vocabulary: Vocabulary, writer: GGUFWriter) -> None:
    """The keys of a tokenizer; how text is cut before merging is as in DeepSeek-V3."""
    controls = set(CONTROL_TOKENS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("deepseek-v3")
    writer.add_token_list(vocabulary.pieces)
    writer.add_token_types(
        [TokenType.CONTROL if piece in controls else TokenType.NORMAL for piece in vocabulary.pieces]
    )
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.begin)
    writer.add_eos_token_id(vocabulary.end)
    writer.add_add_bos_token(False)  # prompts are ids, which have it


def q4_0_blocks(weight: Quantized) -> Array:
    """A q4 matrix (O, I) as Q4_0 blocks: (O, I / 32, 18) uint8, a scale and 16 bytes each."""
    tiles, blocks = weight.data.shape[:2]
    rows = weight.shape[0]
    codes = weight.data.reshape(tiles, blocks, 4, TILE_ROWS, 4).transpose(0, 3, 1, 2, 4)
    scales = weight.scale.transpose(0, 2, 1).astype("<f2")
    packed = np.empty((tiles * TILE_ROWS, blocks, 2 + BLOCK_COLUMNS // 2), np.uint8)
    packed[..., :2] = np.ascontiguousarray(scales).view(np.uint8).reshape(-1, blocks, 2)
    packed[..., 2:] = codes.reshape(-1, blocks, BLOCK_COLUMNS // 2)
    kept: Array = packed[:rows]
    return kept


def transposed(integers: Array, scales: Array) -> Array:
    """Q4_0 blocks (I, O / 32, 18) of the transpose of a matrix.

    integers  (O, I / 32, 32) int8
    scales    (O, I / 32) float32

    Raises AraioError where 32 rows do not share their scales.
    """
    rows, blocks, _ = integers.shape
    by_band = scales.reshape(rows // BLOCK_COLUMNS, BLOCK_COLUMNS, blocks)
    if (by_band != by_band[:, :1]).any():
        raise AraioError("a matrix whose rows have scales of their own cannot be transposed without a loss")
    columns_first = (integers + 8).astype(np.uint8).reshape(rows, -1).T  # (I, O)
    codes = columns_first.reshape(-1, rows // BLOCK_COLUMNS, BLOCK_COLUMNS)
    half = BLOCK_COLUMNS // 2
    packed: Array = np.empty((*codes.shape[:2], 2 + half), np.uint8)
    of_columns = by_band[:, 0].T.repeat(BLOCK_COLUMNS, axis=0).astype("<f2")  # (I, O / 32)
    packed[..., :2] = np.ascontiguousarray(of_columns).view(np.uint8).reshape(*codes.shape[:2], 2)
    packed[..., 2:] = codes[..., :half] | codes[..., half:] << 4
    return packed


def _half(weight: Weight, config: ModelConfig, part: str) -> Array:
    """The keys or the values of all heads; each head has its keys first."""
    assert isinstance(weight, Quantized)
    keys, values = config.qk_nope_head_dim, config.v_head_dim
    heads = np.arange(config.num_attention_heads)[:, None] * (keys + values)
    if part == VALUES:
        blocks: Array = q4_0_blocks(weight)[(heads + keys + np.arange(values)).ravel()]
        return blocks
    return np.concatenate([transposed(*unpack_rows(weight, head + np.arange(keys))) for head in heads])


def _stored(weight: Weight) -> Array:
    if isinstance(weight, Quantized):
        return q4_0_blocks(weight)
    assert isinstance(weight, np.ndarray)
    return weight


def _fingerprint(path: Path) -> str | None:
    field = GGUFReader(path).fields.get(FINGERPRINT)
    return None if field is None else str(field.contents())
