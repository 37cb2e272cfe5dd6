"""The columns of a trace: what is known of every token, of which type, and what the numbers mean.

Rows are tokens. `COLUMNS` is the one table that the writer, the reader and their checks go by; `Rows` is what
a recorder hands over, `CacheEvents` what became of experts on the same clock. Nothing here touches a file;
read `writer.py` for the way in and `trace.py` for the way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "CACHE_COLUMNS",
    "COLUMNS",
    "OPTIONAL",
    "TOKEN_COLUMNS",
    "CacheEvent",
    "CacheEvents",
    "Column",
    "Phase",
    "Rows",
    "Segment",
    "Valid",
    "stored_type",
]

Array: TypeAlias = npt.NDArray[Any]


class Phase(IntEnum):
    """Why a token ran.

    DRAFT   to verify a guess that was wrong: it was thrown away and is no part of any text
    FORCED  of a given text, all of which ran at once; also where nobody noted why
    """

    PREFILL = 0
    DECODE = 1
    DRAFT = 2
    FORCED = 3


class Segment(IntEnum):
    """What a token is part of."""

    PROMPT = 0
    REASONING = 1
    ANSWER = 2


class Valid(IntFlag):
    """What holds of a row.

    ROUTES  its experts are there; without it they are unknown, and stored as zeros
    CACHED  the token was found in the prefix cache, so that nothing ran and nothing could be recorded
    GUIDED  a guide said which token must come; the model had no choice
    """

    ROUTES = 1
    CACHED = 2
    GUIDED = 4


class CacheEvent(IntEnum):
    """What happened to an expert of a streamed model."""

    HIT = 0
    MISS = 1
    PREFETCH = 2
    EVICT = 3


@dataclass(frozen=True)
class Column:
    """One column.

    stored_as   its safetensors type; see `stored_type` for expert ids
    axes        its shape: T tokens, L layers, K experts of a token
    is_optional whether a trace may lack it
    limit       numbers must be below it, 0 for no limit
    """

    name: str
    stored_as: str
    axes: str = "T"
    is_optional: bool = False
    limit: int = 0


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("expert_ids", "U8", "TLK"),
        Column("weights", "F16", "TLK", is_optional=True),
        Column("token_id", "I32", is_optional=True),
        Column("position", "I32"),
        Column("seq", "I32"),
        Column("phase", "U8", limit=len(Phase)),
        Column("domain", "U8"),
        Column("segment", "U8", limit=len(Segment)),
        Column("valid", "U8", limit=8),
        Column("margin", "F16", "TL", is_optional=True),
    )
}
OPTIONAL = tuple(name for name, column in COLUMNS.items() if column.is_optional)
TOKEN_COLUMNS = tuple(name for name, column in COLUMNS.items() if column.axes == "T")

CACHE_COLUMNS = {"t": "I32", "layer": "U8", "expert": "U16", "kind": "U8", "bytes": "U32", "us": "U32"}


def stored_type(name: str, n_experts: int) -> str:
    """The safetensors type of a column; expert ids have the smallest that holds them."""
    return "U16" if name == "expert_ids" and n_experts > 256 else COLUMNS[name].stored_as


class Rows(NamedTuple):
    """Tokens that ran, in the order in which they did; arrays are kept, not copied, until they are written.

    expert_ids, weights  (L, T, K), layer by layer as a step gives them: a list of L arrays, or one array.
                         Weights are after their normalisation and before the scaling factor; None for all
                         rows of a trace if unknown
    position, seq, token_id, phase, domain, segment, valid
                         (T,) each, or one number for all of them; token_id None for all rows of a trace if
                         text is not to be kept
    margin               (L, T): how far the last chosen expert was ahead of the first that was not, if known
    """

    expert_ids: Sequence[Array] | Array
    position: Array | Sequence[int] | int
    seq: Array | Sequence[int] | int
    weights: Sequence[Array] | Array | None = None
    token_id: Array | Sequence[int] | int | None = None
    phase: Array | Sequence[int] | int = Phase.PREFILL
    domain: Array | Sequence[int] | int = 0
    segment: Array | Sequence[int] | int = Segment.PROMPT
    valid: Array | Sequence[int] | int = Valid.ROUTES
    margin: Sequence[Array] | Array | None = None


class CacheEvents(NamedTuple):
    """What became of experts, event by event, in arrays of one length.

    t       the row, counted from the first of the trace as it was recorded, that ran when it happened
    layer   number of the layer in the model
    kind    of `CacheEvent`
    bytes   read, or given up
    us      microseconds that the layer waited for it
    """

    t: npt.NDArray[np.int32]
    layer: npt.NDArray[np.uint8]
    expert: npt.NDArray[np.uint16]
    kind: npt.NDArray[np.uint8]
    bytes: npt.NDArray[np.uint32]
    us: npt.NDArray[np.uint32]
