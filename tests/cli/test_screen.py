import io
from types import SimpleNamespace

import pytest

from araio.cli import screen as screen_module
from araio.cli.screen import Screen, footer
from araio.costs.receipt_text import receipt_line, receipt_text
from araio.engine.answer import Answer, ContentDelta, Finish, ReasoningDelta, Timings


class Stream(io.StringIO):
    def __init__(self, log, name, is_terminal):
        super().__init__()
        self.log, self.name, self.is_terminal = log, name, is_terminal

    def isatty(self):
        return self.is_terminal

    def write(self, text):
        self.log.append((self.name, text))
        return super().write(text)


@pytest.fixture
def streams(monkeypatch):
    """Replaces stdout and stderr; what is written to either, in order, is in `log`."""

    def replace(is_terminal):
        log = []
        out, err = Stream(log, "out", is_terminal), Stream(log, "err", is_terminal)
        monkeypatch.setattr(screen_module.sys, "stdout", out)
        monkeypatch.setattr(screen_module.sys, "stderr", err)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        return SimpleNamespace(out=out, err=err, log=log)

    return replace


@pytest.fixture
def answer(make_receipt):
    def make(content="73", finish_reason="stop"):
        timings, receipt = Timings(0.19, 0.11, 12), make_receipt()
        return Answer("pocket", "47 + 38", content, finish_reason, {}, timings, receipt)

    return make


EVENTS = [ReasoningDelta("47 "), ReasoningDelta("+ 38"), ContentDelta("7"), ContentDelta("3")]


def test_in_pipes_the_streams_stay_apart_and_plain(streams, answer):
    to = streams(is_terminal=False)
    done = answer()
    assert Screen(hide_thinking=False).show(iter([*EVENTS, Finish(done)])) is done
    assert to.out.getvalue() == "73\n"
    assert to.err.getvalue() == "47 + 38\n\n" + footer(done, is_whole=False) + "\n"


def test_on_a_terminal_thinking_is_dim_and_comes_before_the_answer(streams, answer):
    to = streams(is_terminal=True)
    Screen(hide_thinking=False).show(iter([*EVENTS, Finish(answer())]))
    assert to.log[:5] == [
        ("err", "\x1b[2m47 \x1b[0m"),
        ("err", "\x1b[2m+ 38\x1b[0m"),
        ("err", "\n\n"),
        ("out", "7"),
        ("out", "3"),
    ]


def test_a_note_between_answer_and_footer_has_a_line_of_its_own(streams, answer):
    shown = streams(is_terminal=True)
    screen = Screen(hide_thinking=False)

    def events():
        yield from EVENTS
        screen.note("note: the log is full")
        yield Finish(answer())

    screen.show(events())
    text = "".join(piece for _, piece in shown.log)
    assert "73\n\x1b[2mnote: the log is full\x1b[0m\n\x1b[2mthought" in text
    assert shown.out.getvalue() == "73\n"


def test_hidden_thinking(streams, answer):
    to = streams(is_terminal=True)
    Screen(hide_thinking=True).show(iter([*EVENTS, Finish(answer())]))
    assert to.log[0] == ("out", "7")
    assert "47" not in to.err.getvalue()


def test_a_terminal_gets_no_control_characters_and_a_pipe_gets_all(streams, answer):
    text = "a\x1b]0;title\x07\x9bb\tc\nd\r\x7f"
    for is_terminal, shown in ((True, "a]0;titleb\tc\nd\n"), (False, text + "\n")):
        to = streams(is_terminal)
        Screen(hide_thinking=False).show(iter([ContentDelta(text), Finish(answer(text))]))
        assert to.out.getvalue() == shown


def test_an_answer_without_text_leaves_stdout_empty(streams, answer):
    to = streams(is_terminal=False)
    Screen(hide_thinking=False).show(iter([ReasoningDelta("hm\n"), Finish(answer(""))]))
    assert to.out.getvalue() == ""
    assert to.err.getvalue().startswith("hm\n\nthought")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_plain_terminals(streams, monkeypatch, name, value, answer):
    to = streams(is_terminal=True)
    monkeypatch.setenv(name, value)
    Screen(hide_thinking=False).show(iter([*EVENTS, Finish(answer())]))
    assert "\x1b" not in to.err.getvalue()


def test_the_footer_is_the_receipt_and_tells_of_a_limit(answer):
    done, cut = answer(), answer(finish_reason="length")
    line, whole = receipt_line(done.receipt), receipt_text(done.receipt)
    told = "cut off at the token limit; raise --max-tokens, or --cache-tokens"
    assert footer(done, is_whole=False) == line
    assert footer(done, is_whole=True) == whole
    assert footer(cut, is_whole=False) == f"{line} · {told}"
    assert footer(cut, is_whole=True) == f"{whole}\n{told}"


def test_a_whole_receipt_follows_where_it_is_asked_for(streams, answer):
    to = streams(is_terminal=False)
    done = answer()
    Screen(hide_thinking=True, whole_receipt=True).show(iter([Finish(done)]))
    assert to.err.getvalue() == receipt_text(done.receipt) + "\n"


def test_notes_carry_no_control_characters(streams):
    to = streams(is_terminal=True)
    Screen(hide_thinking=False).note("error: the template says \x1b]0;owned\x07\x9b2J")
    assert to.err.getvalue() == "\x1b[2merror: the template says ]0;owned2J\x1b[0m\n"
