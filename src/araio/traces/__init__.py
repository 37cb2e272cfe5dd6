"""Traces: which experts every token used, in files; `Trace` reads them, `TraceWriter` writes them."""

from araio.traces.columns import CacheEvent, CacheEvents, Phase, Rows, Segment, Valid
from araio.traces.header import TraceHeader
from araio.traces.trace import Trace
from araio.traces.writer import TraceWriter

__all__ = [
    "CacheEvent",
    "CacheEvents",
    "Phase",
    "Rows",
    "Segment",
    "Trace",
    "TraceHeader",
    "TraceWriter",
    "Valid",
]
