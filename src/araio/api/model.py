"""`Model`: a checkpoint ready to be asked, from Python.

    model = araio.load("pocket")
    answer = model.chat("What is 47 + 38 - 12?")
    answer.reasoning, answer.content, answer.usage

It joins the parts below: weights and kernels, tokenizer and chat format, the engine. Threads may ask one
`Model` at the same time; what they ask then runs together. Read `loading.py` for where one comes from,
`engine/engine.py` for how it runs, `engine/request.py` for the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from araio.api import passes
from araio.api.answer_stream import AnswerStream
from araio.api.recording import Layers, Recording, RecordingOptions
from araio.api.votes import Votes, vote
from araio.config import ModelConfig
from araio.engine.answer import Answer, Event, last_answer
from araio.engine.effort import Effort
from araio.engine.engine import Engine
from araio.engine.forms import ChatOptions
from araio.engine.generate import PREFILL_CHUNK
from araio.engine.generation import Generation
from araio.engine.prepare import Preparer
from araio.engine.profiles import AskedProfile, Profiles
from araio.engine.speculate import Speculate
from araio.engine.tokens import Watch
from araio.meters.meter import Meter
from araio.nn.approximations import Approximation
from araio.nn.identity import router_fingerprint
from araio.text.chat import ChatFormat
from araio.text.tokenizer import Tokenizer
from araio.weights.load import Loaded

if TYPE_CHECKING:
    from araio.costs.tariff import Tariff
    from araio.engine.receipts import Receipts

__all__ = ["Messages", "Model"]

Messages: TypeAlias = str | Sequence[Mapping[str, Any]]
"""A question, or a conversation of {"role", "content", ...}; `text/messages.py` tells what else."""


class Model:
    """A loaded model with its tokenizer and its chat format.

    Every generating method takes the fields of `SamplingParams` as keywords; what is not given comes from
    the checkpoint's `generation_config.json`, then from the defaults.

    tariff   what receipts count grams and money by; the defaults if None, whatever the environment says
    budget   what each part of it may take of memory
    approximate  name of how other experts are chosen than the model's own router would; None if answers are
             exact, as they are, too, where `cached` was asked for and every expert is in memory
    experts  where its experts come from, and what became of them; None where all are in memory
    adapter  whose experts are in place of its own; None where there is none
    profiles  those that it was given: requests may ask for them by name
    """

    def __init__(
        self,
        name: str,
        loaded: Loaded,
        tokenizer: Tokenizer,
        chat_format: ChatFormat,
        generation_defaults: Mapping[str, Any],
        stop_ids: Sequence[int] = (),
        speculate: Speculate = "auto",
        meter: Meter | None = None,
        tariff: Tariff | None = None,
        approximation: Approximation | None = None,
        max_batch: int = 16,
    ) -> None:
        network = loaded.network
        self.name = name
        self.network = network
        self.budget = loaded.budget
        self.experts = loaded.experts
        self.adapter = loaded.adapter
        self.approximate = None if approximation is None else approximation.name
        if approximation is not None:
            network.approximation = approximation
        self.profiles = Profiles(network.config, lambda: self.fingerprint, self.approximate)
        self.tokenizer = tokenizer
        self.chat_format = chat_format
        self.generation_defaults = dict(generation_defaults)
        self._tariff = tariff
        self.recording: Recording | None = None
        """The one that runs, if one does; see `trace`."""
        self.engine = Engine(
            network,
            tokenizer,
            max_batch=max_batch,
            chunk=loaded.budget.chunk,
            cache_tokens=loaded.budget.cache_tokens,
            speculate=speculate,
            meter=meter,
            streamed=loaded.experts,
        )
        eos = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        self._preparer = Preparer(
            self._own_name,
            self.engine,
            tokenizer,
            chat_format,
            generation_defaults,
            list(dict.fromkeys([*eos, *network.config.eos_token_id, *stop_ids])),
            lambda: self.receipts,
            self.profiles,
        )

    @cached_property
    def receipts(self) -> Receipts:
        """Makes the receipt of each answer; loaded with the first one, behind its last token."""
        from araio.costs.tariff import default_tariff
        from araio.engine.receipts import Receipts

        # Nothing here may fail any more: the answer is there.
        tariff = self._tariff or default_tariff(self.name)
        return Receipts(self._own_name, self.network.config, self.engine.meter, tariff, self.approximate)

    @property
    def config(self) -> ModelConfig:
        """The architecture, as `config.json` gives it."""
        return self.network.config

    @property
    def chunk(self) -> int:
        """Tokens that run together where a whole sequence is given."""
        return min(PREFILL_CHUNK, self.budget.chunk)

    @cached_property
    def fingerprint(self) -> str:
        """Which routers it has; see `nn.identity`. Traces and profiles of another model carry another one."""
        return router_fingerprint(self.network)

    @property
    def label(self) -> str:
        """Its name, and how its answers differ from its own if they do."""
        mask = self.profiles.default
        inexact = self.approximate if mask is None else f"mask {mask.name}"
        return self._own_name if inexact is None else f"{self._own_name} ({inexact})"

    @property
    def _own_name(self) -> str:
        """With the adapter's, without which it would be another model."""
        return self.name if self.adapter is None else f"{self.name} + {self.adapter.name}"

    def chat(self, messages: Messages, **sampling: Any) -> Answer:
        """Answer a question or continue a conversation; see `prepare` for what it raises."""
        return last_answer(self.stream(messages, **sampling))

    def vote(
        self,
        messages: Messages,
        n: int,
        *,
        on_answer: Callable[[], None] = lambda: None,
        **sampling: Any,
    ) -> Votes:
        """Answer `n` times at once, and give the answer that most come to, with all of them.

        sampling   as in `chat`; without a temperature, here or in the checkpoint, `votes.VOTING_TEMPERATURE`.
                   Of a seed s the answers have s, s + 1, ..., so that of more votes the first are the same
        on_answer  called when an answer is done

        Raises:
            RequestError: a number of votes out of range.
            Exception: what `prepare` raises.
        """
        return vote(self, messages, n, on_answer, **sampling)

    def stream(self, messages: Messages, **sampling: Any) -> AnswerStream:
        """The same answer as `chat` in pieces: reasoning and content deltas, then one `Finish`.

        `answer_now` of what comes back ends the thinking, from any thread.

        Raises:
            GenerationError: a model whose output is not a number; while iterating.
            Exception: what `prepare` raises; at once.
        """
        generation = self.prepare(messages, **sampling)
        return AnswerStream(generation, self._events(generation))

    def complete(self, text: str | Sequence[int], **sampling: Any) -> Answer:
        """Continue plain text, without a chat format: all that follows is `content`; see `prepare_text`."""
        return last_answer(self._events(self.prepare_text(text, **sampling)))

    def prepare(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = "auto",
        parallel_tool_calls: bool = True,
        response_format: Mapping[str, Any] | None = None,
        thinking_budget: int | None = None,
        effort: Effort | None = None,
        repetition_guard: bool = False,
        continue_final_message: bool = False,
        watch_experts: Watch | None = None,
        profile: AskedProfile | None = None,
        **sampling: Any,
    ) -> Generation:
        """The request for an answer, checked and ready to run; any thread may make one.

        The keywords have OpenAI's meanings; `engine.forms.ChatOptions` tells each.

        Raises:
            RequestError: a parameter out of range, forms that do not go together, a conversation that fills
                the context, or a profile that the model was not given.
            ProfileError: a profile of another model.
            TextError: messages that the chat format cannot render; tools or a schema that cannot be used.
            CacheFullError: a conversation that fills the cache.
        """
        return self.prepare_choices(
            messages,
            [sampling],
            tools=tools,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            response_format=response_format,
            thinking_budget=thinking_budget,
            effort=effort,
            repetition_guard=repetition_guard,
            continue_final_message=continue_final_message,
            watch_experts=watch_experts,
            profile=profile,
        )[0]

    def prepare_choices(
        self, messages: Messages, samplings: Sequence[Mapping[str, Any]], **options: Any
    ) -> list[Generation]:
        """Several answers to one conversation, whose prompt is made once, ready to run.

        samplings  for each answer, how to choose its tokens: the fields of `SamplingParams`
        options    the other keywords of `prepare`, which says what is refused
        """
        conversation = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        return self._preparer.choices(conversation, ChatOptions(**options), samplings)

    def prepare_text(
        self,
        prompt: str | Sequence[int],
        *,
        watch_experts: Watch | None = None,
        profile: AskedProfile | None = None,
        **sampling: Any,
    ) -> Generation:
        """The request to continue plain text, ready to run; token ids are taken as they are.

        watch_experts, profile  as in `engine.forms.ChatOptions`

        Raises:
            RequestError: a parameter out of range, ids outside the vocabulary, a prompt that fills the
                context, or a profile that the model was not given.
            ProfileError: a profile of another model.
            TextError: text that cannot be encoded.
            CacheFullError: a prompt that fills the cache.
        """
        return self._preparer.text(prompt, watch_experts, profile, sampling)

    def logits(self, ids: Sequence[int], *, profile: AskedProfile | None = None) -> npt.NDArray[np.float32]:
        """Logits after every token of a sequence: (T,) ids to (T, W) float32.

        profile  as in `engine.forms.ChatOptions`

        Raises:
            RequestError: no ids, one outside the vocabulary, more than the context holds, an unknown profile.
            ProfileError: a profile of another model.
        """
        mask = self.profiles.mask(profile)
        with self.engine.lock:
            return passes.logits(self.network, ids, mask, self.chunk)

    def route(
        self, ids: Sequence[int], *, profile: AskedProfile | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Which experts one forward pass chose for every token, and their weights.

        profile  as in `engine.forms.ChatOptions`
        returns  (T, M, K) int32 expert ids and (T, M, K) float32 weights, for the M layers of
                 `config.moe_layers` in order; N in place of K with `top-N`

        Raises:
            RequestError, ProfileError: as `logits`.
        """
        mask = self.profiles.mask(profile)
        with self.engine.lock:
            return passes.chosen(self.network, ids, mask, self.chunk)

    def trace(
        self,
        path: str | Path,
        *,
        domain: str = "all",
        text: bool = True,
        weights: bool = True,
        margin: bool = False,
        layers: Layers = "all",
        max_tokens: int | None = None,
        overwrite: bool = False,
    ) -> Recording:
        """Record the experts of every token that runs within the block, whichever thread asks.

        path        of the trace, a folder; by custom `NAME.moetrace`
        domain      of the requests, unless `Recording.domain` says otherwise
        text        keep the tokens themselves; without them a trace shows routes and no text
        weights     keep the weight of each expert
        margin      keep how far each choice was from being another one; costs some speed
        layers      numbers of the routed layers to keep
        max_tokens  record no more once there are so many
        overwrite   replace a trace that is there, once the new one is complete

        Raises:
            RequestError: a model that routes nothing, layers that do not, a name that no domain can have; or,
                as the block begins, a model that is being recorded already.
            TraceError: as the block begins, a path that is taken; as it ends, a disk that refuses, or a block
                in which nothing ran.
        """
        options = RecordingOptions(domain, text, weights, margin, layers, max_tokens, overwrite)
        return Recording(self, path, options)

    def _events(self, generation: Generation) -> Iterator[Event]:
        with closing(self.engine.tokens(generation.job)) as tokens:
            yield from generation.events(tokens)
