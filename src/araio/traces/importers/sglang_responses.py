"""SGLang's responses: `meta_info.routed_experts` is int32 (tokens - 1, layers, K), without its shape.

Prompt and answer are there from the first token to the last but one, which never ran. K is the model's, and
the number of layers follows from the bytes. Read `sglang.py` for dumps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.columns import Phase, Segment
from araio.traces.header import TraceHeader
from araio.traces.importers.documents import base64_bytes, documents, whole_number
from araio.traces.importers.routes import Gathered
from araio.traces.trace import Trace

__all__ = ["read_responses"]

Array = npt.NDArray[Any]


def read_responses(path: Path, header: TraceHeader, domain: str) -> Trace:
    """The routes of one response, or of many; raises TraceError."""
    gathered = Gathered(header, domain)
    for number, (where, document) in enumerate(documents(path)):
        meta = document.get("meta_info")
        content = meta.get("routed_experts") if isinstance(meta, dict) else None
        if content is None:
            raise TraceError(
                f"{where}: meta_info.routed_experts is missing; ask for it with return_routed_experts"
            )
        prompt = whole_number(meta, "prompt_tokens", where)
        answer = whole_number(meta, "completion_tokens", where)
        if prompt is None or answer is None:
            raise TraceError(f"{where}: meta_info has no prompt_tokens or completion_tokens; expected both")
        ids = _shaped(
            base64_bytes(content, f"{where}: meta_info.routed_experts"), prompt + answer - 1, header, where
        )
        position = np.arange(len(ids))
        is_prompt = position < prompt
        gathered.add(
            where,
            ids,
            {
                "position": position,
                "seq": number,
                "phase": np.where(is_prompt, Phase.PREFILL, Phase.DECODE),
                "segment": np.where(is_prompt, Segment.PROMPT, Segment.ANSWER),
            },
        )
    return gathered.trace(str(path))


def _shaped(content: bytes, rows: int, header: TraceHeader, where: str) -> Array:
    """Routes (rows, layers, K) of int32 that lie without their shape."""
    layers, rest = divmod(len(content), 4 * max(rows, 1) * header.top_k)
    if rest or not layers or rows < 1:
        raise TraceError(
            f"{where}: meta_info.routed_experts has {len(content):,} bytes; expected {header.top_k} "
            f"int32 for each of the layers of {rows} tokens, all but the last"
        )
    return np.frombuffer(content, "<i4").reshape(rows, layers, header.top_k)
