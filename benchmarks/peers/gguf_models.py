"""GGUF files of any `ModelConfig` with random weights, so that llama.cpp computes the same shape as araio.

    .venv/bin/python benchmarks/peers/gguf_models.py lite q4_0
    .venv/bin/python benchmarks/peers/gguf_models.py r1-slice q4_k --folder FOLDER

How fast a token is computed does not depend on what the weights are, with one exception: which experts it
chooses. Trained models spread their choices; random weights do so only if a token's hidden state stays its
own from layer to layer. So no matrix has a mean, which would add the same vector to every token: blocks of
random bits have scales of random sign. The embedding outweighs all that the layers add to it. And the rows of
a router have equal norm. `LlamaCpp.experts` shows what is chosen.

A file is written tensor by tensor, the largest of 2.1 GB. Read `llama_cpp.py` next for what runs it.
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gguf import GGML_QUANT_SIZES, ExpertGatingFuncType, GGUFWriter, LlamaFileType, RopeScalingType
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from araio.config import ModelConfig, RopeScaling
from araio.errors import AraioError
from araio.formats.layout import expert_of, main_tensors
from araio.testing.shapes import SHAPES

FOLDER = Path.home() / ".cache" / "araio" / "bench"
SEED = 0

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Quantisation:
    """How the matrices of a file are stored.

    kind       if their rows are made of whole blocks
    narrow     if not: as many bits a weight, in smaller blocks
    file_type  what the file says of itself
    """

    kind: Kind
    narrow: Kind
    file_type: LlamaFileType


QUANTISATIONS = {
    "q4_0": Quantisation(Kind.Q4_0, Kind.Q4_0, LlamaFileType.MOSTLY_Q4_0),
    "q8_0": Quantisation(Kind.Q8_0, Kind.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_k": Quantisation(Kind.Q4_K, Kind.Q4_0, LlamaFileType.MOSTLY_Q4_K_M),
}

EMBEDDING, ROUTER = "token_embd.weight", "ffn_gate_inp.weight"
NAMES = {
    "model.embed_tokens.weight": EMBEDDING,
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.q_a_proj.weight": "attn_q_a.weight",
    "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
    "self_attn.q_b_proj.weight": "attn_q_b.weight",
    "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate.weight": ROUTER,
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp.weight",
    "mlp.shared_experts.up_proj.weight": "ffn_up_shexp.weight",
    "mlp.shared_experts.down_proj.weight": "ffn_down_shexp.weight",
}
EXPERT_NAMES = {
    "gate_proj": "ffn_gate_exps.weight",
    "up_proj": "ffn_up_exps.weight",
    "down_proj": "ffn_down_exps.weight",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("quantisation", choices=QUANTISATIONS)
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where the file goes (default {FOLDER})")
    arguments = parser.parse_args()
    try:
        path = gguf_file(arguments.shape, arguments.quantisation, arguments.folder)
    except AraioError as error:
        parser.error(str(error))
    read = active_bytes(SHAPES[arguments.shape](), arguments.quantisation)
    print(f"{path}: {path.stat().st_size / 1e9:.2f} GB, of which a token reads {read / 1e9:.4f} GB")


def gguf_file(shape: str, quantisation: str, folder: Path = FOLDER) -> Path:
    """The file of a shape of `araio.testing.shapes`; written if it is not there yet."""
    path = folder / f"{shape}-{quantisation}.gguf"
    if not path.exists():
        write_gguf(SHAPES[shape](), quantisation, path)
    return path


# ---------------------------------------------------------------------- what is in a file


@dataclass(frozen=True)
class Tensor:
    """A tensor by its name in the file; the last axis of `shape` is the one that is summed over."""

    name: str
    shape: tuple[int, ...]
    kind: Kind

    @property
    def part(self) -> str:
        """The name without its layer."""
        return self.name.split(".", 2)[-1] if self.name.startswith("blk.") else self.name

    @property
    def nbytes(self) -> int:
        weights, size = GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // weights * size


def tensors(config: ModelConfig, quantisation: str) -> Iterator[Tensor]:
    """Every tensor of the main model."""
    stored = QUANTISATIONS[quantisation]
    for published, shape in main_tensors(config):
        for name, as_stored in renamed(config, published, shape):
            if len(as_stored) == 1 or name.endswith(ROUTER):
                kind = Kind.F32
            else:
                kind = stored.narrow if as_stored[-1] % GGML_QUANT_SIZES[stored.kind][0] else stored.kind
            yield Tensor(name, as_stored, kind)


def active_bytes(config: ModelConfig, quantisation: str) -> int:
    """Bytes of weights that one decoded token reads: no embedding, and of the experts only those it uses."""
    read = 0
    for tensor in tensors(config, quantisation):
        if tensor.part in EXPERT_NAMES.values():
            read += tensor.nbytes * config.num_experts_per_tok // config.n_routed_experts
        elif tensor.part != EMBEDDING:
            read += tensor.nbytes
    return read


def renamed(
    config: ModelConfig, published: str, shape: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What a published tensor is called in GGUF: one tensor, two halves, or a share of all experts."""
    if published in NAMES:
        yield NAMES[published], shape
        return
    _, _, layer, part = published.split(".", 3)
    expert = expert_of(published)
    if expert is not None:
        _, index, matrix = expert
        if index == 0:  # the experts of a layer lie in one tensor
            yield f"blk.{layer}.{EXPERT_NAMES[matrix]}", (config.n_routed_experts, *shape)
    elif part == "self_attn.kv_b_proj.weight":
        # Absorbed attention multiplies by the key half transposed, and by the value half on its own.
        heads, latent = config.num_attention_heads, config.kv_lora_rank
        yield f"blk.{layer}.attn_k_b.weight", (heads, latent, config.qk_nope_head_dim)
        yield f"blk.{layer}.attn_v_b.weight", (heads, config.v_head_dim, latent)
    else:
        yield f"blk.{layer}.{LAYER_NAMES[part]}", shape


