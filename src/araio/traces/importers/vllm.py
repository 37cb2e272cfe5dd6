"""vLLM's `routed_experts`, and araio's own: responses in .json or .jsonl, or an array in .npy.

vLLM puts the prompt's routes into `prompt_routed_experts` of the response and each answer's into its choice;
araio, and vLLM since it keeps them with its prefix cache, have one array from the first token to the last but
one, which never ran. Arrays are base64 of .npy files, or lists in early versions. Weights are in none of
them, so the order of a token's experts is the program's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.columns import Phase, Segment
from araio.traces.header import TraceHeader
from araio.traces.importers.documents import documents, id_array, npy_array, whole_number
from araio.traces.importers.routes import Gathered
from araio.traces.trace import Trace

__all__ = ["read_vllm"]

Array = npt.NDArray[Any]


def read_vllm(path: Path, header: TraceHeader | None, domain: str | None) -> Trace:
    """The routes of one response, of many, or of one array; see `import_trace`.

    An array alone does not say what was prompt and what was answer: its rows count as a text that was given.

    Raises TraceError.
    """
    if header is None:
        raise TraceError(
            f"{path}: does not say how many experts the model has; give the model, or a header with "
            "n_routed_experts and top_k"
        )
    gathered = Gathered(replace(header, engine="vllm"), domain or path.stem)
    if path.suffix == ".npy":
        ids = _array_of(path)
        gathered.add(str(path), ids, {"position": np.arange(len(ids)), "seq": 0, "phase": Phase.FORCED})
        return gathered.trace(str(path))
    sequences = 0
    for where, document in documents(path):
        sequences += _add_response(gathered, where, document, sequences)
    return gathered.trace(str(path))


def _array_of(path: Path) -> Array:
    """The array of a .npy file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror})") from None
    return id_array(npy_array(content, str(path)), str(path))


def _add_response(gathered: Gathered, where: str, document: dict[str, Any], first: int) -> int:
    """Add the routes of a response; returns how many answers it has."""
    choices = document.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise TraceError(f"{where}: has no choices; expected a response of vLLM or araio")
    arrays = []
    for number, choice in enumerate(choices):
        place = f"{where}: choices[{number}].routed_experts"
        if choice.get("routed_experts") is None:
            raise TraceError(f"{place}: is missing; ask for it with return_routed_experts")
        arrays.append(id_array(choice["routed_experts"], place))
    prompt = document.get("prompt_routed_experts")
    if prompt is None:
        begin, prompt_tokens = _begin(where, document, arrays)
    else:
        before = id_array(prompt, f"{where}: prompt_routed_experts")
        begin, prompt_tokens = 0, len(before)
        arrays = [np.concatenate([before, ids]) for ids in arrays]
    for number, (choice, ids) in enumerate(zip(choices, arrays, strict=True)):
        place = f"{where}: choices[{number}].routed_experts"
        # The prompt ran once, however many answers there are.
        skipped = 0 if number == 0 else max(prompt_tokens - begin, 0)
        rows = slice(begin + skipped, begin + len(ids))
        gathered.add(place, ids[skipped:], _columns(document, choice, first + number, rows, prompt_tokens))
    return len(choices)


def _begin(where: str, document: dict[str, Any], arrays: Sequence[Array]) -> tuple[int, int]:
    """The position that rows begin at, and the number of tokens of the prompt."""
    prompt_tokens = whole_number(document.get("usage"), "prompt_tokens", where)
    completion_tokens = whole_number(document.get("usage"), "completion_tokens", where)
    if prompt_tokens is None or completion_tokens is None:
        raise TraceError(f"{where}: usage is missing, so what is prompt and what is answer cannot be told")
    # All answers begin at one position and lack their last token; usage counts their tokens together.
    most = len(arrays) * (prompt_tokens - 1) + completion_tokens
    rows = sum(len(ids) for ids in arrays)
    begin, rest = divmod(most - rows, max(len(arrays), 1))
    if begin < 0 or rest:
        raise TraceError(
            f"{where}: has {rows} rows of routes; expected {most}, or as many fewer for each answer, by "
            f"usage: {prompt_tokens} tokens of the prompt, {completion_tokens} of answers"
        )
    return begin, prompt_tokens


def _columns(
    document: dict[str, Any], choice: dict[str, Any], seq: int, rows: slice, prompt_tokens: int
) -> dict[str, npt.ArrayLike | None]:
    position = np.arange(rows.start, rows.stop)
    is_prompt = position < prompt_tokens
    return {
        "position": position,
        "seq": seq,
        "phase": np.where(is_prompt, Phase.PREFILL, Phase.DECODE),
        "segment": np.where(is_prompt, Segment.PROMPT, Segment.ANSWER),
        "token_id": _tokens(document.get("prompt_token_ids"), choice.get("token_ids"), rows),
    }


def _tokens(prompt: object, answer: object, rows: slice) -> Array | None:
    """The tokens of rows, if a response gives them."""
    if not isinstance(prompt, list) or not isinstance(answer, list):
        return None
    tokens = [*prompt, *answer][rows]
    if len(tokens) < rows.stop - rows.start:
        return None
    return np.array(tokens) if all(type(token) is int and 0 <= token < 1 << 31 for token in tokens) else None
