"""Which names a server answers to, and which web pages may ask it from a browser.

A page of a stranger can send requests to a server on this machine: with its own `Origin`, or, once its name
has been pointed at 127.0.0.1, with its own name as `Host`. Both are refused before anything else is looked
at. Programs send no `Origin`. Read `guard.py` for where these rules are asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from araio.errors import RequestError

__all__ = ["Origins", "check_allowed_host", "check_allowed_origin", "without_port"]

# What a browser is told it may send from a page of another origin.
ALLOWED_METHODS = b"GET, POST, OPTIONS"
PREFLIGHT_SECONDS = b"600"
ANY = "*"
# What browsers send for pages of no place, files and sandboxes among them: whoever allows it, allows all.
NOWHERE = "null"


class Origins:
    """The rules of one server.

    host     it listens on; a wildcard such as 0.0.0.0 adds nothing
    hosts    further names that it is reached by; `*` allows every name
    origins  of pages elsewhere that may ask, as in `https://chat.example`; `*` allows every page
    """

    def __init__(self, host: str, hosts: Collection[str] = (), origins: Collection[str] = ()) -> None:
        names = {host, *hosts} - {"", "0.0.0.0", "::"}  # noqa: S104 - left out, not listened on
        self._hosts = {_without_brackets(name.lower()) for name in names}
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    def allows_host(self, header: bytes, reached: str | None) -> bool:
        """Whether a `Host` is a name of this server.

        The port may be any: a tunnel or a container gives it another. It is the name that a stranger's page
        cannot choose.

        reached  address that the client connected to
        """
        name = _host_name(header)
        return name is not None and (
            ANY in self._hosts or _is_loopback(name) or name in self._hosts or name == reached
        )

    def allows_origin(self, origin: bytes, host: bytes) -> bool:
        """Whether a page of this origin may ask: one of the server's own, of this machine, or one allowed.

        host  the request's `Host`, which has been allowed
        """
        text = origin.decode("latin-1").lower()
        if ANY in self._origins or text in self._origins:
            return True
        try:
            parts = urlsplit(text)
            name = parts.hostname
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or name is None:
            return False  # `null` among them, which any page can have by a sandbox
        return _is_loopback(name) or parts.netloc == host.decode("latin-1").lower()

    def cors_headers(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        """What a browser needs to see in an answer to an allowed page of another origin."""
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"retry-after"),
            (b"vary", b"origin"),
        ]

    def preflight_headers(self, headers: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """The answer to a browser that asks before it sends; `headers` are those of its question."""
        wanted = headers.get(b"access-control-request-headers", b"authorization, content-type, x-api-key")
        return [
            *self.cors_headers(headers[b"origin"]),
            (b"access-control-allow-methods", ALLOWED_METHODS),
            (b"access-control-allow-headers", wanted),
            (b"access-control-max-age", PREFLIGHT_SECONDS),
        ]


def check_allowed_host(name: str) -> None:
    """Refuse what can never be the name in a `Host`.

    Raises:
        RequestError: an address of a page, or a name with a port.
    """
    plain = _without_brackets(name.lower())
    if name != ANY and not _is_address(plain) and _host_name(plain.encode()) != plain:
        raise RequestError(
            f"{name!r} is no name that a request may have in its Host; expected one as in models.example, "
            "without a scheme and a port, or * for every name"
        )


def check_allowed_origin(origin: str) -> None:
    """Refuse what can never be an `Origin`.

    Raises:
        RequestError: no scheme or no name, or more behind them.
    """
    try:
        parts = urlsplit(origin.rstrip("/"))
        has_place = bool(parts.scheme and parts.hostname)
    except ValueError:
        has_place = False
    if origin not in (ANY, NOWHERE) and (not has_place or parts.path or parts.query or parts.fragment):
        raise RequestError(
            f"{origin!r} is no origin of a page; expected one as in https://chat.example, or * for "
            "all of them"
        )


def without_port(host: bytes) -> bytes:
    """The name of a `Host`, as `--allow-host` wants it; all of it if it is malformed."""
    name = _host_name(host)
    return host if name is None else name.encode()


def _host_name(header: bytes) -> str | None:
    """The name in a `Host`, without its port; None if it is malformed."""
    try:
        parts = urlsplit("//" + header.decode("ascii").lower())
        _ = parts.port
    except ValueError:
        return None
    has_more = parts.path or parts.query or parts.fragment or parts.username is not None
    return None if has_more else parts.hostname


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _without_brackets(name: str) -> str:
    return name.removeprefix("[").removesuffix("]")
