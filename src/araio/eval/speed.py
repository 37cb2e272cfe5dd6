"""Speed of a model on this machine: `measure_speed` times prompts and decoding, beside what memory allows.

Decoding reads every active weight once a token, and the latents of what came before: the speed of reading
memory, measured in the same rounds, over these bytes is its limit. Bytes are those of the tensors as stored,
the prediction module's apart, which does not run here. Read `testing/turns.py` for how rows come about.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import psutil

import araio
from araio.codecs import Codec
from araio.config import ModelConfig
from araio.costs.grid import Intensity
from araio.costs.parameters import cache_bytes_per_token
from araio.costs.tariff import choose_tariff
from araio.errors import RequestError
from araio.formats.layout import expert_of, main_tensors
from araio.kernels.select import Selection, select
from araio.meters.meter import choose_meter
from araio.testing.machine import describe_processor, usable_processors
from araio.testing.timer import SHORT_CONTEXT, ModelTimer
from araio.testing.turns import Case, Engine, OnTurn, Row, measure
from araio.weights.load import load_model, open_checked
from araio.weights.locate import locate

__all__ = ["CACHE_BYTES", "SpeedReport", "active_weight_bytes", "cases_for", "measure_speed"]

PREFILLS = (128, 512)
DECODED = 24  # tokens of one run
DECODED_FAR = 4  # tokens of one run after a long context
IDLE_S = 1.0  # of doing nothing, where power is measured
SHORTEST_CONTEXT = SHORT_CONTEXT + DECODED

CACHE_BYTES = 64 << 20
"""What fewer bytes may stay in the processor's cache between two tokens; reading memory then bounds nothing.

A fixed size, twice what the few cores of a usual processor share: what the system reports is often wrong on
rented machines.
"""


@dataclass(frozen=True)
class SpeedReport:
    """What was measured, of what, and where.

    codecs   bytes of weights that a decoded token reads, by the codec that they are stored with
    kernels  which operations served
    threads  that were asked for, or all that serve by default
    grid     whose electricity the grams are of
    energy   how the joules came about
    notes    what a reader of the rows should know
    """

    model: str
    codecs: dict[str, int]
    kernels: str
    threads: tuple[int, ...]
    rounds: int
    machine: dict[str, Any]
    grid: dict[str, Any]
    energy: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def active_weight_bytes(self) -> int:
        """Bytes of weights that a decoded token reads."""
        return sum(self.codecs.values())

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `araio bench --json`."""
        return {
            "araio": araio.__version__,
            "date": time.strftime("%Y-%m-%d"),
            "active_weight_bytes": self.active_weight_bytes,
            **asdict(self),
        }


def measure_speed(
    name: str,
    *,
    prefills: Sequence[int] | None = None,
    together: Sequence[int] = (8,),
    contexts: Sequence[int] = (),
    threads: Sequence[int] | None = None,
    rounds: int = 5,
    country: str | None = None,
    tdp: float | None = None,
    on_turn: OnTurn | None = None,
) -> SpeedReport:
    """Load a model and measure it.

    name      "pocket", the folder of a checkpoint, or that of a store; it needs no tokenizer
    prefills  lengths of prompts; None takes 128 and 512 tokens, or as many as the context holds
    together  numbers of sequences that are decoded side by side, beside one alone
    contexts  numbers of cached tokens after which one sequence is decoded
    threads   numbers of threads; None takes the one number that every other command would
    rounds    that count; one more before them warms up
    country   whose electricity the grams are of, as in `costs.tariff.choose_tariff`
    tdp       watts for the energy model, as in `meters.modelled.estimate_power`
    on_turn   as in `testing.turns`

    The compiled kernels keep the last number of threads, in the whole process.

    Raises:
        ModelNotFoundError, ConfigError, FormatError: as `load_model`.
        RequestError: a number that is too small, or too large for the model or for memory.
        KernelError: threads that cannot be.
        CostError: a country or watts that nothing can be counted with.
    """
    for what, numbers in (("prefill", prefills or ()), ("together", together), ("context", contexts)):
        _check_positive(what, numbers)
    _check_positive("rounds", [rounds])
    intensity, meter = choose_tariff(name, country, "none").intensity, choose_meter(tdp=tdp)
    selection, counts = _selected(threads)
    folder = locate(name)
    with open_checked(folder) as (config, source):
        codecs = active_weight_bytes(config, lambda tensor, shape: source.codec(tensor))
    lengths = _lengths(config, prefills)
    _check_contexts(config, contexts)
    weight_bytes = sum(codecs.values()) if selection.threads is not None else None
    cases = cases_for(config, weight_bytes, lengths, together, contexts)
    model = load_model(folder, selection.ops)
    _check_memory(config, contexts)
    meter.observe_idle(IDLE_S)
    timer = ModelTimer(model, meter=meter)
    rows = measure(timer, cases, counts, rounds, on_turn=on_turn, last_energy=lambda: timer.energy)
    return SpeedReport(
        model=name,
        codecs=codecs,
        kernels=selection.reasons["linear"].backend,
        threads=counts,
        rounds=rounds,
        machine=describe_processor(),
        grid=asdict(intensity),
        energy=meter.serving,
        notes=_notes(selection, weight_bytes),
        rows=tuple(_with_grams(row, intensity) for row in rows),
    )