# ---------------------------------------------------------------------- writing

Fill: TypeAlias = Callable[[Tensor], Array]
Describe: TypeAlias = Callable[[GGUFWriter], None]
FINGERPRINT = "araio.fingerprint"


def write_gguf(
    config: ModelConfig,
    quantisation: str,
    path: Path,
    fill: Fill | None = None,
    fingerprint: str = "",
    describe_tokens: Describe = lambda writer: writer.add_tokenizer_model("none"),
) -> None:
    """Write weights of `config`; the file appears under its name when it is complete.

    fill             gives the data of each tensor; random ones if None
    fingerprint      of the weights, which the file keeps under `FINGERPRINT`
    describe_tokens  adds the keys of a tokenizer; without one, only ids go in and out

    Raises AraioError if the disk has too little space.
    """
    wanted = list(tensors(config, quantisation))
    path.parent.mkdir(parents=True, exist_ok=True)
    needed, free = sum(tensor.nbytes for tensor in wanted), shutil.disk_usage(path.parent).free
    if needed > free:
        raise AraioError(
            f"{path} needs {needed / 1e9:.1f} GB, and its disk has {free / 1e9:.1f} GB left; give another "
            "--folder or delete files there"
        )
    unfinished = path.with_suffix(".part")
    writer = GGUFWriter(unfinished, "deepseek2")
    _describe(writer, config, QUANTISATIONS[quantisation].file_type)
    describe_tokens(writer)
    if fingerprint:
        writer.add_string(FINGERPRINT, fingerprint)
    for tensor in wanted:
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.Generator(np.random.SFC64(SEED))
    for tensor in wanted:
        writer.write_tensor_data(_random(tensor, rng) if fill is None else fill(tensor))
    writer.close()
    unfinished.rename(path)


