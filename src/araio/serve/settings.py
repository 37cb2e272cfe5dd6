"""`Settings`: where a server listens, who may ask, and the limits of what may be asked.

Every limit has an option of `araio serve` and stands in `GET /v1/limits`. A value that is out of range is
refused by name when the settings are made, before a model is loaded. Read `app.py` next for what is built
with them, `guard.py` for the limits that hold before a request is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, TypeAlias

from araio.engine.request import MAX_LOGPROBS, MAX_STOP_CHARACTERS, MAX_STOP_STRINGS
from araio.errors import RequestError
from araio.serve.origins import check_allowed_host, check_allowed_origin

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "ReasoningField", "Settings", "is_loopback"]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8484
KIB, MIB = 1 << 10, 1 << 20

ReasoningField: TypeAlias = Literal["reasoning_content", "reasoning"]
"""What the thinking is called in answers: DeepSeek's own name, or the one of vLLM and ollama."""


def limit(default: float, least: float, most: float) -> Any:
    """A field of `Settings` that is a limit, with the range that it may be set to."""
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `araio serve` was told; every field is checked on construction.

    host, port       to listen on; port 0 takes a free one
    keys             of those who may ask; without any, everybody on this machine may
    hosts            names, beside those of this machine, that a request's `Host` may have
    origins          of web pages, beside the server's own, that may ask from a browser
    reasoning_field  what the thinking is called in answers
    traces           folder that recordings go to; None where nobody may record
    trace            of the model, by which the page colours experts
    header_bytes     of a request's first line and headers
    header_s         seconds for them to arrive; `body_s` for the body
    body_bytes       of a request's body
    connections      open at a time
    idle_s           seconds that a connection may rest between two requests
    stall_s          seconds that a client may leave an answer untaken
    backlog_tokens   of an answer that wait for its client, before it is given up
    queue            requests that wait for a place in the batch
    per_key          requests of one key that are under way
    drain_s          seconds that running answers get when the server ends
    n, top_logprobs, stop, stop_characters, messages, tools  counts in a request
    prompts          of one request for completions
    schema_bytes     of a JSON schema, as text
    trace_tokens     of a trace that is recorded

    Raises:
        RequestError: a value out of its range, a host or an origin that no request can have, or an address
            that others can reach and no keys.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    keys: tuple[str, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    reasoning_field: ReasoningField = "reasoning_content"
    traces: Path | None = None
    trace: Path | None = None
    header_bytes: int = limit(64 * KIB, KIB, MIB)
    header_s: float = limit(10, 0.1, 3600)
    body_bytes: int = limit(8 * MIB, KIB, 1 << 30)
    body_s: float = limit(30, 0.1, 3600)
    connections: int = limit(512, 1, 65_536)
    idle_s: float = limit(75, 1, 3600)
    stall_s: float = limit(60, 0.1, 3600)
    backlog_tokens: int = limit(4096, 1, 1 << 20)
    queue: int = limit(256, 1, 65_536)
    per_key: int = limit(64, 1, 65_536)
    drain_s: float = limit(30, 0, 3600)
    n: int = limit(8, 1, 128)
    top_logprobs: int = limit(20, 0, MAX_LOGPROBS)
    stop: int = limit(4, 1, MAX_STOP_STRINGS)
    stop_characters: int = limit(256, 1, MAX_STOP_CHARACTERS)
    messages: int = limit(4096, 1, 65_536)
    tools: int = limit(128, 1, 1024)
    prompts: int = limit(64, 1, 1024)
    schema_bytes: int = limit(64 * KIB, KIB, MIB)
    trace_tokens: int = limit(1 << 22, 1, 1 << 32)

    def __post_init__(self) -> None:
        if self.reasoning_field not in ("reasoning_content", "reasoning"):
            raise RequestError(
                f"reasoning_field is {self.reasoning_field!r}; expected reasoning_content or reasoning"
            )
        if not 0 <= self.port <= 65_535:
            raise RequestError(f"port is {self.port}; expected a number from 0 to 65535")
        for host in self.hosts:
            check_allowed_host(host)
        for origin in self.origins:
            check_allowed_origin(origin)
        for name, (least, most) in ranges().items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise RequestError(f"{name} is {value}; expected a number from {least:,} to {most:,}")
        if not self.keys and not is_loopback(self.host):
            raise RequestError(
                f"other machines can reach {self.host}, and there is no key: whoever finds the port could "
                "use the model. Put keys, one a line, into a file and give --api-key-file FILE, or set "
                "ARAIO_API_KEYS; or stay with --host 127.0.0.1"
            )

    def limits(self) -> dict[str, int | float]:
        """Every limit with its value."""
        return {name: getattr(self, name) for name in ranges()}


def ranges() -> dict[str, tuple[float, float]]:
    """Every limit with the least and the most that it may be set to."""
    return {
        entry.name: (entry.metadata["least"], entry.metadata["most"])
        for entry in fields(Settings)
        if "least" in entry.metadata
    }


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
