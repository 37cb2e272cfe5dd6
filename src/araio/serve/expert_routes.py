"""Routes that show the experts at work: what was chosen so far and of late, and recordings of it.

Counts are of tokens, over all requests together; which request used which expert is told to that request
alone (`experts.py`). A recording is that of the key that began it. Read `expert_counts.py` for who counts.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from araio.serve.errors import invalid
from araio.serve.state import Holder, ServiceOf

__all__ = ["router"]

router = APIRouter(tags=["experts"])


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


class Recording(Counts):
    """The same of one recording."""

    is_recording: bool


@router.get("/v1/experts")
async def experts(service: ServiceOf) -> ExpertsAtWork:
    """How often each expert was chosen."""
    return ExpertsAtWork(**service.experts.to_json())


@router.post("/start_expert_distribution_record")
async def start_recording(service: ServiceOf, holder: Holder) -> Recording:
    """Begin to record; a recording that runs begins anew."""
    service.experts.start(holder)
    return Recording(**service.experts.recording(holder))


@router.post("/stop_expert_distribution_record")
async def stop_recording(service: ServiceOf, holder: Holder) -> Recording:
    """End the recording."""
    if not service.experts.stop(holder):
        raise invalid("nothing is being recorded; begin with /start_expert_distribution_record", None)
    return Recording(**service.experts.recording(holder))


@router.post("/dump_expert_distribution_record")
async def dump_recording(service: ServiceOf, holder: Holder) -> Recording:
    """What is recorded so far, or was by the last recording."""
    return Recording(**service.experts.recording(holder))
