"""SGLang's records: the .pt files of its expert distribution recorder, and its responses.

A dump of mode `per_token` has, for each forward pass, `topk_ids_of_layer` (layers, tokens, 8) with -1 where
there is nothing: behind a smaller K, in dense layers, for padding. Ids are of physical experts, which
`last_physical_to_logical_map` translates. Passes do not say whose tokens they ran: a prefill gives the
lengths of its requests, each of which begins a sequence; a decoded token continues the sequence that ends
just before its position, unless several do, or several tokens would: then it begins one of its own. Mode
`stat` counts only; a trace of it has counts and no rows. Read `sglang_responses.py` for the rest.
"""

from __future__ import annotations

import pickle
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.json_reader import shown
from araio.traces.columns import Phase, Segment
from araio.traces.header import TraceHeader
from araio.traces.importers.documents import first_document
from araio.traces.importers.routes import Gathered, model_layers
from araio.traces.importers.sglang_responses import read_responses
from araio.traces.trace import Trace

__all__ = ["read_sglang"]

Array = npt.NDArray[Any]

# Of `ForwardMode` in SGLang; the others draft, verify drafts or do nothing.
_EXTEND, _DECODE, _MIXED = 1, 2, 3


def read_sglang(path: Path, header: TraceHeader | None, domain: str | None) -> Trace:
    """The routes of a dump or of responses; see `import_trace`.

    A header is needed for responses and for counts, which do not say what K is.

    Raises TraceError.
    """
    content = _loaded(path) if path.suffix == ".pt" else first_document(path)
    if "logical_count" in content:
        return _read_counts(path, content["logical_count"], _known(path, header), domain or path.stem)
    if path.suffix != ".pt":
        return read_responses(path, _known(path, header), domain or path.stem)
    return _read_passes(path, content, header, domain or path.stem)


def _known(path: Path, header: TraceHeader | None) -> TraceHeader:
    if header is None:
        raise TraceError(
            f"{path}: does not say how many experts a token has; give the model, or a header with "
            "n_routed_experts and top_k"
        )
    return replace(header, engine="sglang")


def _loaded(path: Path) -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        raise TraceError(
            f"{path}: is a PyTorch file, and PyTorch is not installed; install it (pip install torch)"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to those who trust the file
            # Tensors and plain values alone: other pickles can run code when they are opened.
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError):
        # PyTorch's own message tells how to open the file all the same, which nobody should do.
        raise TraceError(f"{path}: is no PyTorch file that holds tensors and plain values alone") from None
    if not isinstance(content, dict):
        raise TraceError(f"{path}: holds {type(content).__name__}; expected what SGLang's recorder dumps")
    return content


def _integers(value: object, axes: str, where: str) -> Array:
    """A tensor or a list of whole numbers with these axes."""
    try:
        values = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        raise TraceError(f"{where}: is {type(value).__name__}; expected whole numbers, ({axes})") from None
    is_empty = values.size == 0 and values.ndim == 1
    if values.ndim != len(axes.split(", ")) or (values.dtype.kind not in "iu" and not is_empty):
        raise TraceError(
            f"{where}: holds {values.dtype} of the shape {values.shape}; expected whole numbers, ({axes})"
        )
    return values


def _read_counts(path: Path, value: object, header: TraceHeader, domain: str) -> Trace:
    counts = _integers(value, "steps, layers, experts", f"{path}: logical_count")
    total = counts.sum(axis=0, dtype=np.int64)[None]
    n = model_layers(header, total, str(path))[0]
    if not header.layers:
        layers = np.flatnonzero(n.any(axis=1))
        header, n = replace(header, layers=tuple(layers.tolist())), n[layers]
    return Trace.from_counts(replace(header, domains=(domain,)), n)


def _read_passes(path: Path, content: Mapping[str, Any], header: TraceHeader | None, domain: str) -> Trace:
    records = content.get("records")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise TraceError(
            f"{path}: has neither logical_count nor records; expected a dump of SGLang's recorder"
        )
    if any("topk_ids_of_layer" not in record for record in records):
        raise TraceError(
            f"{path}: its records have no topk_ids_of_layer; record with "
            "--expert-distribution-recorder-mode per_token, or stat"
        )
    passes = [
        _integers(
            record["topk_ids_of_layer"], "layers, tokens, experts", f"{path}: records[{number}]"
        ).swapaxes(0, 1)
        for number, record in enumerate(records)
    ]
    if len({ids.shape[1:] for ids in passes}) > 1:
        raise TraceError(f"{path}: its records are of different models; expected the same layers in all")
    if not any((ids >= 0).any() for ids in passes):
        raise TraceError(f"{path}: holds no routes; was anything run while it was recorded?")
    used = np.logical_or.reduce([(ids >= 0).any(axis=0) for ids in passes])  # (layers, experts of a token)
    layers, top_k = np.flatnonzero(used.any(axis=1)), int(used.any(axis=0).sum())
    experts, logical = _logical(path, content.get("last_physical_to_logical_map"), passes, layers)
    made = header or _found(path, experts, top_k, layers)
    gathered = Gathered(replace(made, engine="sglang"), domain)
    open_sequences = _Sequences()
    for number, (record, ids) in enumerate(zip(records, passes, strict=True)):
        if not len(ids):  # a rank that had nothing to do
            continue
        where = f"{path}: records[{number}]"
        chosen = logical[np.arange(len(layers))[:, None], ids[:, layers, :top_k]]
        gathered.add(where, chosen, _columns(where, record, len(ids), open_sequences))
    return gathered.trace(str(path))


