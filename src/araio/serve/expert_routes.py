"""Routes that show the experts at work: what was chosen so far and of late, and recordings of it.

Counts are of tokens, over all requests together; which request used which expert is told to that request
alone (`experts.py`). A recording is that of the key that began it. Read `expert_counts.py` for who counts,
`recordings.py` for traces.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from araio.serve.errors import invalid
from araio.serve.schema import RequestBody
from araio.serve.service import Service
from araio.serve.state import Holder, ServiceOf
from araio.serve.strict_json import JsonRoute

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute, tags=["experts"])


class Counts(BaseModel):
    """Tokens that each expert of each routed layer was given."""

    layers: list[int]
    n_experts: int
    top_k: int
    tokens: int
    counts: list[list[int]]


class ExpertsAtWork(Counts):
    """The same since the server began, and of late: a choice counts half after 512 tokens."""

    recent: list[list[float]]
    domains: dict[str, Any] | None


class WrittenTrace(BaseModel):
    """A trace that is being written, or was."""

    name: str
    tokens: int
    domains: dict[str, int]
    is_full: bool


class Recording(Counts):
    """The same of one recording, and the trace that goes with it, if one does."""

    is_recording: bool
    trace: WrittenTrace | None = None


class ToRecord(RequestBody):
    """What to record: counts alone, or with a name a trace as well, where the server was given a folder.

    domain  of the requests in the trace
    text    keep their tokens
    """

    name: str | None = Field(None, max_length=64)
    domain: str = Field("all", max_length=64)
    text: bool = True


@router.get("/v1/experts")
async def experts(service: ServiceOf) -> ExpertsAtWork:
    """How often each expert was chosen."""
    return ExpertsAtWork(**service.experts.to_json())


@router.post("/start_expert_distribution_record")
async def start_recording(service: ServiceOf, holder: Holder, asked: ToRecord | None = None) -> Recording:
    """Begin to record; counts that run begin anew."""
    if asked is not None:
        asked.check_fields()
        if (name := asked.name) is not None:
            domain, text = asked.domain, asked.text
            await service.start(lambda: service.recordings.start(holder, name, domain, text))
    service.experts.start(holder)
    return _recording(service, holder, service.recordings.describe(holder))


@router.post("/stop_expert_distribution_record")
async def stop_recording(service: ServiceOf, holder: Holder) -> Recording:
    """End the recording, and complete its trace."""
    if not service.experts.stop(holder):
        raise invalid("nothing is being recorded; begin with /start_expert_distribution_record", None)
    trace = await service.start(lambda: service.recordings.stop(holder))
    return _recording(service, holder, trace)


@router.post("/dump_expert_distribution_record")
async def dump_recording(service: ServiceOf, holder: Holder) -> Recording:
    """What is recorded so far, or was by the last recording."""
    return _recording(service, holder, service.recordings.describe(holder))


def _recording(service: Service, holder: str, trace: dict[str, Any] | None) -> Recording:
    written = None if trace is None else WrittenTrace(**trace)
    return Recording(**service.experts.recording(holder), trace=written)
