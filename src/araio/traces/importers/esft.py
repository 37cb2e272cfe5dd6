"""ESFT's text files: `DOMAIN/expert_weights_LAYER.txt`, as the scripts of deepseek-ai/ESFT write them.

One line is one sequence: the K expert ids of its first token, of its second and so on, separated by tabs; an
empty field; their weights in the same order. Some versions put the files of each process into a folder of
its own, `DOMAIN/rank_0`. The weights are softmax probabilities of four decimals, not normalised, and a
token's experts are in no order. The model is DeepSeek-V2-Lite's class unless a header says otherwise.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.errors import TraceError
from araio.traces.columns import Phase
from araio.traces.header import TraceHeader
from araio.traces.trace import Trace

__all__ = ["is_esft", "read_esft"]

Array = npt.NDArray[Any]

# What the scripts have as constants.
_MODEL = TraceHeader(
    model="DeepSeek-V2-Lite (ESFT)",
    n_routed_experts=64,
    top_k=6,
    scoring_func="softmax",
    norm_topk_prob=False,
    engine="esft",
)
_FILE = re.compile(r"expert_weights_(\d{1,4})\.txt", re.ASCII)


def is_esft(folder: Path) -> bool:
    """Whether a folder holds such files, itself or in folders for domains."""
    return bool(_folders(folder))


def read_esft(path: Path, header: TraceHeader | None, domain: str | None) -> Trace:
    """The routes of one domain's folder, or of a folder of such; see `import_trace`.

    Raises TraceError.
    """
    folders = _folders(path)
    if not folders:
        raise TraceError(f"{path}: holds no expert_weights_LAYER.txt, nor does a folder in it")
    traces = []
    for folder in folders:
        name = folder.parent.name if folder.name.startswith("rank") else folder.name
        traces.append(_read(folder, header or _MODEL, domain or name))
    return Trace.join(traces)


def _folders(path: Path) -> list[Path]:
    """The folders with files, at most two levels down: a domain's, and in it a process's."""
    found = {
        file.parent for pattern in ("", "*/", "*/*/") for file in path.glob(f"{pattern}expert_weights_*.txt")
    }
    return sorted(found)


def _read(folder: Path, header: TraceHeader, domain: str) -> Trace:
    files = {int(match[1]): file for file in folder.iterdir() if (match := _FILE.fullmatch(file.name))}
    layers = tuple(sorted(files))
    if header.layers and header.layers != layers:
        raise TraceError(f"{folder}: has files of layers {list(layers)}; expected {list(header.layers)}")
    parsed = [_Layer(files[layer], header) for layer in layers]
    for layer in parsed[1:]:
        layer.check_like(parsed[0])
    lengths = parsed[0].lengths
    return Trace.from_arrays(
        replace(header, layers=layers, domains=(domain,)),
        expert_ids=np.stack([layer.ids for layer in parsed], axis=1),
        weights=np.stack([layer.weights for layer in parsed], axis=1),
        seq=np.repeat(np.arange(len(lengths)), lengths),
        phase=np.full(sum(lengths), Phase.FORCED),
    )


class _Layer:
    """One file: ids and weights (T, K) of all sequences, and the lengths of those."""

    def __init__(self, path: Path, header: TraceHeader) -> None:
        self.path = path
        ids, weights, self.lengths = [], [], []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise TraceError(f"{path}: cannot be read ({error})") from None
        for number, line in enumerate(lines, 1):
            chosen, mass = _parsed(f"{path}:{number}", line, header)
            ids.append(chosen)
            weights.append(mass)
            self.lengths.append(len(chosen))
        if not ids:
            raise TraceError(f"{path}: is empty; expected a line for each sequence")
        self.ids, self.weights = np.concatenate(ids), np.concatenate(weights)

    def check_like(self, other: _Layer) -> None:
        """Refuse a layer that has seen other sequences."""
        for number, (mine, its) in enumerate(zip(self.lengths, other.lengths, strict=False), 1):
            if mine != its:
                raise TraceError(f"{self.path}:{number}: has {mine} tokens; {other.path.name} has {its}")
        if len(self.lengths) != len(other.lengths):
            raise TraceError(
                f"{self.path}: has {len(self.lengths)} sequences; {other.path.name} has {len(other.lengths)}"
            )


def _parsed(where: str, line: str, header: TraceHeader) -> tuple[Array, Array]:
    left, separator, right = line.partition("\t\t")
    ids, weights = _numbers(where, left), _numbers(where, right)
    top_k = header.top_k
    if not separator or len(ids) != len(weights) or not len(ids) or len(ids) % top_k:
        raise TraceError(
            f"{where}: has {len(ids)} expert ids and {len(weights)} weights; expected as many of both, "
            f"{top_k} for each token"
        )
    if not np.isin(ids, np.arange(header.n_routed_experts)).all():
        raise TraceError(f"{where}: an expert id is not one of 0 to {header.n_routed_experts - 1}")
    # What a trace can hold; NaN is in no range.
    if not ((weights >= 0) & (weights <= np.finfo(np.float16).max)).all():
        raise TraceError(f"{where}: a weight is negative, too large or not a number")
    rows = ids.astype(np.int64).reshape(-1, top_k)
    ordered = np.sort(rows, axis=1)
    repeats = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if len(repeats):
        raise TraceError(
            f"{where}: token {int(repeats[0])} chose an expert twice; are there {top_k} of a token?"
        )
    return rows, weights.reshape(-1, top_k)


def _numbers(where: str, text: str) -> npt.NDArray[np.float64]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what is no number ends the array with a mere warning
            return np.fromstring(text, np.float64, sep="\t")
    except (DeprecationWarning, ValueError):
        raise TraceError(
            f"{where}: holds something that is no number; expected ids, a gap, weights"
        ) from None
