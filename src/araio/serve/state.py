"""`ServiceOf` and `Holder`: how a route gets the `Service` of its app, and knows who asks."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from araio.serve.guard import EVERYBODY, HOLDER
from araio.serve.service import Service

__all__ = ["Holder", "ServiceOf"]


async def service_of(request: Request) -> Service:
    """The service that `create_app` was given."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


async def holder_of(request: Request) -> str:
    """The name of whoever holds the request's key, as `guard.py` found it."""
    return str(request.scope.get(HOLDER, EVERYBODY))


Holder: TypeAlias = Annotated[str, Depends(holder_of)]
"""The same: who asks."""

ServiceOf: TypeAlias = Annotated[Service, Depends(service_of)]
"""A parameter of a route."""
