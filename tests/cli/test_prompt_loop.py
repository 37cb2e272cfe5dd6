"""The prompt loop on a terminal: a pseudo-terminal whose line discipline turns 0x03 and 0x04 into signals."""

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

import pytest


class Terminal:
    """A program on a terminal of its own, with what it has shown so far."""

    def __init__(self, *arguments, **environment):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "araio", "run", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", **environment},
        )
        os.close(slave)
        self.shown = ""

    def type(self, text):
        os.write(self.master, text.encode())

    def wait_for(self, pattern, seconds=120.0):
        """Wait until what was shown since the last match matches; returns the match."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.shown, re.DOTALL)):
            assert time.monotonic() < deadline, f"{pattern!r} did not appear in {self.shown!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.shown += self._read()
        self.shown = self.shown[match.end() :]
        return match

    def press_until(self, key, pattern):
        """Press again and again: a signal between readline's prompt and its wait shows at the next key."""
        for _ in range(20):
            self.type(key)
            try:
                return self.wait_for(pattern, seconds=2)
            except AssertionError:
                continue
        raise AssertionError(f"{pattern!r} did not appear in {self.shown!r}")

    def end(self):
        """Wait for the end; the exit code."""
        while select.select([self.master], [], [], 120)[0] and (text := self._read()):
            self.shown += text
        return self.process.wait(120)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def _read(self):
        try:
            return os.read(self.master, 4096).decode(errors="replace")
        except OSError:  # Linux's way to say that nobody holds the other end any more
            return ""


@pytest.fixture
def terminal():
    opened = []

    def start(*arguments, **environment):
        opened.append(Terminal(*arguments, **environment))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_a_conversation_until_ctrl_d(terminal, tiny):
    screen = terminal(tiny, "--max-tokens", 8, "--seed", 1)
    screen.wait_for("/help lists commands.*>>> ")
    screen.type("hi\n")
    screen.wait_for(r"\x1b\[2m.*thought 8 tokens.*>>> ")
    screen.type("again\n")
    screen.wait_for("thought 8 tokens.*>>> ")
    screen.type("\x04")
    assert screen.end() == 0
    assert "Traceback" not in screen.shown


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal, endless):
    screen = terminal(endless, "--temperature", 0, "--max-tokens", 100_000)
    screen.wait_for(">>> ")
    screen.type("hi\n")
    screen.wait_for(r"\x1b\[2m")
    screen.type("\x03")
    screen.wait_for("Stopped; this question is forgotten.*>>> ")
    screen.press_until("\x03", "Ctrl-D or /exit leaves.*>>> ")
    screen.type("/exit\n")
    assert screen.end() == 0
    assert "Traceback" not in screen.shown


def test_commands(terminal, tiny):
    screen = terminal(tiny)
    screen.wait_for(">>> ")
    screen.type("/help\n")
    screen.wait_for("/clear.*/exit.*Ctrl-C.*>>> ")
    screen.type("/clear\n")
    screen.wait_for("is forgotten.*>>> ")
    screen.type("/nonsense 5\n")
    screen.wait_for("no command /nonsense; there are /clear, /exit and /help.*>>> ")
    screen.type("\n")
    screen.wait_for(">>> ")
    screen.type("/exit\n")
    assert screen.end() == 0


def test_a_conversation_too_long_is_told_and_goes_on(terminal, tiny):
    screen = terminal(tiny, "--max-tokens", 4, "--seed", 1)
    screen.wait_for(">>> ")
    screen.type("why " * 300 + "\n")
    screen.wait_for("error: the prompt has .* context holds 256.*>>> ")
    screen.type("hi\n")
    screen.wait_for("thought 4 tokens.*>>> ")


def test_no_color_and_dumb_terminals_get_no_escapes(terminal, tiny):
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        screen = terminal(tiny, "hi", "--max-tokens", 8, "--seed", 1, **environment)
        assert screen.end() == 0
        assert "thought 8 tokens" in screen.shown
        assert "\x1b[2m" not in screen.shown


def test_json_needs_a_question(terminal, tiny):
    screen = terminal(tiny, "--json")
    assert screen.end() == 2
    assert "error: --json answers one question" in screen.shown
