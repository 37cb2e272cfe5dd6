"""`ServiceOf`: how a route gets the `Service` of the app that it belongs to."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from araio.serve.service import Service

__all__ = ["ServiceOf"]


async def service_of(request: Request) -> Service:
    """The service that `create_app` was given."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


ServiceOf: TypeAlias = Annotated[Service, Depends(service_of)]
"""A parameter of a route."""
