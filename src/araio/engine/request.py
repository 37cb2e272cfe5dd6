"""What a caller may ask of a generation: `SamplingParams`, checked when made, and a prompt that can run.

Plain Python, no tensors. A value that is out of range, NaN, or of another type is refused by name, with the
allowed range; nothing is clamped in silence. Read `sampling.py` next for what each number does to the
logits, or `answer.py` for what comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path
from typing import Any

from araio.config import ModelConfig
from araio.errors import ConfigError, ContextError, FormatError, RequestError
from araio.json_reader import ObjectReader, read_object, shown

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "SamplingParams",
    "check_ids",
    "check_prompt",
    "check_thinking_budget",
    "params_from",
    "read_generation_defaults",
    "read_stop_ids",
    "room_for",
]

DEFAULT_MAX_TOKENS = 4096
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 256
MAX_LOGPROBS = 20
MAX_LOGIT_BIASES = 300
MAX_SEED = 2**64 - 1
MAX_CONFIG_BYTES = 1 << 20
GENERATION_CONFIG = "generation_config.json"


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to choose tokens and when to stop; every field is checked on construction.

    temperature          0 to 100; 0 takes the most likely token, 1 samples what the model believes
    top_k                0 or more; keep the k most likely tokens, 0 keeps all
    top_p                above 0, up to 1; keep the smallest set of likely tokens with this much probability
    min_p                0 to 1; drop tokens less likely than this share of the most likely one
    repetition_penalty   0.01 to 10; over 1 discourages tokens of the prompt and of the answer
    presence_penalty     -2 to 2; taken once from the logit of every token of the answer so far
    frequency_penalty    -2 to 2; taken as often as the token occurs in the answer so far
    logit_bias           at most 300 token ids with -100 to 100, added to their logits before all of this
    seed                 0 to 2**64 - 1; one seed gives one text. None draws a fresh one
    max_tokens           1 or more, reasoning and answer together; 0 too with `prompt_logprobs`
    stop                 up to 16 strings that end the text, reasoning too, and are cut from it
    logprobs             0 to 20 alternatives reported per token; None reports nothing
    prompt_logprobs      the same for the prompt's own tokens, which are then all run

    Raises:
        RequestError: a value outside its range, naming field, value and range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, 0, 100)
        _check_number("top_p", self.top_p, 0, 1, above_low=True)
        _check_number("min_p", self.min_p, 0, 1)
        _check_number("repetition_penalty", self.repetition_penalty, 0.01, 10)
        _check_number("presence_penalty", self.presence_penalty, -2, 2)
        _check_number("frequency_penalty", self.frequency_penalty, -2, 2)
        _check_integer("top_k", self.top_k, 0, None)
        _check_integer("max_tokens", self.max_tokens, int(self.prompt_logprobs is None), None)
        if self.seed is not None:
            _check_integer("seed", self.seed, 0, MAX_SEED)
        if self.logprobs is not None:
            _check_integer("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if self.prompt_logprobs is not None:
            _check_integer("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS)
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))


def params_from(given: dict[str, Any], defaults: dict[str, Any] | None = None) -> SamplingParams:
    """`SamplingParams` from keyword arguments over a checkpoint's defaults.

    Raises:
        RequestError: a name that is no field (the message lists the fields), or a value out of range.
    """
    known = [field.name for field in fields(SamplingParams)]
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise RequestError(f"{name!r} is no sampling parameter; {hint}known: {', '.join(known)}")
    return SamplingParams(**{**(defaults or {}), **given})


def check_prompt(
    config: ModelConfig, ids: Sequence[object], params: SamplingParams, *, has_tokenizer: bool
) -> None:
    """Refuse a prompt that no token can follow, and parameters that this model cannot do anything with.

    Raises:
        RequestError: as `check_ids`, or naming `stop` where there is no text to look for it, or an id of
            `logit_bias` that is none.
    """
    check_ids(config, ids, spare=min(1, params.max_tokens))
    if (highest := max(params.logit_bias, default=0)) >= config.vocab_size:
        raise RequestError(
            f"logit_bias has the token {highest}; expected ids from 0 to {config.vocab_size - 1}, the "
            "model's vocabulary",
            param="logit_bias",
        )
    if params.stop and not has_tokenizer:
        raise RequestError("stop strings need a tokenizer; pass one, or pass stop_ids", param="stop")


def check_thinking_budget(tokens: object) -> None:
    """Refuse what is no number of tokens, nor None.

    Raises:
        RequestError: saying what it is.
    """
    if tokens is not None:
        _check_integer("thinking_budget", tokens, 0, None)


def room_for(config: ModelConfig, ids: Sequence[object], params: SamplingParams) -> int:
    """How many tokens may follow a prompt: what was asked for, or what the context leaves."""
    return min(params.max_tokens, config.max_position_embeddings - len(ids))


def check_ids(config: ModelConfig, ids: Sequence[object], spare: int = 0) -> None:
    """Refuse ids that cannot run: none at all, some outside the vocabulary, more than the context holds.

    spare  positions that must stay free behind them

    Raises:
        RequestError: naming the first bad id, or the length, and the limit.
    """
    if len(ids) == 0:
        raise RequestError("the prompt is empty; give at least one token", param="prompt")
    context = config.max_position_embeddings
    if len(ids) + spare > context:
        for_answer = ", one of them for the answer" if spare else ""
        raise ContextError(
            f"the prompt has {len(ids)} tokens and the model's context holds {context}{for_answer}; shorten "
            "the prompt or the conversation",
            len(ids),
            context,
        )
    for place, token in enumerate(ids):
        is_integer = isinstance(token, Integral) and not isinstance(token, bool)
        if not is_integer or not 0 <= token < config.vocab_size:  # type: ignore[operator]
            raise RequestError(
                f"token {place} of the prompt is {token!r}; expected an integer from 0 to "
                f"{config.vocab_size - 1}, the model's vocabulary",
                param="prompt",
            )


def read_generation_defaults(folder: Path) -> dict[str, Any]:
    """Sampling fields that a checkpoint recommends in `generation_config.json`; empty if it has none.

    `do_sample: false`, or no `do_sample` at all, means greedy, as in the tool that defined the file.

    Raises:
        FormatError: the file is there but is not a JSON object.
        RequestError: a recommended value is out of range.
    """
    document = _document(folder)
    names = ["repetition_penalty"]
    if document.get("do_sample"):
        names += ["temperature", "top_k", "top_p", "min_p"]
    defaults = {name: document[name] for name in names if document.get(name) is not None}
    if document.get("do_sample"):
        defaults.setdefault("temperature", 1.0)
    try:
        SamplingParams(**defaults)
    except RequestError as error:
        raise RequestError(f"{folder / GENERATION_CONFIG}: {error}") from None
    return defaults


def read_stop_ids(folder: Path, vocab_size: int) -> tuple[int, ...]:
    """`eos_token_id` of a checkpoint's `generation_config.json`, which ends an answer as config.json's does.

    Raises:
        FormatError: the file is not a JSON object, or the value is not a token or a list of them.
    """
    try:
        return ObjectReader(_document(folder)).integers("eos_token_id", 0, vocab_size - 1, most=64)
    except ConfigError as error:
        raise FormatError(f"{folder / GENERATION_CONFIG}: {error}") from None


def _document(folder: Path) -> dict[str, Any]:
    path = folder / GENERATION_CONFIG
    if not path.is_file():
        return {}
    try:
        return read_object(path, MAX_CONFIG_BYTES)
    except ValueError as error:
        raise FormatError(f"{path} {error}; repair or remove it") from None


def _check_number(
    name: str, value: object, low: float, high: float, *, above_low: bool = False, param: str | None = None
) -> None:
    # NaN fails both comparisons.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and low <= value <= high and not (above_low and value == low):  # type: ignore[operator]
        return
    bound = f"above {low:g} and at most {high:g}" if above_low else f"from {low:g} to {high:g}"
    raise RequestError(f"{name} is {_shown(value)}; expected a number {bound}", param=param or name)


def _check_integer(name: str, value: object, low: int, high: int | None, *, param: str | None = None) -> None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if is_integer and low <= value and (high is None or value <= high):  # type: ignore[operator]
        return
    bound = f"of {low} or more" if high is None else f"from {low} to {high}"
    raise RequestError(f"{name} is {_shown(value)}; expected an integer {bound}", param=param or name)


def _shown(value: object) -> str:
    # Python refuses to print integers of more than 4300 digits, even shortened.
    is_huge = isinstance(value, int) and value.bit_length() > 256
    return "an integer of more than 256 bits" if is_huge else shown(value)


def _stop_strings(stop: object) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else stop
    if not isinstance(strings, Iterable) or isinstance(strings, bytes | dict):
        raise RequestError(f"stop is {_shown(stop)}; expected a string or a list of strings", param="stop")
    # Looked at one by one, so that a list of a million entries is refused at the seventeenth.
    found: list[str] = []
    for text in strings:
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_STOP_CHARACTERS:
            raise RequestError(
                f"stop holds {shown(text)}; expected strings of 1 to {MAX_STOP_CHARACTERS} characters",
                param="stop",
            )
        found.append(text)
        if len(found) > MAX_STOP_STRINGS:
            raise RequestError(f"stop holds more than {MAX_STOP_STRINGS} strings; give fewer", param="stop")
    return tuple(found)


def _biases(biases: object) -> dict[int, float]:
    if not isinstance(biases, Mapping):
        raise RequestError(
            f"logit_bias is {_shown(biases)}; expected numbers by token id", param="logit_bias"
        )
    if len(biases) > MAX_LOGIT_BIASES:
        raise RequestError(
            f"logit_bias has {len(biases)} tokens; give at most {MAX_LOGIT_BIASES}", param="logit_bias"
        )
    for token, bias in biases.items():
        _check_integer("a token of logit_bias", token, 0, None, param="logit_bias")
        _check_number(f"logit_bias of token {_shown(token)}", bias, -100, 100, param="logit_bias")
    return dict(biases)
