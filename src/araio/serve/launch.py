"""`server_of`: a service with everything around it: routes, guard, connections, and an end in order.

`araio serve` runs it, and the tests do on a thread. Read `server.py` for how it ends.
"""

from __future__ import annotations

from collections.abc import Callable

from araio.serve.app import create_app
from araio.serve.drain import Drain
from araio.serve.errors import ApiError
from araio.serve.guard import Guard
from araio.serve.server import Server
from araio.serve.service import Service

__all__ = ["server_of"]


def server_of(service: Service, on_ready: Callable[[], None] | None = None) -> Server:
    """A server that is ready to run on a socket of `server.bind`.

    on_ready  called once requests are answered
    """
    settings = service.settings
    drain = Drain(settings.drain_s)
    guard = Guard(create_app(service), settings, drain, service.metrics.rejected)

    def end_late() -> None:
        service.worker.end_all(ApiError(503, "the server has ended before this answer", code="server_ended"))

    return Server(guard, settings, drain, on_ready, end_late)
