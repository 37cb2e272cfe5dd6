"""`Preparer`: makes a `Generation` of what somebody asks: template, ids, parameters, all of it checked.

Nothing here runs the model or waits for who does, so any thread may prepare. A mistake in a request is told
here, never while it runs. Read `generation.py` for what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from araio.engine.effort import budget_of
from araio.engine.engine import Engine
from araio.engine.forms import ChatOptions, Forms
from araio.engine.generation import Generation
from araio.engine.guide import FormGuide, ThinkingGuide, ThinkingTags
from araio.engine.profiles import AskedProfile, Profiles
from araio.engine.request import check_thinking_budget, params_from
from araio.engine.tokens import Watch
from araio.engine.transcript import Transcript
from araio.errors import blaming
from araio.nn.mask import ExpertMask
from araio.text.chat import ChatFormat
from araio.text.reasoning import ReasoningSplitter
from araio.text.tokenizer import Tokenizer
from araio.text.tool_calls import ToolCallSplitter

if TYPE_CHECKING:
    from araio.engine.receipts import Receipts

__all__ = ["Preparer"]


class Preparer:
    """Of one model.

    model     its name, as answers carry it
    defaults  sampling parameters that hold where a request says nothing
    stop_ids  that end an answer, the first of them as the model's own chat format does
    receipts  gives those of the model
    profiles  those of the model
    """

    def __init__(
        self,
        model: str,
        engine: Engine,
        tokenizer: Tokenizer,
        chat_format: ChatFormat,
        defaults: Mapping[str, Any],
        stop_ids: Sequence[int],
        receipts: Callable[[], Receipts],
        profiles: Profiles,
    ) -> None:
        self._model = model
        self._engine = engine
        self._tokenizer = tokenizer
        self._chat_format = chat_format
        self._defaults = dict(defaults)
        self._stop_ids = frozenset(stop_ids)
        self._end = stop_ids[0] if stop_ids else None
        self._receipts = receipts
        self._profiles = profiles
        self._forms = Forms(tokenizer, engine.model.config.vocab_size, stop_ids)

    def choices(
        self,
        messages: Sequence[Mapping[str, Any]],
        options: ChatOptions,
        samplings: Sequence[Mapping[str, Any]],
    ) -> list[Generation]:
        """Answers to one conversation, each chosen in its own way; `Model.prepare` says what is refused.

        What is alike for all, the prompt among it, is made once.
        """
        check_thinking_budget(options.thinking_budget)
        budget = budget_of(options.effort, options.thinking_budget)
        ends_loops = self._end if options.repetition_guard else None
        mask = self._profiles.mask(options.profile)
        tools, choice = options.read_tools()
        with blaming("messages"):
            prompt = self._chat_format.render(
                messages,
                tools=tools,
                tool_choice=choice,
                continue_final_message=options.continue_final_message,
            )

        def made(sampling: Mapping[str, Any]) -> Generation:
            with blaming("tools" if options.response_format is None else "response_format"):
                form = self._forms.guide(options, tools, choice, prompt.starts_in_reasoning)
            guide = ThinkingGuide(
                self._tokenizer,
                self._tags,
                prompt.starts_in_reasoning,
                budget,
                form,
                within=self._forms.thinking if isinstance(form, FormGuide) else None,
                ends_loops=ends_loops,
            )
            splitter = ReasoningSplitter(
                prompt.starts_in_reasoning, is_continued=options.continue_final_message
            )
            calls = None if choice.mode == "none" else ToolCallSplitter()
            transcript = Transcript(self._tokenizer, splitter, calls)
            return self._generation(prompt.ids, transcript, guide, options.watch_experts, mask, sampling)

        return [made(sampling) for sampling in samplings]

    def text(
        self,
        prompt: str | Sequence[int],
        watch_experts: Watch | None,
        profile: AskedProfile | None,
        sampling: Mapping[str, Any],
    ) -> Generation:
        """What follows plain text, or ids as they are; `Model.prepare_text` says what is refused."""
        mask = self._profiles.mask(profile)
        with blaming("prompt"):
            ids = self._ids(prompt)
        return self._generation(ids, Transcript(self._tokenizer), None, watch_experts, mask, sampling)

    @cached_property
    def _tags(self) -> ThinkingTags:
        return ThinkingTags(self._tokenizer)

    def _ids(self, prompt: str | Sequence[int]) -> Sequence[int]:
        if not isinstance(prompt, str):
            return prompt
        opening = [] if self._tokenizer.bos_id is None else [self._tokenizer.bos_id]
        return opening + self._tokenizer.encode(prompt)

    def _generation(
        self,
        ids: Sequence[int],
        transcript: Transcript,
        thinking: ThinkingGuide | None,
        watch_experts: Watch | None,
        mask: ExpertMask | None,
        sampling: Mapping[str, Any],
    ) -> Generation:
        params = params_from(dict(sampling), self._defaults)
        with blaming("prompt"):
            job = self._engine.prepare(
                ids, params, self._stop_ids, thinking, watches=watch_experts, mask=mask
            )
        return Generation(self._model, job, transcript, self._receipts, thinking)
