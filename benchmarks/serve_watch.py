"""`Watch`: what a server takes, from outside and by its own `/metrics`, sample after sample.

What must not grow is what it takes at rest: nobody asks, nothing runs. `at_rest` waits for that.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import httpx2
import psutil
from prometheus_client.parser import text_string_to_metric_families

from araio.errors import AraioError

__all__ = ["Sample", "Watch", "WatchError", "gauge"]

REST_S = 120.0  # for a server to come to rest
SETTLE_S = 2.0  # in which it must stay so


class WatchError(AraioError):
    """A server that ended, or that does not come to rest when nobody asks."""


@dataclass(frozen=True)
class Sample:
    """A server at one moment.

    at         seconds since the watch began
    rss        bytes in memory, of the server and the processes that it started
    fds        open files and sockets of the server
    processes  that it started
    cache      share of the cache's pages in use
    running    requests in the batch
    waiting    requests before it
    """

    at: float
    rss: int
    fds: int
    threads: int
    processes: int
    cache: float
    running: int
    waiting: int

    @property
    def is_at_rest(self) -> bool:
        return not self.running and not self.waiting


@dataclass
class Watch:
    """The samples of one server.

    http  a client that may read `/metrics`
    """

    pid: int
    http: httpx2.AsyncClient
    samples: list[Sample] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    async def sample(self) -> Sample:
        """Take one; raises WatchError where the server is gone."""
        try:
            text = (await self.http.get("/metrics")).raise_for_status().text
            process = psutil.Process(self.pid)
            children = process.children(recursive=True)
            taken = Sample(
                time.monotonic() - self.began,
                sum(one.memory_info().rss for one in (process, *children)),
                process.num_fds(),
                process.num_threads(),
                len(children),
                gauge(text, "kv_cache_usage_perc"),
                int(gauge(text, "num_requests_running")),
                int(gauge(text, "num_requests_waiting")),
            )
        except (httpx2.HTTPError, psutil.Error) as error:
            raise WatchError(f"the server can no longer be watched: {error!r}") from error
        self.samples.append(taken)
        return taken

    async def until(self, event: asyncio.Event, every_s: float) -> None:
        """Sample until an event is set."""
        while not event.is_set():
            await self.sample()
            await asyncio.sleep(every_s)

    async def at_rest(self) -> Sample:
        """A sample when nothing has run for a while; raises WatchError where that does not come."""
        deadline = time.monotonic() + REST_S
        while time.monotonic() < deadline:
            first = await self.sample()
            await asyncio.sleep(SETTLE_S)
            second = await self.sample()
            if first.is_at_rest and second.is_at_rest and second.fds <= first.fds:
                return second
        raise WatchError(
            f"{second.running} requests run and {second.waiting} wait {REST_S:.0f} s after the last"
        )


def gauge(text: str, name: str) -> float:
    """The value of a gauge, whatever prefix its name has, over all of its labels."""
    values = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.rpartition(":")[2] == name or sample.name.endswith("_" + name)
    ]
    if not values:
        raise WatchError(f"/metrics has no {name}")
    return sum(values)
