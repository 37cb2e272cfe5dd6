"""`AnswerStream`: the events of an answer as they come, and a way to have the answer now."""

from __future__ import annotations

from collections.abc import Iterator

from araio.engine.answer import Event
from araio.engine.generation import Generation

__all__ = ["AnswerStream"]


class AnswerStream(Iterator[Event]):
    """Iterating runs the request; closing ends it."""

    def __init__(self, generation: Generation, events: Iterator[Event]) -> None:
        self._generation = generation
        self._events = events

    def __next__(self) -> Event:
        return next(self._events)

    def answer_now(self) -> bool:
        """Close the thinking with the next token that is made, as a budget of so many tokens would.

        Any thread may ask, and a signal handler, too.

        returns  False if it is not thinking, or not any more
        """
        return self._generation.end_reasoning()

    def close(self) -> None:
        """End the request, whatever is left of it."""
        close = getattr(self._events, "close", None)
        if close is not None:
            close()