def _describe(writer: GGUFWriter, config: ModelConfig, file_type: LlamaFileType) -> None:
    """The keys from which llama.cpp builds its `deepseek2`."""
    writer.add_file_type(file_type)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    # Absorbed attention has one key and value head, the latent; the `_mla` keys describe an expanded head.
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(1)
    writer.add_key_length(config.latent_dim)
    writer.add_value_length(config.kv_lora_rank)
    writer.add_key_length_mla(config.qk_head_dim)
    writer.add_value_length_mla(config.v_head_dim)
    writer.add_kv_lora_rank(config.kv_lora_rank)
    if config.q_lora_rank is not None:
        writer.add_q_lora_rank(config.q_lora_rank)
    writer.add_rope_dimension_count(config.qk_rope_head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    if config.rope_scaling is not None:
        _describe_yarn(writer, config.rope_scaling)
    writer.add_expert_count(config.n_routed_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_gating_func(ExpertGatingFuncType[config.scoring_func.upper()])
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_group_count(config.n_group)
    writer.add_expert_group_used_count(config.topk_group)


def _describe_yarn(writer: GGUFWriter, scaling: RopeScaling) -> None:
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(scaling.factor)
    writer.add_rope_scaling_orig_ctx_len(scaling.original_max_position_embeddings)
    writer.add_rope_scaling_yarn_log_mul(
        0.1 * scaling.mscale_all_dim
    )  # the factor of YaRN's formula included


# ---------------------------------------------------------------------- random weights

EMBEDDING_RMS = 8.0  # the layers of a model add about 0.6 each, part of it the same for all tokens
# Root mean square of what a block's bits stand for at a scale of 1: q - 8, an int8, and 16 * (q - 7.5).
RMS = {Kind.Q4_0: 4.637, Kind.Q8_0: 73.9, Kind.Q4_K: 73.8}
# Eight scales and eight minima of 16, six bits each, in the order of ggml's `block_q4_K`.
Q4_K_SCALES = np.array([80] * 8 + [0] * 4, np.uint8)
Q4_K_MEAN = 7.5


def _random(tensor: Tensor, rng: np.random.Generator) -> Array:
    """Values that keep activations near 1: the squares of a row add up to 1; the embedding's are larger."""
    if tensor.kind != Kind.F32:
        rms = EMBEDDING_RMS if tensor.name == EMBEDDING else tensor.shape[-1] ** -0.5
        return random_blocks(tensor.kind, math.prod(tensor.shape), rms, rng)
    if tensor.part == ROUTER:
        rows: Array = rng.standard_normal(tensor.shape, np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows
    return (
        np.zeros(tensor.shape, np.float32)
        if tensor.name.endswith("bias")
        else np.ones(tensor.shape, np.float32)
    )


def random_blocks(kind: Kind, weights: int, rms: float, rng: np.random.Generator) -> Array:
    """Random bits under scales of random sign: no mean, and the root mean square asked for.

    returns  (blocks, bytes of a block) uint8, as they lie in the file
    """
    weights_per_block, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = weights // weights_per_block
    words = rng.integers(0, 1 << 64, -(-blocks * block_bytes // 8), np.uint64)
    data = words.view(np.uint8)[: blocks * block_bytes].reshape(blocks, block_bytes)
    sign = 1 - 2 * rng.integers(0, 2, blocks, np.int8)
    scale = np.float16(rms / RMS[kind]) * sign.astype("<f2")
    data[:, :2] = _bytes_of(scale)
    if kind == Kind.Q4_K:
        data[:, 2:4] = _bytes_of(np.float16(Q4_K_MEAN) * scale)
        data[:, 4:16] = Q4_K_SCALES
    return data


def _bytes_of(halves: Array) -> Array:
    """(n,) float16 as (n, 2) bytes."""
    return halves.view(np.uint8).reshape(-1, 2)


if __name__ == "__main__":
    main()
