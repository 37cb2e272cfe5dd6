"""Numbers as every command prints them: counts, bytes, operations and shares, each to one decimal."""

from __future__ import annotations

__all__ = ["bytes_text", "count_text", "flops_text", "memory_text", "share_text", "speed_text"]


def count_text(number: int) -> str:
    """A count: `671.0B`, `7.8M`, `512`."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return str(number)


def bytes_text(size: int) -> str:
    """Bytes in decimal units, as disks and downloads count them: `18.3 MB`."""
    for unit_bytes, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit_bytes:
            return f"{size / unit_bytes:,.1f} {unit}"
    return f"{size} bytes"


def memory_text(size: int) -> str:
    """Bytes in binary units, as memory is given with `--ram`: `4.0 GiB`, `384 MiB`."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def flops_text(operations: int) -> str:
    """Floating-point operations: `73.2 GFLOP`."""
    for size, unit in ((10**15, "PFLOP"), (10**12, "TFLOP"), (10**9, "GFLOP")):
        if operations >= size:
            return f"{operations / size:,.1f} {unit}"
    return f"{operations / 10**6:,.1f} MFLOP"


def share_text(part: int, whole: int) -> str:
    """A part of a whole: `5.5%`."""
    return f"{part / whole:.1%}"


def speed_text(tok_per_s: float) -> str:
    """Three digits where they matter: 2,143 and 14.9 and 0.83."""
    if tok_per_s >= 100:
        return f"{tok_per_s:,.0f}"
    return f"{tok_per_s:.1f}" if tok_per_s >= 10 else f"{tok_per_s:.2f}"
