"""`POST /v1/completions`: text, or token ids, continued without a chat format; and scored, with `echo`.

With `echo` and `logprobs` the prompt's own tokens get their log-probabilities, which is how evaluation
harnesses compare answers. Read `schema_completions.py` for what may be asked, `completion_choice.py` for the
shape of what comes back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, ClassVar

from fastapi import APIRouter, Response

from araio.engine.answer import ContentDelta, Step
from araio.engine.generation import Generation
from araio.serve.asked import Asked
from araio.serve.completion_choice import Offsets, completion_choice, echoed, logprobs_of
from araio.serve.schema_answers import CompletionAnswer
from araio.serve.schema_completions import CompletionRequest, Prompt
from araio.serve.service import Service
from araio.serve.sse import DONE, data_event, streamed
from araio.serve.state import Holder, ServiceOf
from araio.serve.steps import Steps, merged
from araio.serve.strict_json import JsonRoute
from araio.serve.usage import running_usage, usage_of_prompts

__all__ = ["router"]

KIND = "text_completion"

router = APIRouter(route_class=JsonRoute, tags=["completions"])


@router.post(
    "/v1/completions",
    summary="Continue text",
    responses=streamed(CompletionAnswer, "text", "chunks"),
)
async def completions(body: CompletionRequest, service: ServiceOf, holder: Holder) -> Response:
    """What follows a prompt, or each of several; choice `i` of prompt `p` has the index `p * n + i`."""
    service.check_model(body.model)
    body.check(service.settings, service.context)
    return AskedCompletion(body, service, holder).response(is_stream=bool(body.stream))


class AskedCompletion(Asked):
    """One request under way."""

    fields: ClassVar[Mapping[str, str]] = {"prompt_logprobs": "logprobs"}

    def __init__(self, body: CompletionRequest, service: Service, holder: str) -> None:
        super().__init__(service, holder, "cmpl", len(body.prompts) * body.choices)
        self._body = body
        self._prompts = body.prompts

    def document(self, flows: Sequence[Steps]) -> dict[str, Any]:
        tokenizer = self.service.model.tokenizer
        choices = [
            completion_choice(index, self._prompt(index), flow, self._body, tokenizer)
            for index, flow in enumerate(flows)
        ]
        return {**self.head(KIND), "choices": choices, "usage": self._usage(flows)}

    async def events(self) -> AsyncGenerator[bytes]:
        """The choices as they come."""
        async with self.answering() as flows:
            offsets = [Offsets() for _ in flows]
            if self._body.echo:
                for index, echo in enumerate(await self.service.start(self._echoes)):
                    offsets[index] = Offsets(len(echo))
                    yield self._event(flows, index, echo)
            async for index, step in merged(flows):
                yield self._step_event(flows, index, step, offsets[index])
            if self._body.includes_usage:
                yield data_event({**self.head(KIND), "choices": [], "usage": self._usage(flows)})
            yield DONE

    def prepare(self) -> list[Generation]:
        prepare, body = self.service.model.prepare_text, self._body
        made: list[Generation] = []
        for prompt in self._prompts:
            first = prepare(prompt, **body.arguments(0))
            ids = first.job.prompt.tolist() if body.choices > 1 else ()  # a text is encoded once
            made += [first, *(prepare(ids, **body.arguments(choice)) for choice in range(1, body.choices))]
        return made

    def _prompt(self, index: int) -> Prompt:
        """The prompt of a choice."""
        return self._prompts[index // self._body.choices]

    def _usage(self, flows: Sequence[Steps]) -> dict[str, Any]:
        answers = [flow.answer() for flow in flows]
        n = self._body.choices
        return usage_of_prompts([answers[start : start + n] for start in range(0, len(answers), n)])

    def _echoes(self) -> list[str]:
        """The prompt of each choice as text; called beside the event loop, for it may be long."""
        texts = [echoed(prompt, self.service.model.tokenizer) for prompt in self._prompts]
        return [text for text in texts for _ in range(self._body.choices)]

    def _step_event(self, flows: Sequence[Steps], index: int, step: Step, offsets: Offsets) -> bytes:
        text = "".join(delta.text for delta in step.deltas if isinstance(delta, ContentDelta))
        more: dict[str, Any] = {}
        if step.logprob is not None:
            more["logprobs"] = logprobs_of([step.logprob], offsets)
        if self._body.return_token_ids:
            more["token_ids"] = [step.id]
        return self._event(flows, index, text, step.finish_reason, **more)

    def _event(
        self,
        flows: Sequence[Steps],
        index: int,
        text: str,
        finish_reason: str | None = None,
        **more: Any,
    ) -> bytes:
        choice = {
            "index": index,
            "text": text,
            "logprobs": None,
            "finish_reason": finish_reason,
            "stop_reason": None if finish_reason is None else flows[index].stop_reason,
            **more,
        }
        chunk = {**self.head(KIND), "choices": [choice]}
        if self._body.has_running_usage:
            chunk["usage"] = running_usage(flows)
        elif self._body.includes_usage:
            chunk["usage"] = None
        return data_event(chunk)
