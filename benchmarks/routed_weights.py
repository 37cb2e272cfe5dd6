"""Weights in q4 that route as a text would: `RoutedWeights`, for models that exist only to be timed.

How fast experts are streamed depends on which are chosen when. Random weights choose nearly at random; here
the choices follow `araio.testing.routes`, in any engine that is given the same numbers. Every position of a
synthetic text has a token id of its own, so feeding the ids in a row plays the text:

    embedding  = P latents + rest          large against all that the layers add to it
    router row = P router  + noise part    so its product with the embedding is the recipe's score

P is orthonormal, each text has columns of its own, and the rest is orthogonal to them; what the rest and the
noise part have in common is the recipe's noise. A norm scales all scores of a token alike and changes no
choice. All other matrices are random bits, of which a disk can keep none back. Blocks of 32 rows and columns
share a scale, so a matrix can be transposed without a loss: llama.cpp wants one so. Read `random_store.py`
for the files.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from araio.codecs import codec
from araio.codecs.integers import decode_rows
from araio.config import ModelConfig
from araio.errors import AraioError
from araio.formats.layout import expected_tensors
from araio.formats.store_layout import StoreCodecs
from araio.tensors import BLOCK_COLUMNS, TILE_ROWS, Float32Array, Quantized, Weight
from araio.testing.routes import Recipe, SyntheticRoutes

__all__ = ["CODECS", "RoutedWeights", "Text", "random_q4"]

CODECS = StoreCodecs("q4", "q4", "q4")
EMBEDDING = "model.embed_tokens.weight"
EMBEDDING_RMS = 64.0  # all layers of R1 together add 7
SIGN_ROWS = 32  # rows that share the sign of their scales, as many as columns do
REST_ENERGY = 3.0  # of the rest of an embedding, in energies of the latents
Q4_RMS = 4.637  # root mean square of random integers in -8..7
PIECE_NUMBERS = 1 << 24  # of a matrix at a time


@dataclass(frozen=True)
class Text:
    """A synthetic text of a model.

    seed  of the text; the same text and seed give the same routes
    """

    name: str
    recipe: Recipe
    tokens: int
    seed: int


class RoutedWeights:
    """A source of weights, tensor by tensor, each a function of the seed and its name.

    texts  their tokens have the first ids of the vocabulary, text after text
    made   the routes of each

    Raises AraioError where a model and a text do not fit.
    """

    def __init__(self, config: ModelConfig, texts: Sequence[Text], seed: int = 0) -> None:
        self.config = config
        self.texts = tuple(texts)
        self.seed = seed
        self._shapes = expected_tensors(config)
        for text in texts:
            _check(config, text)
        if len({text.recipe.noise for text in texts}) != 1:
            raise AraioError("texts of one model share its noise; give one or more, all with the same")
        if sum(text.tokens for text in texts) > config.vocab_size:
            raise AraioError(f"the texts have more tokens than a vocabulary of {config.vocab_size}")
        self.made: tuple[SyntheticRoutes, ...] = tuple(
            text.recipe.make(text.tokens, text.seed) for text in texts
        )

    @property
    def fingerprint(self) -> str:
        """What tells these weights from others: a SHA-256 in hexadecimal."""
        told = [self.config.to_dict(), [asdict(text) for text in self.texts], self.seed, EMBEDDING_RMS]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def ids(self, text: str) -> NDArray[np.int64]:
        """The token ids of a text, position by position."""
        at = [other.name for other in self.texts].index(text)
        begin = sum(other.tokens for other in self.texts[:at])
        return np.arange(begin, begin + self.texts[at].tokens)

    def read_weight(self, name: str) -> Weight:
        """The tensor `name`, new at every call."""
        shape = self._shapes[name]
        wanted = CODECS.of(name, shape, (128, 128))
        pieces = list(self.pieces(name))
        arrays = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        weight: Weight = wanted.assemble(arrays, shape)
        return weight

    def intended(self, text: str, positions: slice) -> NDArray[np.int64]:
        """The experts (T, L, K) of tokens by their embeddings alone, as if layers added nothing.

        They differ from the recipe's own by what its noise decides. Of ungrouped routers only.
        """
        assert self.config.n_group == 1
        table = self.read_weight(EMBEDDING)
        assert isinstance(table, Quantized)
        embedded = decode_rows(table, self.ids(text)[positions])
        routers = [
            self.read_weight(f"model.layers.{layer}.mlp.gate.weight") for layer in self.config.moe_layers
        ]
        scores = np.stack([embedded @ np.asarray(router).T for router in routers], axis=1)
        return np.argsort(-scores, axis=2)[:, :, : self.config.num_experts_per_tok]

    def pieces(self, name: str) -> Iterator[Sequence[NDArray[Any]]]:
        """The stored arrays of a tensor, some rows at a time."""
        shape = self._shapes[name]
        if len(shape) == 1:
            yield [np.zeros(shape, np.float32) if name.endswith("bias") else np.ones(shape, np.float32)]
        elif name.endswith(".mlp.gate.weight"):
            yield [self._router(int(name.split(".")[2]), self._rng(name))]
        else:
            yield from self._matrix(name, shape)

    # ------------------------------------------------------------------ drawing

    def _rng(self, *key: str | int) -> np.random.Generator:
        words = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in key]
        return np.random.Generator(np.random.SFC64([self.seed, *words]))

    def _matrix(self, name: str, shape: tuple[int, ...]) -> Iterator[Sequence[NDArray[Any]]]:
        rows, columns = shape
        begin, rms = 0, columns**-0.5
        if name == EMBEDDING:
            rms = EMBEDDING_RMS
            for embedded in self._embeddings():
                weight = codec("q4").encode(embedded)
                yield weight.data, weight.scale
                begin += len(embedded)
        step = max(1, PIECE_NUMBERS // (columns * SIGN_ROWS)) * SIGN_ROWS
        for start in range(begin, rows, step):
            weight = random_q4((min(step, rows - start), columns), rms, self._rng(name, start))
            yield weight.data, weight.scale

    def _embeddings(self) -> Iterator[Float32Array]:
        """The rows of all texts, filled up to whole bands of 32 with rows of no text."""
        dim = self.config.hidden_size
        for at, (text, made) in enumerate(zip(self.texts, self.made, strict=True)):
            rest = self._rng(EMBEDDING, "rest", at).standard_normal((text.tokens, dim), dtype=np.float32)
            rows = self._rest_scale * _norms(made)[:, None] * _without(self._all_columns, rest)
            rows += made.latents @ self._columns[at].T
            rows *= EMBEDDING_RMS / np.sqrt(np.mean(rows**2, axis=1, keepdims=True))
            yield rows

    def _router(self, layer: int, rng: np.random.Generator) -> Float32Array:
        """The router of a layer (E, D), in units that make logits of a recipe's scores."""
        dim, experts = self.config.hidden_size, self.config.n_routed_experts
        noise_part = _without(self._all_columns, rng.standard_normal((experts, dim), dtype=np.float32))
        noise = self.texts[0].recipe.noise
        rows = noise_part * np.float32(noise / (self._rest_scale * math.sqrt(dim)))
        place = self.config.moe_layers.index(layer)
        for made, columns in zip(self.made, self._columns, strict=True):
            rows += made.routers[place] @ columns.T
        # A normalised embedding has the latents times this.
        shrunk = math.sqrt(dim / (self._latent_energy * (1 + REST_ENERGY)))
        return rows / np.float32(shrunk)

    # ------------------------------------------------------------------ where latents lie

    @cached_property
    def _all_columns(self) -> Float32Array:
        """P of every text (D, R of all), orthonormal."""
        dim, total = self.config.hidden_size, sum(made.latents.shape[1] for made in self.made)
        if total > dim // 2:
            raise AraioError(
                f"{total} latent numbers do not fit into a hidden size of {dim}; take fewer texts"
            )
        drawn = self._rng("columns").standard_normal((dim, total), dtype=np.float32)
        orthonormal: Float32Array = np.linalg.qr(drawn)[0].astype(np.float32)
        return orthonormal

    @cached_property
    def _columns(self) -> list[Float32Array]:
        """P of each text (D, R); one without latent numbers has R = 0."""
        ends = np.cumsum([made.latents.shape[1] for made in self.made])
        return np.split(self._all_columns, ends[:-1], axis=1)

    @cached_property
    def _latent_energy(self) -> float:
        """Of a token's latents, the mean over all texts that have them."""
        energies = [np.mean(np.sum(made.latents**2, axis=1)) for made in self.made if made.latents.size]
        return float(np.mean(energies)) if energies else 1.0

    @cached_property
    def _rest_scale(self) -> np.float32:
        """Standard deviation of a number of the rest, for a norm of 1."""
        return np.float32(math.sqrt(REST_ENERGY * self._latent_energy / self.config.hidden_size))