def _found(path: Path, experts: int, top_k: int, layers: Array) -> TraceHeader:
    try:
        return TraceHeader(n_routed_experts=experts, top_k=top_k, layers=tuple(layers.tolist()))
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def _logical(path: Path, value: object, passes: list[Array], layers: Array) -> tuple[int, Array]:
    """Number of experts, and (layers, physical ids) which expert each is; the last column says -1 for -1."""
    largest = max(int(ids.max(initial=0)) for ids in passes)
    if value is None:
        table = np.tile(np.arange(largest + 1), (len(layers), 1))
    else:
        where = f"{path}: last_physical_to_logical_map"
        table = _integers(value, "layers, experts", where)
        if len(table) <= layers[-1] or table.shape[1] <= largest or table.min() < 0:
            raise TraceError(
                f"{where}: has the shape {table.shape}; expected a row for each layer, a place for each id"
            )
        table = table[layers]
    return int(table.max()) + 1, np.concatenate([table, np.full((len(layers), 1), -1)], axis=1)


def _columns(
    where: str, record: Mapping[str, Any], rows: int, sequences: _Sequences
) -> dict[str, npt.ArrayLike | None]:
    position = _integers(record.get("positions"), "tokens", f"{where}.positions")
    tokens = _integers(record.get("input_ids"), "tokens", f"{where}.input_ids")
    if len(position) != rows or len(tokens) != rows:
        raise TraceError(f"{where}: has {rows} tokens, {len(position)} positions and {len(tokens)} input_ids")
    mode = record.get("forward_mode")
    if mode not in (_EXTEND, _DECODE, _MIXED):
        raise TraceError(f"{where}: forward_mode is {shown(mode)}; expected 1 to 3, extend, decode or both")
    lengths = [1] * rows if mode == _DECODE else _lengths(where, record.get("extend_seq_lens"), rows)
    begins = np.cumsum([0, *lengths])[:-1].tolist()
    seq = sequences.of(
        [(int(position[begin]), length) for begin, length in zip(begins, lengths, strict=True)]
    )
    is_decoded = np.repeat(np.array(lengths, int) == 1, lengths) & (mode != _EXTEND)
    return {
        "position": position,
        "token_id": tokens,
        "seq": np.repeat(np.array(seq, int), lengths),
        "phase": np.where(is_decoded, Phase.DECODE, Phase.PREFILL),
        "segment": np.where(is_decoded, Segment.ANSWER, Segment.PROMPT),
    }


def _lengths(where: str, value: object, rows: int) -> list[int]:
    lengths: list[int] = _integers(value, "requests", f"{where}.extend_seq_lens").tolist()
    if sum(lengths) > rows or any(length < 1 for length in lengths):
        raise TraceError(
            f"{where}: extend_seq_lens add up to {sum(lengths)}; expected at most its {rows} tokens"
        )
    # In a mixed pass, what follows the prefills are decoded tokens.
    return lengths + [1] * (rows - sum(lengths))


class _Sequences:
    """Which sequence a decoded token continues, as far as its position tells."""

    def __init__(self) -> None:
        self._ending: dict[int, list[int]] = {}
        self._next = 0

    def of(self, pieces: Sequence[tuple[int, int]]) -> list[int]:
        """The sequences of one pass's pieces of text: position and length of each."""
        decoded = Counter(position for position, length in pieces if length == 1)
        numbers = []
        for position, length in pieces:
            waiting = self._ending.get(position, [])
            if position and length == 1 and decoded[position] == 1 and len(waiting) == 1:
                numbers.append(waiting[0])
            else:
                numbers.append(self._next)
                self._next += 1
        # Only now: what ran in this pass cannot go on in it.
        for number, (position, length) in zip(numbers, pieces, strict=True):
            if number in self._ending.get(position, []):
                self._ending[position].remove(number)
            self._ending.setdefault(position + length, []).append(number)
        return numbers
