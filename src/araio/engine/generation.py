"""`Generation`: a request that is ready to run, and what its tokens add up to.

    generation = model.prepare("What is 47 + 38 - 12?")
    for token in engine.tokens(generation.job): generation.take(token, seconds)
    generation.answer()

Making one runs nothing and takes no lock, so any thread may. Whoever runs the engine hands it the tokens of
its job, in order; it gives back what there is to show. Read `prepare.py` for who makes it, `transcript.py`
for the counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from araio.engine.answer import Answer, Event, Finish, Step, TokenLogprob
from araio.engine.guide import ThinkingGuide
from araio.engine.job import Job
from araio.engine.tokens import GeneratedToken
from araio.engine.transcript import Transcript, timed

if TYPE_CHECKING:
    from araio.engine.receipts import Receipts

__all__ = ["REPETITION", "Generation", "Step"]

REPETITION = "repetition"
"""The stop reason of an answer that was ended because it only repeated itself."""


class Generation:
    """One prepared request.

    job       what the engine runs
    model     name that the answer carries
    receipts  gives those of the model; asked for behind the last token
    thinking  the guide of the job that can end its thinking; None where there is none to end
    """

    def __init__(
        self,
        model: str,
        job: Job,
        transcript: Transcript,
        receipts: Callable[[], Receipts],
        thinking: ThinkingGuide | None = None,
    ) -> None:
        self.job = job
        self._thinking = thinking
        self._model = model
        self._transcript = transcript
        self._receipts = receipts

    @property
    def is_reasoning(self) -> bool:
        """Whether the next token belongs to the thinking, as far as those so far tell."""
        return self._transcript.is_reasoning

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the thinking so far."""
        return self._transcript.reasoning_tokens

    @property
    def completion_tokens(self) -> int:
        """Tokens so far."""
        return self._transcript.tokens

    def end_reasoning(self) -> bool:
        """Answer now: close the thinking with the next token that is made. Any thread may ask.

        returns  False if it is not thinking, or not any more
        """
        return not self.job.is_done and self._thinking is not None and self._thinking.end_reasoning()

    def take(self, token: GeneratedToken, seconds: float) -> Step:
        """The next token of the job, and the seconds that the engine took for it."""
        return self._transcript.add(token, seconds)

    def events(self, tokens: Iterator[GeneratedToken]) -> Iterator[Event]:
        """All that the tokens of the job give: deltas, then one `Finish`; raises what making them does."""
        for token, seconds in timed(tokens):
            yield from self.take(token, seconds).deltas
        yield Finish(self.answer())

    def prompt_logprobs(self) -> tuple[TokenLogprob | None, ...] | None:
        """Of every token of the prompt, all of them once the answer begins; None if not asked for."""
        return self._transcript.prompt_logprobs(self.job)

    def answer(self) -> Answer:
        """All of it, once the last token was taken; where none was wanted, once the job is done."""
        answer = self._transcript.answer(self._model, self.job, self._receipts())
        has_looped = self._thinking is not None and self._thinking.is_looping
        return replace(answer, stop_reason=REPETITION) if has_looped else answer
