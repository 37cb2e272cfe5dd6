"""`CompletionRequest`: the body of `POST /v1/completions`: one or several prompts, as text or as token ids.

Read `schema.py` for the fields that it shares with conversations, `completions.py` for what becomes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeAlias, cast

from pydantic import ConfigDict, Field

from araio.engine.request import MAX_LOGPROBS
from araio.serve.errors import check_count, invalid
from araio.serve.schema import MAX_INTEGER, SamplingFields
from araio.serve.settings import Settings

__all__ = ["CompletionRequest", "Prompt"]

TokenId = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
# Each form is tried in turn, and a prompt of many tokens is no text a hundred thousand times over.
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
Texts = Annotated[list[str], Field(min_length=1, fail_fast=True)]
ManyTokenIds = Annotated[list[TokenIds], Field(min_length=1, fail_fast=True)]

Prompt: TypeAlias = str | Sequence[int]


class CompletionRequest(SamplingFields):
    """Text to be continued, without a chat format."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "Once upon a time", "max_tokens": 8}]}
    )

    unsupported: ClassVar[Mapping[str, str]] = {
        "response_format": "ask /v1/chat/completions",
        "prompt_logprobs": "give echo and logprobs",
    }

    prompt: str | Texts | TokenIds | ManyTokenIds
    max_tokens: int | None = Field(
        None,
        ge=0,
        le=MAX_INTEGER,
        description="16 if absent, as OpenAI has it; 0 only with echo and logprobs.",
    )
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    echo: bool | None = Field(None, description="The prompt stands before its continuation.")
    best_of: int | None = Field(None, ge=1, le=128, description="Not more than n: nothing is thrown away.")
    suffix: str | None = Field(None, description="Not supported.")

    @property
    def prompts(self) -> list[Prompt]:
        """All prompts, one by one."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [cast(Prompt, self.prompt)]
        return cast(list[Prompt], self.prompt)

    @property
    def scores_prompt(self) -> bool:
        """Whether the log-probabilities of the prompt's own tokens are asked for."""
        return bool(self.echo) and self.logprobs is not None

    def check(self, settings: Settings, context: int) -> None:
        """Refuse what is more than this server, or this model, allows, and fields that contradict others.

        Raises:
            ApiError: naming the field.
        """
        super().check(settings, context)
        check_count("prompt", len(self.prompts), settings.prompts, "prompts")
        check_count("logprobs", self.logprobs or 0, settings.top_logprobs, "top_logprobs")
        if self.suffix:
            raise invalid("suffix is not supported; the model writes from left to right", "suffix")
        if self.best_of is not None and self.best_of != self.choices:
            raise invalid(f"best_of is {self.best_of}; only n ({self.choices}) is supported", "best_of")
        if self.max_tokens == 0 and not self.scores_prompt:
            raise invalid("max_tokens is 0; only echo with logprobs has something to tell then", "max_tokens")
        if self.stream and self.scores_prompt:
            raise invalid("echo with logprobs comes in one piece; set stream to false", "echo")

    def arguments(self, choice: int) -> dict[str, Any]:
        """Keywords of `Model.prepare_text` for one of the choices."""
        given = self.sampling(choice)
        given["max_tokens"] = 16 if self.max_tokens is None else self.max_tokens
        if self.logprobs is not None:
            given["logprobs"] = self.logprobs
            if self.echo:
                given["prompt_logprobs"] = self.logprobs
        if self.profile is not None:
            given["profile"] = self.profile
        if self.return_routed_experts:
            given["watch_experts"] = "all"
        return given
