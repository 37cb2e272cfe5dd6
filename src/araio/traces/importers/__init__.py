"""`import_trace`: what other programs recorded of routes, as a `Trace`.

SGLang's dumps and responses, vLLM's and araio's `routed_experts`, ESFT's text files, Parquet files that araio
wrote. What such a file does not say, a header says; what neither says is an error, never a guess. Every error
names the file, and the line, choice or record in it. Read `esft.py`, `sglang.py` and `vllm.py` for the
formats.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from araio.errors import TraceError
from araio.json_reader import shown
from araio.traces.header import TraceHeader
from araio.traces.importers.documents import first_document
from araio.traces.importers.esft import is_esft, read_esft
from araio.traces.importers.parquet import read_parquet
from araio.traces.importers.sglang import read_sglang
from araio.traces.importers.vllm import read_vllm
from araio.traces.trace import Trace

__all__ = ["KINDS", "import_trace"]

Importer: TypeAlias = Callable[[Path, TraceHeader | None, str | None], Trace]

KINDS: dict[str, Importer] = {
    "esft": read_esft,
    "parquet": read_parquet,
    "sglang": read_sglang,
    "vllm": read_vllm,
}


def import_trace(
    path: str | Path,
    kind: str | None = None,
    *,
    header: TraceHeader | None = None,
    domain: str | None = None,
) -> Trace:
    """Read routes that another program recorded.

    kind    esft, parquet, sglang or vllm; None to tell from the file
    header  of the model: `TraceHeader.of` its config. ESFT's files are of one model and need none; those of
            vLLM do not say how many experts there are
    domain  name for all of it; None for the file's name without its ending, or the names of ESFT's folders

    Raises TraceError.
    """
    path = Path(path)
    if kind is not None and kind not in KINDS:
        raise TraceError(f"kind {shown(kind)} is not known; expected one of {', '.join(KINDS)}")
    if not path.exists():
        raise TraceError(f"{path}: does not exist")
    return KINDS[kind or _kind(path)](path, header, domain)


def _kind(path: Path) -> str:
    if path.is_dir():
        if is_esft(path):
            return "esft"
        expected = "expert_weights_LAYER.txt files, in it or in a folder for each domain"
    elif path.suffix == ".pt":
        return "sglang"
    elif path.suffix in (".npy", ".parquet"):
        return "vllm" if path.suffix == ".npy" else "parquet"
    elif path.suffix in (".json", ".jsonl"):
        document = first_document(path)
        if "meta_info" in document or "logical_count" in document:
            return "sglang"
        if "choices" in document:
            return "vllm"
        expected = "a response of SGLang (meta_info), of vLLM or araio (choices), or SGLang's logical_count"
    else:
        expected = "a .pt, .npy, .json, .jsonl or .parquet file, or a folder of ESFT's text files"
    raise TraceError(f"{path}: is of no kind that can be imported; expected {expected}")
