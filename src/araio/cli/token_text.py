"""`text_of_tokens`: what a trace's tokens say, from the tokenizer of its model, if that is here."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from araio.errors import AraioError, TextError
from araio.text.tokenizer import Tokenizer
from araio.traces.header import TraceHeader
from araio.weights.locate import locate

__all__ = ["text_of_tokens"]


def text_of_tokens(header: TraceHeader, model: str | None) -> Callable[[int], str] | None:
    """A function from token ids to text; None where the trace has no ids or its tokenizer is not at hand.

    model  whose tokenizer it is; None looks for the model by the name in the trace

    Raises:
        ModelNotFoundError, TextError: a model that was named has no tokenizer, or another one.
    """
    if not header.has_text:
        return None
    if model is not None:
        return _tokenizer(header, model)
    try:
        return _tokenizer(header, header.model)
    except (AraioError, OSError):
        return None  # a trace may be read where its model is not; its tokens are then shown by number


def _tokenizer(header: TraceHeader, model: str) -> Callable[[int], str]:
    folder = locate(model)
    tokenizer = Tokenizer.from_folder(folder)
    if header.tokenizer is not None:
        found = sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
        if found != header.tokenizer:
            raise TextError(
                f"the tokenizer of {model} is not the one of the trace, which was recorded with "
                f"{header.model}; name the model that was traced"
            )
    size = tokenizer.vocab_size
    return lambda token: tokenizer.decode([token]) if 0 <= token < size else f"[{token}]"
