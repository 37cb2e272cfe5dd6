"""What `araio bench stream` shows: what was measured beside the best that disk and memory allow."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from araio.cli.numbers import bytes_text, memory_text, speed_text
from araio.cli.printable import printable
from araio.eval.streaming import StreamReport

__all__ = ["stream_screen"]


def stream_screen(report: StreamReport) -> Group:
    """Two lines of what it is, the table, and how the limits came about."""
    machine = report.machine
    title = (
        f"{report.model} in {memory_text(report.budget.ram)} of memory on {machine['name']}, "
        f"{machine['cores_usable']} cores, {report.kernels} kernels"
    )
    share = f"{report.held / report.experts:.0%}"
    experts = f"{report.held:,} of {report.experts:,} experts in memory at a time ({share}), {report.reading}"
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in ("measured", "", "limit"):
        table.add_column(heading, justify="right")
    for cells in (*_speeds(report), *_uses(report), *_disk(report)):
        table.add_row(*map(Text, cells))
    return Group(
        Text(printable(title), style="bold"),
        Text(printable(experts)),
        Text(),
        table,
        Text(),
        *map(Text, _notes(report)),
    )


def _speeds(report: StreamReport) -> list[tuple[str, ...]]:
    slowest, fastest = min(report.round_speeds), max(report.round_speeds)
    count = len(report.tokens)
    share = report.tok_per_s / report.optimum_tok_per_s
    alone = "  computing alone", count / report.compute_s
    if report.in_memory_s is not None:
        alone = "  with every expert in memory", count / report.in_memory_s
    return [
        (f"prompt of {report.prompt_tokens}", f"{speed_text(report.prompt_tok_per_s)} tok/s"),
        (
            f"decoding, {count} tokens",
            f"{speed_text(report.tok_per_s)} tok/s",
            f"{share:.0%} of",
            f"{speed_text(report.optimum_tok_per_s)} tok/s",
        ),
        ("  slowest and fastest round", f"{speed_text(slowest)} to {speed_text(fastest)}"),
        (alone[0], f"{speed_text(alone[1])} tok/s"),
        ("  waiting for experts", f"{report.waited_share:.0%}"),
    ]


def _uses(report: StreamReport) -> list[tuple[str, ...]]:
    counts, count = report.counts, len(report.tokens)

    def row(name: str, uses: float, limit: float | None = None) -> tuple[str, ...]:
        best = "" if limit is None else f"{limit:.0%}"
        return name, f"{uses / count:,.1f}", f"{uses / counts.uses:.0%}", best

    reads = f"{counts.reads / count:,.1f}"
    bytes_read = counts.read_bytes / count
    best_bytes = report.optimum_reads * report.record_bytes / count
    pinned = [row("  pinned in memory", counts.pinned)] if counts.pinned else []
    rows = [
        ("experts of a token", f"{counts.uses / count:,.1f}"),
        *pinned,
        row("  found in memory", counts.cached, report.optimum_hit_share - counts.pinned / counts.uses),
        row("  read ahead", counts.prefetched),
        row("  missed", counts.missed),
        ("experts read for a token", reads, "", f"{report.optimum_reads / count:,.1f}"),
        ("bytes read for a token", bytes_text(round(bytes_read)), "", bytes_text(round(best_bytes))),
    ]
    if counts.unused_bytes:
        rows.append(("  of them for nothing", bytes_text(round(counts.unused_bytes / count))))
    return rows


def _disk(report: StreamReport) -> list[tuple[str, ...]]:
    busy, ceiling = report.busy_bytes_per_s, report.ceiling_bytes_per_s
    whole = report.counts.read_bytes / report.seconds
    return [
        ("disk, while it is read", _gb(busy), f"{busy / ceiling:.0%} of", _gb(ceiling)),
        ("  over the whole time", _gb(whole)),
        ("memory of the process", memory_text(report.used_bytes), "", memory_text(report.budget.ram)),
    ]


def _notes(report: StreamReport) -> list[str]:
    low, high = min(report.ceiling), max(report.ceiling)
    notes = [
        "limit of the disk: random reads as large as an expert, between the rounds: "
        f"{_gb(low)} to {_gb(high)}",
        "limit of hits and reads: Belady's, which knows the routes of all tokens in advance; of speed: these "
        "reads at the disk's limit, all of them while something is computed",
    ]
    if report.in_memory_s is None:
        notes.append(
            "computing alone is the time less the waiting; the whole model takes "
            f"{memory_text(report.budget.whole)}, more than this machine can spare"
        )
    return notes


def _gb(bytes_per_s: float) -> str:
    return f"{bytes_per_s / 1e9:.2f} GB/s"
