"""What `araio eval --budgets --votes` prints: accuracy by what is spent on thinking."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from araio.cli.printable import printable
from araio.eval.thinking import Point, Sweep

__all__ = ["sweep_tables"]


def sweep_tables(found: Sweep) -> RenderableType:
    """One table for budgets and one for votes, whichever there are."""
    title = f"{found.model}, split {found.split}, seed {found.seed}, {found.seconds:.0f} s"
    parts: list[RenderableType] = [Text(printable(title))]
    if found.budgets:
        parts.append(_table("greedy, thinking closed after", found.budgets, _budget))
    if found.votes:
        heading = f"samples at temperature {found.temperature:g}, votes of"
        parts.append(_table(heading, found.votes, lambda point: str(point.votes)))
    return Group(*parts)


def _budget(point: Point) -> str:
    return "no limit" if point.budget is None else f"{point.budget:,} tokens"


def _table(title: str, points: Sequence[Point], name_of: Callable[[Point], str]) -> Table:
    table = Table(title=Text(title), title_justify="left")
    table.add_column("task")
    columns = list(dict.fromkeys(name_of(point) for point in points))
    for column in columns:
        table.add_column(column, justify="right")
    for task in dict.fromkeys(point.task for point in points):
        cells = {name_of(point): _cell(point) for point in points if point.task == task}
        table.add_row(task, *(cells[column] for column in columns))
    return table


def _cell(point: Point) -> str:
    low, high = point.to_dict()["ci95"]
    share = f"{point.correct / point.n:.1%} ({100 * low:.0f} to {100 * high:.0f})"
    return f"{share}\n{point.tokens:,.0f} tokens"
