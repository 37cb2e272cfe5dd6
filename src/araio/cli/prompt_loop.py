"""The prompt loop of `araio run`: a conversation, one line at a time.

Ctrl-C stops the answer, not the program, and the question it belonged to is forgotten; Ctrl-D leaves. An
error in one turn is shown and the conversation goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from araio.cli.ctrl_c import ctrl_c
from araio.cli.screen import Screen
from araio.engine.answer import Answer, Event
from araio.errors import AraioError

__all__ = ["prompt_loop"]

Message = dict[str, Any]

PROMPT = ">>> "
HELP = """\
  /clear   forget the conversation
  /exit    leave; so does Ctrl-D
  /help    this list
  Ctrl-C   stop the answer
  Ctrl-\\   stop the thinking, and have the answer"""


def prompt_loop(
    answer: Callable[[list[Message]], Iterator[Event]],
    system: list[Message],
    screen: Screen,
    keep: Callable[[Answer], None],
) -> None:
    """Read questions until the end of input and show their answers.

    answer  the events that answer a conversation
    system  messages that stand before the first question, kept by /clear
    keep    called with every answer that was shown
    """
    with suppress(ImportError):  # a Python without readline still reads lines, without editing them
        import readline  # noqa: F401 - input() edits lines once it is imported
    screen.note("Ask something; /clear forgets what was said, /help lists commands, Ctrl-D leaves.")
    with ctrl_c.held():
        _converse(answer, system, screen, keep)


def _converse(
    answer: Callable[[list[Message]], Iterator[Event]],
    system: list[Message],
    screen: Screen,
    keep: Callable[[Answer], None],
) -> None:
    messages = list(system)
    while (line := _read_line(screen)) is not None:
        match line.strip():
            case "":
                continue
            case "/exit":
                return
            case "/clear":
                messages = list(system)
                screen.note("The conversation is forgotten.")
            case "/help":
                screen.note(HELP)
            case command if command.startswith("/"):
                screen.note(f"no command {command.split()[0]}; there are /clear, /exit and /help")
            case question:
                messages += _turn(answer, [*messages, {"role": "user", "content": question}], screen, keep)


def _turn(
    answer: Callable[[list[Message]], Iterator[Event]],
    messages: list[Message],
    screen: Screen,
    keep: Callable[[Answer], None],
) -> list[Message]:
    """Ask, show, and return the turn's two messages; none if it was stopped or failed."""
    try:
        with ctrl_c.heard():
            finished: Answer = screen.show(answer(messages))
    except KeyboardInterrupt:
        ctrl_c.forget()
        screen.interrupt("Stopped; this question is forgotten.")
        return []
    except AraioError as error:
        screen.note(f"error: {error}")
        return []
    keep(finished)
    reply = {"role": "assistant", "content": finished.content, "reasoning_content": finished.reasoning}
    return [messages[-1], reply]


def _read_line(screen: Screen) -> str | None:
    """One line from the user; None at the end of input."""
    while True:
        try:
            with ctrl_c.heard():
                if sys.stdout.isatty():
                    return input(PROMPT)
                # With stdout in a pipe, input() would write the prompt into it.
                sys.stderr.write(PROMPT)
                sys.stderr.flush()
                return input()
        except EOFError:
            sys.stderr.write("\n")
            return None
        except KeyboardInterrupt:
            ctrl_c.forget()
            screen.note("\nCtrl-D or /exit leaves.")
