"""The fields that requests of several routes share: how to choose tokens, how to stream, what to report.

Types are strict and every number has its range, so that what is wrong is told by name before anything is
done. A field that nobody knows is ignored, with a line in the log; a known one that araio cannot serve is
refused. Read `schema_chat.py` and `schema_completions.py` for the requests.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from araio.engine.request import MAX_SEED, MAX_STOP_CHARACTERS, MAX_STOP_STRINGS
from araio.serve.errors import ApiError, check_count, invalid
from araio.serve.settings import Settings

__all__ = ["Body", "ProfileName", "RequestBody", "SamplingFields", "StreamOptions"]

MAX_INTEGER = 2**31 - 1
MAX_LOGIT_BIASES = 300
MOST_NOTED = 8
MOST_NAMES = 256

log = logging.getLogger("araio.serve")
_noted: set[str] = set()

StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,10}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]


def _count_biases(value: Any) -> Any:
    """Refuse too many before any of them is looked at: each could be a mistake of its own."""
    if isinstance(value, dict) and len(value) > MAX_LOGIT_BIASES:
        raise ValueError(f"holds {len(value):,} tokens; expected at most {MAX_LOGIT_BIASES}")
    return value


Biases = Annotated[dict[TokenKey, Bias], Field(max_length=MAX_LOGIT_BIASES), BeforeValidator(_count_biases)]


def _fail_fast(schema: Any) -> None:
    """Make every list in a schema end at its first mistake."""
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        schema = list(schema.values())
    if isinstance(schema, list | tuple):
        for part in schema:
            _fail_fast(part)


class Body(BaseModel):
    """A part of a request, or all of it; what nobody knows is left out."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema, whose lists end at their first mistake: a body of zeros would make millions of them."""
        schema = handler(source)
        _fail_fast(schema)
        return schema


class RequestBody(Body):
    """A whole request, which says what it has that nobody knows."""

    model_config = ConfigDict(extra="allow")

    unsupported: ClassVar[Mapping[str, str]] = {}
    """Fields that are known but not served, each with what to do."""

    def check_fields(self) -> None:
        """Refuse what is known and not served; note what nobody knows, and forget it.

        Raises:
            ApiError: naming the field.
        """
        extra = self.model_extra or {}
        for name, advice in self.unsupported.items():
            if extra.get(name):
                raise invalid(f"{name} is not supported; {advice}", name, "unsupported_parameter")
        for name in sorted(set(extra) - set(self.unsupported))[:MOST_NOTED]:
            _note_unknown(name[:40])
        # Requests wait by the hundred, and each of them may have brought megabytes of it.
        extra.clear()


def _note_unknown(name: str) -> None:
    """Say that a field is ignored: once, not for each of the requests that have it."""
    if name in _noted or len(_noted) == MOST_NAMES:
        return  # whoever makes up names cannot fill the log with them
    _noted.add(name)
    # As Python shows it: a line break in a name is no line break in the log.
    log.info("requests have a field that araio does not know, and ignores: %r", name)


class StreamOptions(Body):
    """What a stream tells beside the text."""

    include_usage: bool | None = Field(None, description="A last chunk with the usage of the request.")
    continuous_usage_stats: bool | None = Field(None, description="Usage so far in every chunk.")


ProfileName = Annotated[
    str | None,
    Field(max_length=64, description="Answer with this profile's experts alone; `/v1/models` has the names."),
]
"""Of a profile that the server was given (araio's own)."""


class SamplingFields(RequestBody):
    """How to choose tokens and when to stop; what is not given comes from the checkpoint."""

    model: str | None = Field(None, max_length=1024, description="Id of the model; the served one if absent.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=MAX_INTEGER, description="0 and -1 keep all.")
    min_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="Choice i is drawn with seed + i.")
    n: int | None = Field(None, ge=1, le=128)
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS)] | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, ge=0.01, le=10)
    logit_bias: Biases | None = None
    user: str | None = Field(None, max_length=1024, description="Accepted, and used for nothing.")
    profile: ProfileName = None
    return_token_ids: bool | None = None
    return_routed_experts: bool | None = Field(
        None, description="Experts of every token but the last, as vLLM gives them: base64 of a .npy file."
    )
    routed_experts_prompt_start: int | None = Field(
        None, ge=0, le=MAX_INTEGER, description="Position of the first token whose experts are told."
    )

    def sampling(self, choice: int = 0) -> dict[str, Any]:
        """Keywords of `Model.prepare` for one of the choices."""
        names = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty")
        given = {name: getattr(self, name) for name in (*names, "repetition_penalty")}
        given["top_k"] = 0 if self.top_k == -1 else self.top_k
        given["seed"] = None if self.seed is None else (self.seed + choice) % (MAX_SEED + 1)
        given["stop"] = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()) or None
        if self.logit_bias:
            given["logit_bias"] = {int(token): bias for token, bias in self.logit_bias.items()}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def choices(self) -> int:
        """Answers that are asked for."""
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def has_running_usage(self) -> bool:
        """Whether every chunk of a stream has the usage so far."""
        return self.stream_options is not None and bool(self.stream_options.continuous_usage_stats)

    def check(self, settings: Settings, context: int) -> None:
        """Refuse what is more than this server, or this model, allows.

        Raises:
            ApiError: naming field, value and limit.
        """
        self.check_fields()
        check_count("n", self.choices, settings.n, "n")
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        check_count("stop", len(stop), settings.stop, "stop")
        check_count("stop", max(map(len, stop), default=0), settings.stop_characters, "stop_characters")
        for name in ("max_tokens", "max_completion_tokens"):
            wanted = getattr(self, name, None) or 0
            if wanted > context:
                raise invalid(f"{name} is {wanted}; {no_more_than(context)}", name)
        if self.return_routed_experts and self.stream:
            raise invalid(
                "return_routed_experts comes in one piece; set stream to false, or watch_experts to true",
                "return_routed_experts",
            )
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options needs stream: true", "stream_options")


def no_more_than(context: int) -> str:
    """What is said to whoever asks for more tokens than there is room for."""
    return f"a prompt and its answer have at most {context} tokens together"


def not_supported(param: str, message: str) -> ApiError:
    """A field that is known but not served."""
    return invalid(message, param, "unsupported_parameter")
