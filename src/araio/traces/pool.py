"""Traces of one model put together: who may be, and how domains and sequences are numbered then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.columns import CacheEvents
from araio.traces.header import TraceHeader

__all__ = ["pooled"]

Array = npt.NDArray[Any]

Part: TypeAlias = tuple[TraceHeader, int, dict[str, Array], CacheEvents | None]
"""Header, layers, columns in the order in which rows ran, and cache events of one trace."""

# What decides which experts a token could choose.
_SAME = (
    "fingerprint",
    "layers",
    "n_routed_experts",
    "top_k",
    "n_group",
    "topk_group",
    "scoring_func",
    "norm_topk_prob",
    "routed_scaling_factor",
    "profile",
)
_TOLD = ("model", "engine")
_MAY_DIFFER = ("precision", "tokenizer", "seed", "created")


def pooled(parts: Sequence[Part]) -> tuple[TraceHeader, dict[str, Array], CacheEvents | None]:
    """Header, columns and cache events of all of them, one after the other; raises TraceError."""
    if not parts:
        raise TraceError("no traces to join; expected at least one")
    first = parts[0][0]
    for header, layers, _, _ in parts[1:]:
        _check_same(first, header, parts[0][1], layers)
    domains = tuple(dict.fromkeys(name for header, *_ in parts for name in header.domains))
    names = [name for name in parts[0][2] if all(name in columns for _, _, columns, _ in parts)]
    columns = {name: np.concatenate([columns[name] for _, _, columns, _ in parts]) for name in names}
    columns["domain"] = np.concatenate(
        [
            np.array([domains.index(name) for name in header.domains])[part["domain"]]
            for header, _, part, _ in parts
        ]
    )
    columns["seq"] = _numbered([part["seq"] for _, _, part, _ in parts])
    return _header(first, [header for header, *_ in parts], domains), columns, _events(parts)


def _check_same(first: TraceHeader, other: TraceHeader, layers: int, other_layers: int) -> None:
    for name in _SAME:
        if getattr(first, name) != getattr(other, name):
            raise TraceError(
                f"a trace of {first.model!r} has {name} {getattr(first, name)!r}, one of {other.model!r} "
                f"{getattr(other, name)!r}; only traces of one model, and one profile, can be joined"
            )
    if layers != other_layers:
        raise TraceError(
            f"a trace of {first.model!r} has {layers} layers, one of {other.model!r} {other_layers}; only "
            "traces of one model can be joined"
        )


def _header(first: TraceHeader, headers: Sequence[TraceHeader], domains: tuple[str, ...]) -> TraceHeader:
    told: dict[str, Any] = {
        name: " + ".join(dict.fromkeys(getattr(header, name) for header in headers)) for name in _TOLD
    }
    agreed: dict[str, Any] = {
        name: getattr(first, name) if len({getattr(header, name) for header in headers}) == 1 else None
        for name in _MAY_DIFFER
    }
    assert {*_SAME, *_TOLD, *_MAY_DIFFER, "mtp_layers", "domains", "columns"} == {
        field.name for field in fields(TraceHeader)
    }
    return replace(first, **told, **agreed, domains=domains)


def _numbered(parts: Sequence[Array]) -> Array:
    """Sequence numbers that no two parts share."""
    numbered, used = [], 0
    for seq in parts:
        numbers, places = np.unique(seq, return_inverse=True)
        numbered.append(places + used)
        used += len(numbers)
    return np.concatenate(numbered)


def _events(parts: Sequence[Part]) -> CacheEvents | None:
    pieces = []
    begin = 0
    for _, _, columns, events in parts:
        if events is None:
            return None
        pieces.append(events._replace(t=(events.t + begin).astype(np.int32)))
        begin += len(columns["seq"])
    return CacheEvents(*(np.concatenate(column) for column in zip(*pieces, strict=True)))
