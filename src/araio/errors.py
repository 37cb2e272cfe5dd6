"""The exception tree.

Every message says what was found, what was expected, and what to do next. Exceptions of our own are
for what a user can get wrong; `assert` is for what only we can get wrong.

    AraioError
    ├── ConfigError            a config.json key, by name and value
    ├── ModelNotFoundError     a MODEL that is neither bundled, nor a preset, nor a folder
    ├── FormatError            a file that is not what it claims to be
    │   ├── CheckpointError    shards, index and config that do not fit together
    │   └── TraceError         a trace of routes that is empty, damaged, or of another model
    ├── TextError              tokenizers, chat templates
    │   └── TemplateError      a chat template that fails, or exceeds its time or size
    ├── BudgetError            a model that does not fit into the memory that it is given
    ├── RequestError           a parameter of a generation request
    │   └── ContextError       a prompt that is longer than the context
    ├── GenerationError        a model whose output is not a number
    ├── CacheFullError         more tokens than the latent cache was given room for
    ├── CostError              a price, a country or a size that nothing can be counted with
    ├── DiskError              bytes of weights that a disk does not give, or gives wrong
    ├── LogError               a log of receipts that cannot be read or written
    ├── ProfileError           an expert profile that is malformed, of another model, or keeps too few
    ├── AdapterError           an adapter of tuned experts that is damaged, or of another model
    ├── KernelError            a kernel backend that was asked for and cannot serve
    ├── RecipeError            a training recipe, by key and value
    └── TrainingError          a training run that cannot go on
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "AdapterError",
    "AraioError",
    "BudgetError",
    "CacheFullError",
    "CheckpointError",
    "ConfigError",
    "ContextError",
    "CostError",
    "DiskError",
    "FormatError",
    "GenerationError",
    "KernelError",
    "LogError",
    "ModelNotFoundError",
    "ProfileError",
    "RecipeError",
    "RequestError",
    "TemplateError",
    "TextError",
    "TraceError",
    "TrainingError",
    "blaming",
]


class AraioError(Exception):
    """Base of everything araio raises for a user's mistake; the CLI prints it as one line, exit code 2.

    param  the field of a request that is at fault, where whoever raises it knows
    """

    def __init__(self, message: str = "", *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@contextmanager
def blaming(param: str) -> Iterator[None]:
    """Whatever a user got wrong inside is the fault of this field, unless somebody knew better."""
    try:
        yield
    except AraioError as error:
        error.param = error.param or param
        raise


class ConfigError(AraioError):
    """A `config.json` that is malformed, or asks for something araio does not know."""


class ModelNotFoundError(AraioError):
    """The MODEL argument names nothing that can be loaded."""


class FormatError(AraioError):
    """A file that is truncated, malformed or inconsistent; the message names the file and the tensor."""


class CheckpointError(FormatError):
    """Shards, index and config of one checkpoint that contradict each other."""


class TraceError(FormatError):
    """A trace of routes that is empty, damaged or of another model; the message names file and column."""


class TextError(AraioError):
    """A tokenizer or a conversation that cannot be encoded."""


class TemplateError(TextError):
    """A chat template that raises, or exceeds its limits of time or size."""


class RequestError(AraioError):
    """A generation request with a parameter out of range, or a prompt that does not fit."""


class ContextError(RequestError):
    """A prompt of `tokens` where there is room for `limit`."""

    def __init__(self, message: str, tokens: int = 0, limit: int = 0) -> None:
        # Defaults, since what comes from another process is made of its message first, and filled in then.
        super().__init__(message)
        self.tokens = tokens
        self.limit = limit


class GenerationError(AraioError):
    """A model that gives logits which are NaN or infinite, so that no token can be chosen."""


class BudgetError(AraioError):
    """A budget of memory that is too small for a model; the message has the smallest that works."""


class CacheFullError(AraioError):
    """A sequence, or a request, of `tokens` that need more room than the `limit` of the cache."""

    def __init__(self, message: str = "", tokens: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.limit = limit


class CostError(AraioError):
    """A cost that cannot be counted: an unknown price list or country, or a number out of range."""


class DiskError(AraioError):
    """Weights that cannot be read, or are not what they were; the message names the file and the bytes."""


class AdapterError(AraioError):
    """An adapter of tuned experts that is damaged, of another model, or cannot be applied as asked."""


class KernelError(AraioError):
    """A kernel backend that was asked for by name but cannot run on this machine."""


class LogError(AraioError):
    """The log of receipts on a full disk, in a folder that may not be written, or from a later version."""


class ProfileError(AraioError):
    """An expert profile that is malformed, of another model, or keeps too few experts for a token."""


class RecipeError(AraioError):
    """A training recipe with an unknown key or a value out of range."""


class TrainingError(AraioError):
    """A training run that cannot start or continue, such as a full disk or a loss that is not finite."""
