r"""`Guide`: what a request's tokens must be, or may be, whatever the model would choose.

`ThinkingGuide` ends the thinking: after a budget of tokens, where it only repeats itself if that is watched
for, or when somebody asks for the answer now. It forces the closing tag token by token and lets go; a tag
that comes once more, behind the thinking, gives no text. `FormGuide` lets pass what a grammar allows,
`SingleCallGuide` one call of a tool. One request's guide sees each of its tokens in order, drafted or not, so
what it does depends on nothing else; a forced token is not drawn. Read `sampling.py` for the one caller.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
import numpy.typing as npt

from araio.engine.loops import LoopDetector
from araio.text.deepseek import END_THINK, THINK
from araio.text.reasoning import ReasoningSplitter
from araio.text.tokenizer import Span, Tokenizer
from araio.text.tool_calls import ToolCallSplitter

__all__ = ["FormGuide", "Guide", "Matcher", "SingleCallGuide", "ThinkingGuide", "ThinkingTags"]

BoolArray = npt.NDArray[np.bool_]


class Guide(Protocol):
    """Of one request. For each token it is asked what is forced, else what is allowed, and then told."""

    def forced(self) -> int | None:
        """The token that comes next; None leaves the choice."""

    def allowed(self) -> BoolArray | None:
        """(W,) the tokens to choose from, at least one; None if all are."""

    def accept(self, token_id: int) -> None:
        """The token that came."""

    @property
    def is_silent(self) -> bool:
        """Whether the token that came last is a mark without a meaning where it stands, and gives no text."""


class Matcher(Protocol):
    """Follows a grammar, as `text.grammar.Matcher` does."""

    def mask(self) -> BoolArray:
        """(W,) the tokens that may come next."""

    def accept(self, token_id: int) -> None:
        """The token that came."""


class FormGuide:
    """All that comes has the form that a grammar describes."""

    is_silent = False

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher

    def forced(self) -> int | None:
        """Nothing: where only one token is allowed, it is the one that is chosen."""
        return None

    def allowed(self) -> BoolArray:
        """What the grammar allows here."""
        return self._matcher.mask()

    def accept(self, token_id: int) -> None:
        """The grammar goes on."""
        self._matcher.accept(token_id)


class SingleCallGuide:
    """An answer may call a tool, and ends behind its first complete call.

    eos_id  the token that ends it
    """

    is_silent = False

    def __init__(self, tokenizer: Tokenizer, eos_id: int) -> None:
        self._stream = tokenizer.stream()
        self._calls = ToolCallSplitter()
        self._eos_id = eos_id
        self._silent = ThinkingTags(tokenizer).tags

    def forced(self) -> int | None:
        """The end, once there is a whole call."""
        return self._eos_id if self._calls.complete else None

    def allowed(self) -> None:
        """All: until then the model is free."""

    def accept(self, token_id: int) -> None:
        """The answer goes on; a tag of thinking gives no text there, and is no part of a call."""
        if token_id not in self._silent:
            self._calls.push(self._stream.push(token_id))


class ThinkingTags:
    """Ids of the tags around the thinking, in the words of one tokenizer.

    opening  the tag that a model may begin with, if that is one token
    closing  the end of the thinking and the blank line behind it, where a line has just ended
    breaking the same where none has
    tags     those of both kinds that are one token
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        is_control = THINK in tokenizer.control_tokens
        self.opening = tokenizer.token_id(THINK) if is_control else None
        single = tokenizer.control_tokens & {THINK, END_THINK}
        self.tags = frozenset(token_id for tag in single if (token_id := tokenizer.token_id(tag)) is not None)
        self.closing = tokenizer.encode_spans([Span(f"{END_THINK}\n\n", is_trusted=True)])
        self.breaking = tokenizer.encode_spans([Span(f"\n{END_THINK}\n\n", is_trusted=True)])


