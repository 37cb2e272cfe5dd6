"""A trace in a few lines, as `araio trace show` and its kin print it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from araio.cli.numbers import bytes_text
from araio.traces import Phase, Segment, Trace, Valid

__all__ = ["folder_bytes", "trace_document", "trace_lines"]


def folder_bytes(folder: Path) -> int:
    """Of all files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def trace_document(trace: Trace, path: Path) -> dict[str, Any]:
    """What a trace holds, counted; all of it is read and checked."""
    trace.check()
    header, counts = trace.header, trace.counts
    by_domain = counts.n[:, :, 0].sum(axis=(1, 2)) // header.top_k
    document: dict[str, Any] = {
        "trace": str(path),
        "model": header.model,
        "fingerprint": header.fingerprint,
        "layers": list(header.layers),
        "routed_layers": trace.experts.shape[1],
        "n_routed_experts": header.n_routed_experts,
        "top_k": header.top_k,
        "engine": header.engine,
        "profile": header.profile,
        "created": header.created,
        "columns": list(header.columns),
        "tokens": trace.tokens,
        "domains": dict(zip(header.domains, by_domain.tolist(), strict=True)),
        "bytes": folder_bytes(path),
    }
    if trace.has("position"):
        valid = trace.column("valid")
        document |= {
            "sequences": len(trace.sequences),
            "phases": _counted(trace, "phase", Phase),
            "segments": _counted(trace, "segment", Segment),
            "cached": int(((valid & Valid.CACHED) != 0).sum()),
            "guided": int(((valid & Valid.GUIDED) != 0).sum()),
            "drafted_rows": 0 if trace.draft is None else trace.draft.tokens,
            "cache_events": 0 if trace.cache_events is None else len(trace.cache_events.t),
        }
    return document


def trace_lines(document: dict[str, Any]) -> list[tuple[str, str]]:
    """The same as names and texts."""
    layers = document["layers"]
    numbers = f"{layers[0]} to {layers[-1]}" if layers else "of unknown numbers"
    lines = [
        ("model", f"{document['model']}, recorded by {document['engine']}"),
        ("created", document["created"] or "unknown"),
        (
            "routers",
            f"{document['routed_layers']} layers ({numbers}), {document['top_k']} of "
            f"{document['n_routed_experts']}",
        ),
        ("tokens", f"{document['tokens']:,}, {bytes_text(document['bytes'])}"),
        ("domains", _listed(document["domains"])),
    ]
    if document["profile"] is not None:
        lines.append(("profile", document["profile"]))
    if "sequences" in document:
        lines += [
            ("sequences", f"{document['sequences']:,}"),
            ("ran as", _listed(document["phases"])),
            ("part of", _listed(document["segments"])),
            ("from the prefix cache", f"{document['cached']:,}"),
            ("forced by a guide", f"{document['guided']:,}"),
            ("rows of layers that draft", f"{document['drafted_rows']:,}"),
            ("cache events", f"{document['cache_events']:,}"),
        ]
    lines.append(("optional columns", ", ".join(document["columns"]) or "none"))
    return lines


def _counted(trace: Trace, column: str, kinds: type[Phase] | type[Segment]) -> dict[str, int]:
    values = trace.column(column)
    found = {kind.name.lower(): int((values == kind).sum()) for kind in kinds}
    return {name: count for name, count in found.items() if count}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
