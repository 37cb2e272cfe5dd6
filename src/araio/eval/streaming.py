"""What streaming does: `measure_streaming` decodes under a budget and says where every expert came from.

    prompt    a text of its own, in chunks, as the engine runs it
    decoding  greedily, in rounds; between them the disk is measured on the model's own files
    optimum   the fewest reads that any policy could have done with, on the routes that were recorded
    memory    the same tokens with every expert in memory, where the machine has room for that

The run begins with empty memory: what an earlier one left behind is neither read nor changed. A model without
tokenizer is given random tokens. Read `ceiling.py` for the disk and `weights/simulate.py` for the optimum.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

import araio
from araio.config import ModelConfig
from araio.engine.request import check_ids
from araio.errors import RequestError
from araio.eval.ceiling import DiskCeiling
from araio.kernels.ops import Int64Array, Ops
from araio.kernels.select import select
from araio.nn.batch import Routes, Segment
from araio.nn.kv_cache import LatentCache
from araio.nn.model import Model
from araio.tensors import Float32Array
from araio.testing.machine import describe_processor
from araio.testing.turns import OnTurn
from araio.text.tokenizer import Tokenizer
from araio.weights.budget import Budget
from araio.weights.counters import StreamCounters
from araio.weights.expert_files import expert_files
from araio.weights.load import Loaded, Memory, open_checked, open_model
from araio.weights.locate import locate
from araio.weights.machine_memory import machine_memory
from araio.weights.residency import StreamedExperts
from araio.weights.simulate import belady

__all__ = ["StreamReport", "StreamedToken", "measure_streaming"]

TOKENS, PROMPT = 64, 128
ROUNDS = 4
MIB = 1 << 20

TEXT = """\
A mixture of experts is a network of many small networks and a router. For every token it chooses a few of
them, and only those are computed; so a model may know much more than it can afford to think about at once.
What does that mean for a machine whose memory is smaller than the model? Most of the experts must wait on a
disk, and each one that is chosen while it is not in memory has to be read before the token can go on. If the
next tokens choose the same experts, little is read; if they choose others, the disk decides how fast text
appears. Let us go through it step by step, with numbers: first how many bytes one expert takes, then how many
of them a token needs in all layers together, and last how often those that are needed are already there.
""".replace("\n", " ")


@dataclass(frozen=True)
class StreamedToken:
    """One decoded token.

    seconds  up to the choice of the next one
    counts   what became of its experts
    missed   experts of each routed layer whose reads began when they were needed
    optimum  experts of each routed layer that the optimum would have had to read
    """

    seconds: float
    counts: StreamCounters
    missed: tuple[int, ...]
    optimum: tuple[int, ...]


@dataclass(frozen=True)
class StreamReport:
    """What was measured, of what, and where.

    budget        what each part of the model may take
    experts       of all layers
    record_bytes  of one of them
    layers        that have experts
    reading       how experts are read, in a few words
    prompt_read   bytes that were read for the prompt
    round_tokens  tokens of each round
    ceiling       bytes per second of the disk, before and after each round
    used_bytes    memory that the process takes after the last round
    lent          places for experts that were given up, for others on the machine needed their memory
    in_memory_s   seconds of the same tokens with every expert in memory; None where there is no room for that
    """

    model: str
    kernels: str
    threads: int | None
    machine: dict[str, Any]
    budget: Budget
    experts: int
    record_bytes: int
    layers: tuple[int, ...]
    reading: str
    prompt_tokens: int
    prompt_s: float
    prompt_read: int
    tokens: tuple[StreamedToken, ...]
    counts: StreamCounters
    round_tokens: tuple[int, ...]
    ceiling: tuple[float, ...]
    used_bytes: int
    lent: int
    in_memory_s: float | None = field(default=None)

    @property
    def held(self) -> int:
        """Experts that fit into memory at a time."""
        return min(self.budget.slots or 0, self.experts)

    @property
    def seconds(self) -> float:
        """Of all decoded tokens."""
        return sum(token.seconds for token in self.tokens)

    @property
    def tok_per_s(self) -> float:
        """Of decoding, over all tokens."""
        return len(self.tokens) / self.seconds

    @property
    def round_speeds(self) -> list[float]:
        """Tokens per second of each round."""
        speeds, begin = [], 0
        for size in self.round_tokens:
            speeds.append(size / sum(token.seconds for token in self.tokens[begin : begin + size]))
            begin += size
        return speeds

    @property
    def prompt_tok_per_s(self) -> float:
        return self.prompt_tokens / self.prompt_s

    @property
    def ceiling_bytes_per_s(self) -> float:
        """That the disk gives at best; the median of the samples."""
        return median(self.ceiling)

    @property
    def busy_bytes_per_s(self) -> float:
        """While at least one read was running; 0 where nothing was read."""
        return self.counts.read_bytes / self.counts.busy_s if self.counts.busy_s else 0.0

    @property
    def waited_share(self) -> float:
        """Of the time, in which nothing could be computed."""
        return min(1.0, self.counts.wait_s / self.seconds)

    @property
    def compute_s(self) -> float:
        """Of all decoded tokens without reading: what was not spent waiting, or less if memory is faster."""
        computed_s = self.seconds - self.counts.wait_s
        return computed_s if self.in_memory_s is None else min(computed_s, self.in_memory_s)

    @property
    def optimum_reads(self) -> int:
        """Experts that no policy could have done without, from the same start."""
        return sum(sum(token.optimum) for token in self.tokens)

    @property
    def optimum_hit_share(self) -> float:
        """Of uses, that the optimum finds in memory."""
        return 1 - self.optimum_reads / self.counts.uses

    @property
    def optimum_tok_per_s(self) -> float:
        """Of the optimum's reads at the disk's best speed, all of it beside computing."""
        read_s = self.optimum_reads * self.record_bytes / self.ceiling_bytes_per_s
        return len(self.tokens) / max(self.compute_s, read_s)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `araio bench stream --json`."""
        count = len(self.tokens)
        return {
            "araio": araio.__version__,
            "date": time.strftime("%Y-%m-%d"),
            "prompt_tok_per_s": self.prompt_tok_per_s,
            "tok_per_s": self.tok_per_s,
            "round_tok_per_s": self.round_speeds,
            "in_memory_tok_per_s": None if self.in_memory_s is None else count / self.in_memory_s,
            "compute_tok_per_s": count / self.compute_s,
            "optimum_tok_per_s": self.optimum_tok_per_s,
            "optimum_reads": self.optimum_reads,
            "optimum_hit_share": self.optimum_hit_share,
            "waited_share": self.waited_share,
            "busy_bytes_per_s": self.busy_bytes_per_s,
            "ceiling_bytes_per_s": self.ceiling_bytes_per_s,
            **asdict(self),
        }