class ThinkingGuide:
    """Tells thinking from answer while they are made, and can end the one.

    starts_in_reasoning  the prompt has opened the thinking
    budget               tokens of thinking, its opening tag included, after which it is closed; the closing
                         tag comes on top. None sets no limit
    answer               guides what follows the thinking
    within               (W,) what may come within the thinking; None if everything may. An answer that must
                         have a form must not end before it has begun
    ends_loops           the token that ends an answer which only repeats itself; the thinking is closed if it
                         does. None lets both go on
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tags: ThinkingTags,
        starts_in_reasoning: bool,
        budget: int | None = None,
        answer: Guide | None = None,
        within: BoolArray | None = None,
        ends_loops: int | None = None,
    ) -> None:
        self.is_silent = False
        self.is_looping = False
        """Whether the answer ended because it only repeated itself."""
        self._ends_loops = ends_loops
        self._loops = None if ends_loops is None else LoopDetector()
        self._tags = tags
        self._budget = budget
        self._answer = answer
        self._within = within
        self.thinking = range(0)
        """Which of the tokens so far belong to the thinking."""
        self.imposed = range(0)
        """Which of them were forced to end it."""
        self._splitter = ReasoningSplitter(starts_in_reasoning)
        self._stream = tokenizer.stream()
        self._accepted = 0
        self._tokens = 0  # of the thinking
        self._is_enough = False
        self._is_new_line = False
        self._closing: deque[int] = deque()

    @property
    def is_reasoning(self) -> bool:
        """Whether the next token is one of the thinking."""
        return self._splitter.is_reasoning

    def end_reasoning(self) -> bool:
        """Close the thinking with the next token; False if there is none. Any thread may ask."""
        if not self.is_reasoning:
            return False
        self._is_enough = True
        return True

    def forced(self) -> int | None:
        """The closing tag, once it is time for it."""
        if not self._closing and self._splitter.is_reasoning:
            if not self._is_enough and (self._budget is None or self._tokens < self._budget):
                return None
            self._closing.extend(self._tags.closing if self._is_new_line else self._tags.breaking)
        if self._closing:
            return self._closing[0]
        if self.is_looping:
            return self._ends_loops
        return None if self._answer is None else self._answer.forced()

    def allowed(self) -> BoolArray | None:
        """Within the thinking what may come there; behind it, what the answer's guide allows."""
        if self._splitter.is_reasoning:
            return self._within
        if self._answer is None:
            return None
        allowed = self._answer.allowed()
        if allowed is not None and self._splitter.may_open and self._tags.opening is not None:
            allowed = allowed.copy()
            allowed[self._tags.opening] = True
        return allowed

    def accept(self, token_id: int) -> None:
        """Count a token, to the thinking or to the answer."""
        self._accept(token_id)
        if self._loops is not None and self._loops.push(token_id):
            if not self.end_reasoning():
                self.is_looping = True
            self._loops.forget()

    def _accept(self, token_id: int) -> None:
        was_reasoning, may_open = self._splitter.is_reasoning, self._splitter.may_open
        place = self._accepted
        self._accepted += 1
        # Who was made to answer may close the thinking that it goes on with. To forbid that would change what
        # it says instead, so the tag comes, and counts, and is no part of the text.
        is_meant = was_reasoning or (may_open and token_id == self._tags.opening)
        self.is_silent = token_id in self._tags.tags and not is_meant
        if self._closing:
            forced = self._closing.popleft()
            assert token_id == forced
            self._read(token_id)
            self.imposed = _grown(self.imposed, place)
            if was_reasoning:
                self.thinking = _grown(self.thinking, place)
        elif (was_reasoning or may_open) and not self.is_silent:
            self._read(token_id)
            is_reasoning = was_reasoning or self._splitter.is_reasoning
            self._tokens += is_reasoning
            if is_reasoning:
                self.thinking = _grown(self.thinking, place)
            elif self._answer is not None:
                self._answer.accept(token_id)
        elif self._answer is not None:
            self._answer.accept(token_id)

    def _read(self, token_id: int) -> None:
        text = self._stream.push(token_id)
        self._splitter.push(text)
        self._is_new_line = text.endswith("\n")


def _grown(run: range, place: int) -> range:
    """The run with one place more, behind it; its first one if it had none."""
    return range(run.start if run else place, place + 1)
