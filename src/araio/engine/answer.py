"""What comes back from a generation: the events of a stream, and the `Answer` that they add up to.

Plain data that goes to JSON as it is. `usage` has the field names of the OpenAI API; what araio adds stands
under its own key: the receipt. Read `api/model.py` next, which makes these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypedDict

from araio.engine.tokens import ExpertRoutes
from araio.text.tool_calls import ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from araio.costs.receipt import Receipt

__all__ = [
    "Answer",
    "ContentDelta",
    "Delta",
    "Event",
    "Finish",
    "FinishReason",
    "ReasoningDelta",
    "Step",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "last_answer",
]

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]
"""Why an answer ended: by itself or at a stop string, at a limit, or by itself with calls in it."""


class PromptTokensDetails(TypedDict):
    """Parts of `prompt_tokens`."""

    cached_tokens: int


class CompletionTokensDetails(TypedDict):
    """Parts of `completion_tokens`."""

    reasoning_tokens: int


class Usage(TypedDict):
    """Token counts of one request; `total_tokens = prompt_tokens + completion_tokens`.

    araio  what it took beyond tokens: `Receipt.to_json`
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails
    araio: dict[str, Any]


@dataclass(frozen=True)
class Timings:
    """Seconds spent in the engine; the time a consumer takes between two events does not count."""

    prefill_s: float
    """Until the first token: the prompt's forward passes and one draw."""
    decode_s: float
    """All tokens after the first."""
    completion_tokens: int

    @property
    def tok_per_s(self) -> float | None:
        """Decoding speed; None for an answer of one token, which has no decoding time."""
        return (self.completion_tokens - 1) / self.decode_s if self.decode_s > 0 else None


@dataclass(frozen=True)
class TokenLogprob:
    """One token with its log-probability, and the most likely tokens in its place.

    text   as the token alone decodes, U+FFFD for a character that it holds in part
    bytes  that it stands for
    alternatives  (id, text, logprob), best first
    is_reasoning  it belongs to the thinking, or to a tag around it
    """

    id: int
    text: str
    bytes: bytes
    logprob: float
    alternatives: tuple[tuple[int, str, float], ...]
    is_reasoning: bool = False


@dataclass(frozen=True)
class Answer:
    """A finished generation."""

    model: str
    reasoning: str
    content: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    receipt: Receipt
    tool_calls: tuple[ToolCall, ...] = ()
    stop_reason: str | None = None
    """The stop string that ended the text, or "repetition", see `ChatOptions`; None if something else did."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    """Of every token of the prompt, if asked for; None for the first, which nothing stands before."""
    routes: ExpertRoutes | None = None
    """(T - 1, M, K) the experts of every position but the last, which does not run; if asked for."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `araio run --json`."""
        return {
            "model": self.model,
            "reasoning": self.reasoning,
            "content": self.content,
            "finish_reason": self.finish_reason,
            "usage": self.usage,
        }


@dataclass(frozen=True)
class ReasoningDelta:
    """A piece of the thinking before the answer."""

    text: str


@dataclass(frozen=True)
class ContentDelta:
    """A piece of the answer."""

    text: str


Delta: TypeAlias = ReasoningDelta | ContentDelta | ToolCallDelta
"""Something to show."""


class Step(NamedTuple):
    """What one token came to.

    id             of the token
    deltas         the text that it settled, often none; none of them is empty
    logprob        of the token, if asked for
    is_reasoning   it belongs to the thinking, or to a tag around it
    finish_reason  None except on the last token
    routes         (M, K) the experts at the position where the token was chosen, if asked for
    """

    id: int
    deltas: list[Delta]
    logprob: TokenLogprob | None
    is_reasoning: bool
    finish_reason: FinishReason | None
    routes: ExpertRoutes | None = None


@dataclass(frozen=True)
class Finish:
    """The end of a stream; `answer` holds everything that came before."""

    answer: Answer


Event: TypeAlias = Delta | Finish


def last_answer(events: Iterable[Event]) -> Answer:
    """Run a stream to its end and return the answer."""
    *_, finish = events
    assert isinstance(finish, Finish)
    return finish.answer