def measure_streaming(
    name: str,
    *,
    ram: int | None = None,
    tokens: int = TOKENS,
    prompt: int = PROMPT,
    io: str = "auto",
    threads: int | None = None,
    on_turn: OnTurn | None = None,
) -> StreamReport:
    """Load a model under a budget and measure it.

    name     "pocket", the folder of a checkpoint, or that of a store
    ram      bytes for the whole process; None takes what the machine can spare
    tokens   to decode
    prompt   tokens before them
    io       how experts are read, as in `araio.load`
    threads  that compute; None takes what every other command would
    on_turn  called before each part of the work, as in `testing.turns`

    Raises:
        ModelNotFoundError, ConfigError, FormatError, CheckpointError, BudgetError, DiskError: as
            `open_model`.
        RequestError: numbers that are too small, or too large for the model's context or the budget's
            cache; a model that the budget holds whole, or that has no experts.
        KernelError: threads that cannot be.
    """
    for what, number in (("tokens", tokens), ("prompt", prompt)):
        if number < 1:
            raise RequestError(f"{what} is {number}; expected 1 or more")
    selection, folder = select(threads=threads), locate(name)
    tell = _Progress(on_turn, ROUNDS + 3)
    tell("opening")
    with open_checked(folder) as (config, source):
        if not config.moe_layers:
            raise RequestError(f"{name}: has no routed experts, so there is nothing to stream")
        text = _Text(folder, config, prompt, tokens)
        files = expert_files(source, config, config.moe_layers)
        ceiling = DiskCeiling(files.paths, files.record.bytes)
    stream = _Stream(name, folder, selection.ops, Memory(ram, io=io, remembers=False), text, ceiling, tell)
    measured, chosen = stream.measure(), stream.chosen
    del stream  # its memory is needed
    gc.collect()
    tell("in memory")
    in_memory_s = _seconds_in_memory(folder, selection.ops, measured["budget"], text, chosen)
    return StreamReport(
        model=name,
        kernels=selection.reasons["linear"].backend,
        threads=selection.threads,
        machine=describe_processor(),
        in_memory_s=in_memory_s,
        **measured,
    )


