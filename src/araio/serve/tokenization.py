"""Routes of the tokenizer, as vLLM has them: clients count tokens, and harnesses need none of their own.

Text here is not a message: control tokens that are spelled out in it are encoded as what they are, unless
`parse_special` is false. In conversations they never are.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from araio.errors import TextError
from araio.serve.ask import Ask, given
from araio.serve.errors import check_count, invalid
from araio.serve.schema import MAX_INTEGER, RequestBody
from araio.serve.schema_chat import Message, Tool
from araio.serve.service import Service
from araio.serve.state import ServiceOf
from araio.serve.strict_json import JsonRoute
from araio.text.tokenizer import Span

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute, tags=["tokenizer"])


class TokenizeRequest(RequestBody):
    """Text, or a conversation, to be turned into token ids."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1)
    tools: list[Tool] | None = None
    add_special_tokens: bool = Field(True, description="Begin text as every sequence begins.")
    parse_special: bool = Field(True, description="Take control tokens in text for what they are.")
    return_token_strs: bool | None = None


class Tokens(BaseModel):
    """The ids."""

    tokens: list[int]
    count: int
    max_model_len: int
    token_strs: list[str] | None


class DetokenizeRequest(RequestBody):
    """Token ids to be turned into text."""

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0, le=MAX_INTEGER)]]


class Text(BaseModel):
    """The text."""

    prompt: str


class TokenizerInfo(BaseModel):
    """What a client needs to write prompts itself."""

    tokenizer_class: str
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    chat_template: str | None
    vocab_size: int
    max_model_len: int


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, service: ServiceOf) -> Tokens:
    """Token ids of text, or of the prompt that a conversation becomes."""
    service.check_model(body.model)
    body.check_fields()
    if (body.prompt is None) == (body.messages is None):
        raise invalid("give either prompt or messages", "prompt")
    check_count("messages", len(body.messages or ()), service.settings.messages, "messages")
    check_count("tools", len(body.tools or ()), service.settings.tools, "tools")
    return await service.start(lambda: _tokens(body, service))


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, service: ServiceOf) -> Text:
    """Text of token ids, control tokens included."""
    service.check_model(body.model)
    body.check_fields()
    config = service.model.config
    check_count("tokens", len(body.tokens), config.max_position_embeddings, "context")
    tokenizer, size = service.model.tokenizer, config.vocab_size
    for token in body.tokens:
        if token >= size:
            raise invalid(f"tokens holds {token}; the vocabulary has {size} tokens", "tokens")
    return Text(prompt=await service.start(lambda: tokenizer.decode(body.tokens)))


@router.get("/tokenizer_info")
async def tokenizer_info(service: ServiceOf) -> TokenizerInfo:
    """The tokens around a text, and the chat template."""
    config = service.model.chat_format.config
    return TokenizerInfo(
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token=config.bos_token,
        eos_token=config.eos_token,
        # A batch is padded by nobody here; clients that want a token for it take the end.
        pad_token=config.eos_token,
        chat_template=config.chat_template,
        vocab_size=service.model.tokenizer.vocab_size,
        max_model_len=service.context,
    )


def _tokens(body: TokenizeRequest, service: Service) -> Tokens:
    ids, decode = _ids(body, service), service.model.tokenizer.decode
    texts = [decode([token]) for token in ids] if body.return_token_strs else None
    return Tokens(tokens=ids, count=len(ids), max_model_len=service.context, token_strs=texts)


def _ids(body: TokenizeRequest, service: Service) -> list[int]:
    model = service.model
    if body.messages is not None:
        options = given(tools=[tool.model_dump(exclude_none=True) for tool in body.tools or ()] or None)
        return Ask([message.to_dict() for message in body.messages], options).prompt(model.chat_format).ids
    tokenizer = model.tokenizer
    bos_id = tokenizer.bos_id if body.add_special_tokens else None
    opening = [] if bos_id is None else [bos_id]
    try:
        return opening + tokenizer.encode_spans([Span(body.prompt or "", is_trusted=body.parse_special)])
    except TextError as error:
        error.param = "prompt"
        raise
