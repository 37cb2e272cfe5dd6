"""Routes beside the answers: health, models, version, limits, and what is told to a request under way."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import PlainTextResponse, Response

import araio
from araio.costs.parameters import count_parameters
from araio.serve.keys import secured
from araio.serve.schema_operations import (
    Control,
    Controlled,
    ModelCard,
    ModelList,
    ModelSize,
    ProfileCard,
    Status,
    Version,
)
from araio.serve.service import Service
from araio.serve.state import Holder, ServiceOf
from araio.serve.steps import cancelled, ended
from araio.serve.strict_json import JsonRoute
from araio.serve.whole import json_bytes

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute, tags=["operations"])


@router.get("/health")
async def health(service: ServiceOf) -> Status:
    """Whether the engine's thread lives."""
    if not service.worker.is_alive:
        raise ended()
    return Status(status="ok")


@router.get("/ready")
async def ready(service: ServiceOf) -> Status:
    """Whether requests are taken; a server that is about to end says 503."""
    await health(service)
    return Status(status="ready")


@router.get("/version")
async def version() -> Version:
    """The version of araio."""
    return Version(version=araio.__version__)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"description": "The metrics, in Prometheus' text format."}},
)
async def metrics(service: ServiceOf) -> Response:
    """What the server has done and is doing, for Prometheus."""
    return Response(service.metrics.render(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The document of this API, which is made when it is first asked for."""

    # That takes a second or more, in which others want their tokens.
    def document() -> bytes:
        made = request.app.openapi()
        return json_bytes(secured(made) if request.app.state.service.settings.keys else made)

    content = await asyncio.to_thread(document)
    return Response(content, media_type="application/json")


@router.get("/v1/models")
async def models(service: ServiceOf) -> ModelList:
    """The model that is served."""
    return ModelList(object="list", data=[model_card(service)])


@router.get("/v1/models/{model_id:path}")
async def model(model_id: str, service: ServiceOf) -> ModelCard:
    """The same by its id."""
    service.check_model(model_id)
    return model_card(service)


@router.get("/v1/limits")
async def limits(service: ServiceOf) -> dict[str, int | float]:
    """Every limit of this server."""
    return service.settings.limits()


@router.post("/v1/chat/completions/control")
async def control(body: Control, service: ServiceOf, holder: Holder) -> Controlled:
    """End the thinking of an answer and go on with the answer itself, or end all of it."""
    flows = service.control(holder, body.id)
    done = False
    for flow in flows:
        if body.action == "reasoning_end":
            done |= flow.generation.end_reasoning()
        elif not flow.has_ended:
            # Not the job alone: one that has not reached the engine yet would end without a word.
            flow.end(cancelled())
            done = True
    return Controlled(id=body.id, action=body.action, done=done)


def model_card(service: Service) -> ModelCard:
    """The model as a list of models shows it."""
    config = service.model.config
    size = count_parameters(config).model
    return ModelCard(
        id=service.name,
        object="model",
        created=service.created,
        owned_by="araio",
        root=service.name,
        parent=None,
        max_model_len=service.context,
        araio=ModelSize(
            params_total=size.total,
            params_active=size.active,
            layers=list(config.moe_layers),
            n_experts=config.n_routed_experts if config.moe_layers else 0,
            top_k=config.num_experts_per_tok if config.moe_layers else 0,
            conversations=service.conversations,
            profiles=profile_cards(service),
        ),
    )


def profile_cards(service: Service) -> list[ProfileCard]:
    """What requests may name as their `profile`."""
    profiles = service.model.profiles
    default = None if profiles.default is None else profiles.default.name
    return [
        ProfileCard(name=name, id=each.id, experts=each.experts, is_default=name == default)
        for name, each in profiles.known.items()
    ]