def random_q4(shape: tuple[int, int], rms: float, rng: np.random.Generator) -> Quantized:
    """Random integers under scales of random sign, the same for bands of 32 rows: no mean, and `rms`."""
    rows, columns = shape
    tiles, blocks = -(-rows // TILE_ROWS), -(-columns // BLOCK_COLUMNS)
    if rows % TILE_ROWS or columns % BLOCK_COLUMNS:
        raise AraioError(
            f"a random matrix of {rows} x {columns} has no whole tiles of 16 rows and 32 columns"
        )
    size = tiles * blocks * TILE_ROWS * BLOCK_COLUMNS // 2
    data = rng.integers(0, 1 << 64, size // 8, np.uint64).view(np.uint8)
    bands = -(-rows // SIGN_ROWS)
    signs = (1 - 2 * rng.integers(0, 2, (bands, blocks), np.int8)).repeat(SIGN_ROWS // TILE_ROWS, axis=0)[
        :tiles
    ]
    scale = (np.float16(rms / Q4_RMS) * signs.astype(np.float16))[:, :, None].repeat(TILE_ROWS, axis=2)
    return Quantized(data.reshape(tiles, blocks, -1), np.ascontiguousarray(scale), shape, 4)


def _check(config: ModelConfig, text: Text) -> None:
    recipe = text.recipe
    found = recipe.layers, recipe.experts, recipe.chosen
    wanted = len(config.moe_layers), config.n_routed_experts, config.num_experts_per_tok
    if found != wanted:
        raise AraioError(f"text {text.name!r} has (layers, experts, chosen) {found}; the model has {wanted}")
    if text.tokens % SIGN_ROWS:
        raise AraioError(f"text {text.name!r} has {text.tokens} tokens; take a multiple of {SIGN_ROWS}")


def fitted_to(config: ModelConfig, recipe: Recipe) -> Recipe:
    """The recipe for as many layers and experts as a model has."""
    return replace(
        recipe,
        layers=len(config.moe_layers),
        experts=config.n_routed_experts,
        chosen=config.num_experts_per_tok,
    )


def _norms(made: SyntheticRoutes) -> Float32Array:
    """The norm of the mixture that all layers but the first few read; the noise is in its units."""
    if not made.latents.size:
        return np.ones(len(made.latents), np.float32)
    return made.latents[:, -1]


def _without(columns: Float32Array, rows: Float32Array) -> Float32Array:
    """Rows (n, D) less what lies in the span of orthonormal columns (D, R)."""
    return np.asarray(rows - (rows @ columns) @ columns.T, np.float32)