class _Progress:
    def __init__(self, on_turn: OnTurn | None, total: int) -> None:
        self._on_turn, self._done, self._total = on_turn, 0, total

    def __call__(self, what: str) -> None:
        if self._on_turn is not None:
            self._on_turn(what, self._done, self._total)
        self._done += 1


class _Text:
    """A prompt, and the choice of what follows.

    prompt  (T,) ids
    tokens  that follow
    """

    def __init__(self, folder: Path, config: ModelConfig, prompt: int, tokens: int) -> None:
        self.tokens = tokens
        self._ends = list(config.eos_token_id)
        self._rng: np.random.Generator | None = None
        if (folder / "tokenizer.json").exists():
            tokenizer = Tokenizer.from_folder(folder)
            opening = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
            self.prompt: Int64Array = np.resize(np.array(opening + tokenizer.encode(TEXT), np.int64), prompt)
        else:
            self._rng = np.random.default_rng(0)
            self.prompt = self._rng.integers(config.vocab_size, size=prompt)
        check_ids(config, self.prompt.tolist(), spare=tokens)

    def next(self, scores: Float32Array) -> int:
        """The likeliest token that does not end the text, by scores (W,); a random one without tokenizer."""
        if self._rng is not None:
            return int(self._rng.integers(len(scores)))
        scores[self._ends] = -np.inf
        return int(scores.argmax())


class _Sequence:
    """One text in a model."""

    def __init__(self, model: Model, text: _Text) -> None:
        self._model = model
        self._cache = LatentCache(model.new_pool(len(text.prompt) + text.tokens))

    def read_prompt(self, ids: Int64Array, chunk: int) -> Float32Array:
        """Scores (W,) after a prompt that runs in chunks."""
        for begin in range(0, len(ids), chunk):
            hidden = self._model.forward(ids[begin : begin + chunk], self._cache)
        scores: Float32Array = self._model.logits(hidden[-1:])[0]
        return scores

    def decode(self, token: int, routes: Routes | None = None) -> Float32Array:
        """Scores (W,) after one more token; `routes` gets what each routed layer chose."""
        ids = np.array([token], np.int64)
        hidden = self._model.step([Segment(ids, self._cache, absorbed=True)], routes)
        self._cache.advance(1)
        scores: Float32Array = self._model.logits(hidden)[0]
        return scores