def _with_grams(row: Row, intensity: Intensity) -> Row:
    """The row with the grams of its joules, if it has any."""
    joules = row.joules_per_token
    return row if joules is None else replace(row, grams_co2e=intensity.grams(joules))


def active_weight_bytes(
    config: ModelConfig, codec_of: Callable[[str, tuple[int, ...]], Codec[Any]]
) -> dict[str, int]:
    """Bytes of weights that one decoded token reads, by codec, the largest first.

    All of the main model but the embedding, of which a token reads a row; of a layer's experts its own.

    codec_of  how a tensor is stored, from its name and shape
    """
    plain: Counter[str] = Counter()
    routed: Counter[str] = Counter()
    for name, shape in main_tensors(config):
        if name == "model.embed_tokens.weight" and not config.tie_word_embeddings:
            continue
        stored = codec_of(name, shape)
        (plain if expert_of(name) is None else routed)[stored.name] += stored.bytes(shape)
    for codec_name, size in routed.items():
        plain[codec_name] += size * config.num_experts_per_tok // config.n_routed_experts
    return dict(plain.most_common())


def cases_for(
    config: ModelConfig,
    weight_bytes: int | None,
    prefills: Sequence[int],
    together: Sequence[int],
    contexts: Sequence[int],
) -> list[Case]:
    """What is timed, the longest prompt first.

    weight_bytes  that a decoded token reads; None where that is no limit. Several sequences have no limit:
                  they share the weights that they have in common, and nobody knows which
    """

    def decode(name: str, tokens: int, context: int) -> Case:
        latent_bytes = cache_bytes_per_token(config) * context
        read = None if weight_bytes is None else weight_bytes + latent_bytes
        is_bound = read is not None and read > CACHE_BYTES
        return Case(name, tokens, lambda one: one.decode(tokens, context), read if is_bound else None)

    return [
        *(Case(f"prefill {n}", n, partial(_prefill, n)) for n in sorted(set(prefills), reverse=True)),
        decode("decode", DECODED, SHORT_CONTEXT),
        *(Case(f"decode {n} together", n * DECODED, partial(_decode_together, n)) for n in together),
        *(decode(f"decode after {n}", DECODED_FAR, n) for n in contexts),
    ]


def _prefill(tokens: int, one: Engine) -> float:
    return one.prefill(tokens)


def _decode_together(sequences: int, one: Engine) -> float:
    return one.decode_together(sequences, DECODED)


def _check_positive(what: str, numbers: Sequence[int]) -> None:
    for number in numbers:
        if number < 1:
            raise RequestError(f"{what} is {number}; expected 1 or more")


def _selected(threads: Sequence[int] | None) -> tuple[Selection, tuple[int, ...]]:
    """The operations, and the numbers of threads to measure; all are tried, before a model is loaded."""
    selection = select()
    if threads is None:
        return selection, (selection.threads or usable_processors(),)
    if selection.threads is None:
        raise RequestError(
            f"NumPy's operations serve here ({selection.reasons['linear'].reason}), which use NumPy's own "
            "threads; leave the threads out, or set OMP_NUM_THREADS"
        )
    for count in threads:
        select(threads=count)
    return selection, tuple(threads)


def _lengths(config: ModelConfig, prefills: Sequence[int] | None) -> Sequence[int]:
    context = config.max_position_embeddings
    if context < SHORTEST_CONTEXT:
        raise RequestError(
            f"the model's context holds {context} tokens; {SHORTEST_CONTEXT} are needed to measure decoding"
        )
    if prefills is None:
        return [min(tokens, context) for tokens in PREFILLS]
    if max(prefills) > context:
        raise RequestError(f"prefill is {max(prefills)}, but the model's context holds {context} tokens")
    return prefills


def _check_contexts(config: ModelConfig, contexts: Sequence[int]) -> None:
    most = config.max_position_embeddings - DECODED_FAR
    for context in contexts:
        if context > most:
            raise RequestError(
                f"context is {context}; expected at most {most}, for the model's context holds "
                f"{config.max_position_embeddings} tokens and {DECODED_FAR} are decoded"
            )


def _check_memory(config: ModelConfig, contexts: Sequence[int]) -> None:
    """Otherwise the system would kill the process half way, without a word."""
    needed = cache_bytes_per_token(config) * max(contexts, default=0)
    available = psutil.virtual_memory().available
    if needed > available:
        raise RequestError(
            f"the cache of {max(contexts)} tokens takes {needed / 1e6:,.0f} MB of memory, but "
            f"{available / 1e6:,.0f} MB are free beside the weights; ask for a shorter context"
        )


def _notes(selection: Selection, weight_bytes: int | None) -> tuple[str, ...]:
    if weight_bytes is None:
        reason = selection.reasons["linear"].reason
        return (
            f"no limit is given: NumPy's operations serve ({reason}); they widen weights before they "
            "multiply, on threads of their own",
        )
    if weight_bytes <= CACHE_BYTES:
        return (
            f"no limit is given where a token reads less than {CACHE_BYTES >> 20} MiB, which the processor's "
            "cache may hold: reading memory then bounds nothing",
        )
    return ()
