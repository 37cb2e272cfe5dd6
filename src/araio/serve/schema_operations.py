"""The shapes of what `operations.py` answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from araio.serve.schema import Body

__all__ = [
    "Control",
    "Controlled",
    "ModelCard",
    "ModelList",
    "ModelSize",
    "ProfileCard",
    "Status",
    "Version",
]


class Status(BaseModel):
    """How the server is."""

    status: Literal["ok", "ready"]


class Version(BaseModel):
    """Of araio."""

    version: str


class ProfileCard(BaseModel):
    """A profile that requests may ask for.

    experts     that it keeps, in all layers
    is_default  it masks every request that asks for no other
    """

    name: str
    id: str
    experts: int
    is_default: bool


class ModelSize(BaseModel):
    """What kind of model it is.

    layers         numbers of those that have routed experts
    conversations  it was taught to go on with one, and not single questions alone
    """

    params_total: int
    params_active: int
    layers: list[int]
    n_experts: int
    top_k: int
    conversations: bool
    profiles: list[ProfileCard]


class ModelCard(BaseModel):
    """A model as a list of models shows it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: None
    max_model_len: int = Field(description="Tokens of a conversation and its answer together.")
    araio: ModelSize


class ModelList(BaseModel):
    """The one model that is served."""

    object: Literal["list"]
    data: list[ModelCard]


class Control(Body):
    """What a request under way is told."""

    id: str
    action: Literal["reasoning_end", "cancel"]


class Controlled(BaseModel):
    """Whether there was something to end."""

    id: str
    action: Literal["reasoning_end", "cancel"]
    done: bool
