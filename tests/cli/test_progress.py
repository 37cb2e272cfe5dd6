"""Progress where there is no terminal: few lines on stderr, the first when the work begins."""

import io

import pytest
from rich.console import Console

from araio.cli.progress import LineProgress


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def told():
    """A progress, its clock, and what it has told so far, taken line by line."""
    written = io.StringIO()
    clock = Clock()
    progress = LineProgress(Console(file=written), "{:,}".format, clock)

    def lines():
        text = written.getvalue()
        written.seek(0)
        written.truncate()
        return text.splitlines()

    return progress, clock, lines


def test_it_tells_of_the_first_task_at_once_and_of_its_parts_never(told):
    progress, clock, lines = told
    progress.add_task("answering", total=2000)
    assert lines() == ["answering: 0 of 2,000, 0% after 0 s"]
    part = progress.add_task("chain", total=100)
    clock.now_s += 59
    progress.advance(part)
    assert lines() == []


def test_a_tenth_is_told_but_not_within_ten_seconds(told):
    progress, clock, lines = told
    task = progress.add_task("comparing", total=100)
    lines()
    clock.now_s += 9
    progress.advance(task, 50)
    assert lines() == []
    clock.now_s += 1
    progress.advance(task)
    assert lines() == ["comparing: 51 of 100, 51% after 10 s"]
    clock.now_s += 30
    progress.advance(task, 9)
    assert lines() == []
    progress.update(task, advance=1, description="comparing on")
    assert lines() == ["comparing on: 61 of 100, 61% after 40 s"]


def test_a_minute_is_told_even_without_a_tenth(told):
    progress, clock, lines = told
    task = progress.add_task("training", total=100_000)
    lines()
    clock.now_s += 60
    progress.advance(task)
    assert lines() == ["training: 1 of 100,000, 0% after 60 s"]


def test_work_of_unknown_length_is_told_once_it_is_known(told):
    progress, clock, lines = told
    task = progress.add_task("[bold]loading\x1b", total=None)
    clock.now_s += 100
    progress.update(task)
    assert lines() == []
    progress.update(task, total=4, completed=1)
    assert lines() == ["[bold]loading: 1 of 4, 25% after 100 s"]
