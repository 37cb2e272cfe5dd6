"""Dense transformers by name, to compare with: parameters, bytes of cache, operations.

Grouped-query attention, a gated feed-forward network in every layer, no experts: enough of the architecture
of Llama, Qwen and DeepSeek's dense models for the counts that papers compare with. Biases and norms are left
out. `standard_training_flops` is the older formula that some papers use instead; the two do not agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from araio.costs.checks import require_at_least
from araio.costs.flops import OPERATIONS_PER_MULTIPLY_ADD, TRAINING_PASSES, Flops
from araio.errors import CostError
from araio.json_reader import shown

__all__ = ["DENSE_MODELS", "DenseModel", "find_dense_model", "standard_training_flops"]


@dataclass(frozen=True)
class DenseModel:
    """A dense transformer; the fields are the keys of its published `config.json`."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def active_parameters(self) -> int:
        """What a token is multiplied with: every matrix but the input embedding."""
        key_value_size = self.num_key_value_heads * self.head_dim
        attention = 2 * self.hidden_size * (self.hidden_size + key_value_size)
        layer = attention + 3 * self.hidden_size * self.intermediate_size
        return layer * self.num_hidden_layers + self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """With the input embedding."""
        return self.active_parameters + self.vocab_size * self.hidden_size

    def cache_bytes_per_token(self, bits: int = 16) -> int:
        """Keys and values of one token: `2 * kv_heads * head_dim * layers * bits / 8`."""
        return 2 * self.num_key_value_heads * self.head_dim * self.num_hidden_layers * bits // 8

    def decode_flops(self, context: int) -> Flops:
        """One token that attends to `context` positions, as `flops.decode_flops` counts."""
        require_at_least(1, context=context)
        operations = OPERATIONS_PER_MULTIPLY_ADD
        return Flops(operations * self.active_parameters, operations * self._pair * context)

    def training_flops(self, length: int) -> Flops:
        """One token of a training sequence, causal, as `flops.training_flops` counts."""
        require_at_least(1, length=length)
        forward = OPERATIONS_PER_MULTIPLY_ADD * self.active_parameters
        return Flops(TRAINING_PASSES * forward, TRAINING_PASSES * self._pair * (length + 1))

    def decode_bytes(self, batch: int, context: int, bits: int) -> float:
        """Bytes that a decoding step reads: every weight once, and the cache in bfloat16."""
        require_at_least(1, batch=batch, context=context, bits=bits)
        return self.active_parameters * bits / 8 + batch * context * self.cache_bytes_per_token()

    @property
    def _pair(self) -> int:
        """Multiply-adds of one query position with one cached position, in all heads and layers."""
        return 2 * self.hidden_size * self.num_hidden_layers


# In the order of the fields: width, feed-forward width, layers, heads, heads of keys and values, vocabulary.
DENSE_MODELS = {
    "qwen2.5-72b": DenseModel(8192, 29568, 80, 64, 8, 152_064),
    "llama-3.1-405b": DenseModel(16384, 53248, 126, 128, 8, 128_256),
    "llama-2-7b": DenseModel(4096, 11008, 32, 32, 32, 32_000),
    "deepseek-67b": DenseModel(8192, 22016, 95, 64, 8, 102_400),
    "deepseek-7b": DenseModel(4096, 11008, 30, 32, 32, 102_400),
}
"""Published configs, by name."""


def find_dense_model(name: str) -> DenseModel:
    """The dense model of that name; raises CostError with the names of all if there is none."""
    if name not in DENSE_MODELS:
        near = get_close_matches(name.lower(), DENSE_MODELS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise CostError(f"no dense model is called {shown(name)}; {hint}known: {', '.join(DENSE_MODELS)}")
    return DENSE_MODELS[name]


def standard_training_flops(
    layers: int, hidden_size: int, vocab_size: int, length: int = 0, feed_forwards: float = 1.0
) -> float:
    """Operations of one training token of a standard transformer: `72 L d^2 + 12 L d S + 6 V d`.

    It takes four matrices `d x d` for attention and `8 d^2` for the feed-forward network of every layer,
    whatever the model has, and all of the sequence for every token (Narayanan et al. 2021, arXiv 2104.04473,
    equation 3 without recomputation). "DeepSeekMoE" counts so (arXiv 2401.06066, section 5.2), and so do the
    dense rows of table 2 of "Insights into DeepSeek-V3" (arXiv 2505.09343), those without attention to S.

    length         S; 0 leaves attention between positions out
    feed_forwards  feed-forward networks of `8 d^2` that a token uses, in a mixture of experts
    """
    require_at_least(1, layers=layers, hidden_size=hidden_size, vocab_size=vocab_size)
    require_at_least(0, length=length)
    matrices = 6 * (4 + 8 * feed_forwards) * layers * hidden_size**2
    return matrices + 12 * layers * hidden_size * length + 6 * vocab_size * hidden_size