class _Stream:
    """The model under its budget.

    chosen  (tokens,) what was decoded
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        ops: Ops,
        memory: Memory,
        text: _Text,
        ceiling: DiskCeiling,
        tell: Callable[[str], None],
    ) -> None:
        self.chosen: list[int] = []
        self._text, self._ceiling, self._tell = text, ceiling, tell
        loaded = open_model(folder, ops, memory)
        self._loaded, self._budget = loaded, loaded.budget
        self._experts = _streamed_only(name, loaded)
        if len(text.prompt) + text.tokens > self._budget.cache_tokens:
            raise RequestError(
                f"{len(text.prompt)} tokens of a prompt and {text.tokens} behind them are more than the "
                f"{self._budget.cache_tokens} that there is cache for; ask for fewer, or give more --ram"
            )

    def measure(self) -> dict[str, Any]:
        """The fields of a report."""
        sequence = _Sequence(self._loaded.network, self._text)
        prompt, experts = self._text.prompt, self._experts
        self._tell("prompt")
        began_s = time.perf_counter()
        scores = sequence.read_prompt(prompt, self._budget.chunk)
        prompt_s, before = time.perf_counter() - began_s, experts.counters
        start = experts.in_memory
        sizes = [len(part) for part in np.array_split(range(self._text.tokens), ROUNDS) if len(part)]
        ceiling, decoded, routes = [self._ceiling.sample()], [], []
        for number, size in enumerate(sizes, 1):
            self._tell(f"decoding, round {number}")
            for _ in range(size):
                token, of_layers, scores = self._decode(sequence, scores)
                decoded.append(token)
                routes.append(of_layers)
            ceiling.append(self._ceiling.sample())
        self._ceiling.close()
        optimum = self._optimum(np.concatenate(routes), start)
        return {
            "budget": self._budget,
            "experts": experts.count,
            "record_bytes": experts.record_bytes,
            "layers": tuple(experts.layers),
            "reading": experts.reading,
            "prompt_tokens": len(prompt),
            "prompt_s": prompt_s,
            "prompt_read": before.read_bytes,
            "tokens": tuple(
                StreamedToken(*seen, tuple(best)) for seen, best in zip(decoded, optimum, strict=True)
            ),
            "counts": experts.counters.since(before),
            "round_tokens": tuple(sizes),
            "ceiling": tuple(ceiling),
            "used_bytes": psutil.Process().memory_info().rss,
            "lent": experts.lent,
        }

    def _decode(
        self, sequence: _Sequence, scores: Float32Array
    ) -> tuple[tuple[float, StreamCounters, tuple[int, ...]], Int64Array, Float32Array]:
        """One token: what it took, its routes (1, L, K), and the scores behind it."""
        experts, routes = self._experts, Routes()
        before, missed = experts.counters, experts.missed.copy()
        began_s = time.perf_counter()
        token = self._text.next(scores)
        scores = sequence.decode(token, routes)
        seconds = time.perf_counter() - began_s
        self.chosen.append(token)
        seen = seconds, experts.counters.since(before), tuple((experts.missed - missed).tolist())
        return seen, np.stack(routes.ids, axis=1).astype(np.int64), scores

    def _optimum(self, routes: Int64Array, start: Sequence[int]) -> list[list[int]]:
        """Reads of each token and layer that no policy avoids, if it may fill every place."""
        assert self._budget.slots is not None
        per_layer = self._experts.count // len(self._experts.layers)
        reads: list[list[int]] = belady(routes, per_layer, self._budget.slots, start).tolist()
        return reads


def _streamed_only(name: str, loaded: Loaded) -> StreamedExperts:
    budget = loaded.budget
    if loaded.experts is None:
        raise RequestError(
            f"{name}: every expert fits into {budget.ram / 2**30:.1f} GiB, so nothing would be read from "
            f"disk; give --ram between {-(-budget.smallest // MIB)}MiB and {budget.whole // MIB}MiB, or "
            "measure it with `araio bench`"
        )
    return loaded.experts


def _seconds_in_memory(
    folder: Path, ops: Ops, budget: Budget, text: _Text, chosen: Sequence[int]
) -> float | None:
    """Of decoding the same tokens with every expert in memory; None where there is no room for that."""
    allowed = machine_memory().allowed
    if allowed < budget.whole:
        return None
    loaded = open_model(folder, ops, Memory(allowed))
    if loaded.experts is not None:
        return None
    sequence = _Sequence(loaded.network, text)
    sequence.read_prompt(text.prompt, budget.chunk)
    began_s = time.perf_counter()
    for token in chosen:
        sequence.decode(token)
    return time.perf_counter() - began_s
