"""One turn of `stream.py`: an engine in a process of its own is given tokens, and is watched from outside.

The process starts with nothing of its files in the page cache. It decodes the beginning of a text unmeasured,
then the tokens that count, text after text; at last a prompt. Bytes are what the system says the process had
read from the disk. `routing` says what the tokens chose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from peers.json_process import Played
from process_watch import Memory, memory_of, read_bytes
from routed_weights import RoutedWeights

from araio.testing.routes import DOMAINS, overlap, union

__all__ = ["Engine", "Measured", "Routing", "Script", "Turn", "agreement", "play", "routing", "script_of"]

UNION_TOKENS = 16  # of which the distinct experts of a layer are counted

Routes = NDArray[np.int64]


class Engine(Protocol):
    """What is given tokens: `AraioProcess`, `LlamaCpp`."""

    pid: int

    def play(self, ids: Sequence[int], fresh: bool, together: bool = False, watched: bool = False) -> Played:
        """Run tokens of one sequence; see `LlamaCpp.play`."""


@dataclass(frozen=True)
class Script:
    """What every engine is given.

    positions  of the decoded tokens in their texts
    warm       as many of them are not measured
    texts      their ids, by the name of the text
    prompt     ids
    """

    positions: slice
    warm: int
    texts: Mapping[str, Sequence[int]]
    prompt: Sequence[int]


@dataclass(frozen=True)
class Measured:
    tokens: int
    seconds: float
    bytes: int

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Turn:
    """What one engine did.

    decoded   by the name of the text
    memory    what it took at the end
    counters  of the engine itself, by name
    """

    decoded: Mapping[str, Measured]
    prompt: Measured
    memory: Memory
    counters: Mapping[str, float]


@dataclass(frozen=True)
class Routing:
    """What tokens chose.

    coverage   share of all experts that were chosen at all
    overlap    with the token before
    union      distinct experts of a layer that 16 tokens in a row choose
    intended   share of the choices that follow from the embeddings
    """

    coverage: float
    overlap: float
    union: float
    intended: float


def script_of(weights: RoutedWeights, texts: Sequence[str], warm: int, tokens: int, prompt: int) -> Script:
    """Tokens in whose middle the subject changes where it does; the prompt is the end of the first text."""
    begin = max(0, DOMAINS.domain - warm - tokens // 2)
    positions = slice(begin, begin + warm + tokens)
    ids = {text: weights.ids(text) for text in texts}
    return Script(
        positions,
        warm,
        {text: all_ids[positions].tolist() for text, all_ids in ids.items()},
        ids[texts[0]][-prompt:].tolist(),
    )


def play(engine: Engine, script: Script, files: Iterable[Path]) -> Turn:
    """Give an engine the whole script."""
    decoded = {}
    for name, ids in script.texts.items():
        engine.play(ids[: script.warm], fresh=True)
        decoded[name], _ = _measured(engine, ids[script.warm :], fresh=False, together=False)
    prompt, counters = _measured(engine, script.prompt, fresh=True, together=True)
    return Turn(decoded, prompt, memory_of(engine.pid, files), counters)


def routing(routes: Routes, intended: Routes, experts: int) -> Routing:
    """What is to be known of routes (T, L, K)."""
    layers = routes.shape[1]
    keys = routes + np.arange(layers)[:, None] * experts
    return Routing(
        coverage=len(np.unique(keys)) / (layers * experts),
        overlap=overlap(routes),
        union=union(routes, min(UNION_TOKENS, len(routes))),
        intended=agreement(routes, intended),
    )


def agreement(some: Routes, others: Routes) -> float:
    """The share of experts (T, L, K) that both chose."""
    return float((some[..., :, None] == others[..., None, :]).any(-1).mean())


def _measured(
    engine: Engine, ids: Sequence[int], fresh: bool, together: bool
) -> tuple[Measured, Mapping[str, float]]:
    before, own_before = read_bytes(engine.pid), engine.play([], fresh=fresh).counters
    played = engine.play(ids, fresh=False, together=together)
    read = read_bytes(engine.pid) - before
    # A file system in memory is no disk to the system; there, the engine's own count stands.
    own = int(played.counters.get("read_bytes", 0) - own_before.get("read_bytes", 0))
    return Measured(len(ids), played.seconds, read or own), played.counters
