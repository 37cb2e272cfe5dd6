"""`strip_of`: the tokens that a report shows one by one, with their experts and weights.

They are the beginnings of sequences, as many of each domain, and fewer where a model has many layers: a
report has a size that it keeps to. Tokens whose routes are unknown, and drafts, are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from araio.traces.columns import Phase, Valid
from araio.traces.trace import Trace

__all__ = ["MOST_TOKENS", "TextOf", "strip_of"]

TextOf: TypeAlias = Callable[[int], str]
"""The text of a token id."""

MOST_TOKENS = 2000
LONGEST_SEQUENCE = 240
"""Tokens of one sequence; several texts show more than the whole of one."""
BASE64 = 4 / 3


def strip_of(trace: Trace, room_bytes: int, text_of: TextOf | None = None) -> dict[str, Any] | None:
    """Tokens for the strip, of T at most as many as `room_bytes` of a report hold; None for no token.

    experts  (T, L, K) ids, the largest weight first; weights the same shape, two digits, None if unknown
    seq, domain, segment, ids  (T,); ids None if they were not recorded
    vocabulary, texts  texts, and (T,) which of them a token is; None without `text_of`
    """
    each = trace.n_layers * trace.header.top_k * (trace.experts.itemsize + trace.has("weights")) * BASE64
    rows = _chosen(trace, min(MOST_TOKENS, int(room_bytes / (each + 24))))
    if not len(rows):
        return None
    ids = trace.column("token_id")[rows].tolist() if trace.has("token_id") else None
    strip: dict[str, Any] = {
        "tokens": len(rows),
        "experts": trace.experts[rows].tolist(),
        "weights": _two_digits(trace.weights[rows]) if trace.has("weights") else None,
        **{name: trace.column(name)[rows].tolist() for name in ("seq", "domain", "segment")},
        "ids": ids,
        "vocabulary": None,
        "texts": None,
    }
    if ids is not None and text_of is not None:
        known = {token: place for place, token in enumerate(dict.fromkeys(ids))}
        strip["vocabulary"] = [text_of(token) for token in known]
        strip["texts"] = [known[token] for token in ids]
    return strip


def _chosen(trace: Trace, most: int) -> npt.NDArray[np.int64]:
    """Rows, sequence after sequence and domain after domain."""
    is_shown = ((trace.column("valid") & Valid.ROUTES) != 0) & (trace.column("phase") != Phase.DRAFT)
    domain = trace.column("domain")
    present = np.unique(domain[is_shown])
    kept: list[npt.NDArray[np.int64]] = []
    for index in present:
        room = most // len(present)
        for rows in trace.sequences:
            begin = np.flatnonzero(is_shown[rows] & (domain[rows] == index))[: min(room, LONGEST_SEQUENCE)]
            kept.append(begin + rows.start)
            room -= len(begin)
            if room <= 0:
                break
    return np.concatenate(kept) if kept else np.empty(0, np.int64)


def _two_digits(weights: npt.NDArray[np.float16]) -> Any:
    hundredths = np.round(weights.astype(np.float64) * 100)
    return (hundredths / 100).tolist()
