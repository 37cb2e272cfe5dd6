"""The experts of tokens as clients are told of them: a file for programs, lists for the page.

`routed_experts` is vLLM's encoding, base64 of a `.npy` file, for whoever trains or studies a router;
`watched_token` is one token of a stream. Read `engine/job.py` for where they are kept.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from araio.engine.answer import Answer, Step
from araio.text.tokenizer import Tokenizer

__all__ = ["routed_experts", "watched_token"]

DTYPES = (np.uint8, np.uint16, np.int32)


def routed_experts(answer: Answer, start: int = 0) -> str:
    """Experts of every token of prompt and answer but the last: (T - 1, M, K) ids of the M routed layers.

    The type is the smallest of uint8, uint16 and int32 that holds the largest id.

    start  position of the first token that is told
    """
    assert answer.routes is not None
    ids = answer.routes.ids[start:]
    largest = int(ids.max(initial=0))
    dtype = next(dtype for dtype in DTYPES if largest <= np.iinfo(dtype).max)
    file = io.BytesIO()
    np.save(file, ids.astype(dtype), allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()


def watched_token(step: Step, tokenizer: Tokenizer) -> dict[str, Any]:
    """One token of a stream: its text alone, what it belongs to, its experts and their weights by layer."""
    assert step.routes is not None
    return {
        "text": tokenizer.decode([step.id]),
        "phase": "reasoning" if step.is_reasoning else "answer",
        "experts": step.routes.ids.tolist(),
        "weights": [[round(weight, 4) for weight in layer] for layer in step.routes.weights.tolist()],
    }
