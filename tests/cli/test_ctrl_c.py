"""Ctrl-C where Python loses it: swallowed by code that is not ours, or between two `try`."""

import signal
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest

from araio.cli import main as main_module
from araio.cli import prompt_loop as prompt_loop_module
from araio.cli import screen as screen_module
from araio.cli.commands import run as run_module
from araio.cli.ctrl_c import CtrlC
from araio.cli.screen import Screen
from araio.engine.answer import ContentDelta


def press():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def ctrl_c():
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    installed = CtrlC()
    installed.install()
    yield installed
    signal.signal(signal.SIGINT, earlier)


def press_in_vain(*_):
    with suppress(KeyboardInterrupt):
        press()


def answer_that_swallows():
    yield ContentDelta("one")
    press_in_vain()
    yield ContentDelta("two")
    raise AssertionError("nobody waits for it any more")


def test_a_press_that_code_swallows_ends_what_is_watched(ctrl_c):
    watched = ctrl_c.watched(answer_that_swallows())
    assert next(watched) == ContentDelta("one")
    with pytest.raises(KeyboardInterrupt):
        next(watched)
    ctrl_c.forget()
    assert list(ctrl_c.watched(iter([3]))) == [3]


@pytest.mark.parametrize(("options", "shown"), [([], "one"), (["--json"], "")])
def test_a_press_that_code_swallows_ends_one_question_with_130(
    ctrl_c, monkeypatch, capsys, tiny, options, shown
):
    class Model:
        experts = None
        profiles = SimpleNamespace(known={})

        def stream(self, messages, **sampling):
            return answer_that_swallows()

    for module in (main_module, screen_module, run_module):
        monkeypatch.setattr(module, "ctrl_c", ctrl_c)
    monkeypatch.setattr(run_module, "load_by", lambda *_, **__: Model())
    with pytest.raises(SystemExit) as caught:
        main_module.main(["run", "-m", str(tiny), "-p", "hi", *options])
    assert caught.value.code == 130
    assert capsys.readouterr().out == shown


def test_a_press_that_an_import_swallows_ends_the_command(ctrl_c, monkeypatch, capsys):
    monkeypatch.setattr(main_module, "ctrl_c", ctrl_c)
    monkeypatch.setattr(main_module, "import_module", press_in_vain)
    with pytest.raises(SystemExit) as caught:
        main_module.main(["doctor"])
    assert caught.value.code == 130
    assert capsys.readouterr().out == ""


def test_a_press_while_held_waits_until_it_is_heard(ctrl_c):
    with ctrl_c.held():
        press()
        with pytest.raises(KeyboardInterrupt), ctrl_c.heard():
            raise AssertionError("it came before")
        ctrl_c.forget()
        with ctrl_c.heard():
            pass
    with pytest.raises(KeyboardInterrupt):
        press()


def test_a_second_press_does_not_disturb_what_cleans_up_after_the_first(ctrl_c):
    cleaned = []

    def work():
        try:
            press()
        finally:
            press()
            cleaned.append(True)

    with ctrl_c.held():
        with pytest.raises(KeyboardInterrupt), ctrl_c.heard():
            work()
        assert cleaned
        ctrl_c.forget()
        with pytest.raises(KeyboardInterrupt), ctrl_c.heard():
            press()


def test_a_program_started_deaf_to_it_stays_so():
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        deaf = CtrlC()
        deaf.install()
        with deaf.held(), deaf.heard():
            press()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, earlier)


def test_a_press_between_question_and_answer_stops_the_answer_and_not_the_program(
    ctrl_c, monkeypatch, capsys
):
    class Pressed(str):
        def strip(self, chars=None):
            press()
            return super().strip(chars)

    lines = iter([Pressed("hi"), "/exit"])
    monkeypatch.setattr("builtins.input", lambda *prompt: next(lines))
    monkeypatch.setattr(prompt_loop_module, "ctrl_c", ctrl_c)

    def answer(messages):
        raise AssertionError("nobody waits for it any more")

    prompt_loop_module.prompt_loop(answer, [], Screen(hide_thinking=False), lambda _: None)
    assert "Stopped; this question is forgotten." in capsys.readouterr().err


def test_a_first_answer_imports_nothing_until_it_is_whole(tiny):
    """Compiled modules swallow KeyboardInterrupt while they are imported, as NumPy's random numbers do."""
    code = (
        "import sys, araio.cli.commands.run; from araio.api import load; model = load(sys.argv[1]); "
        "before = {*sys.modules}; events = model.stream('hi', max_tokens=64, seed=0); next(events); "
        "print({*sys.modules} - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tiny], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "set()\n"
