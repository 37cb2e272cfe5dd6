"""The page's files over HTTP: `/` and `/page/...`, read once from the package, and nothing else.

A request names a file in a table that was filled at the start; no path is ever joined from one, so there is
no way out of the folder. The policy that goes with every file lets the browser load and ask this server
only, run none but its scripts, and show it in nobody's frame. Refuses kinds of files that it has no type for.
Read `page/main.js` for the page itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from fastapi import APIRouter, HTTPException, Request, Response

__all__ = ["POLICY", "PageFile", "page_files", "router"]

POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
"""What a browser may do with the page: everything from here, nothing from elsewhere, no inline code."""

INDEX = "index.html"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, and asked for again each time: scripts of two versions never meet.
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class PageFile:
    """One file as it is sent: its bytes, its type, and the tag that changes with the bytes."""

    content: bytes
    media_type: str
    etag: str


@cache
def page_files() -> dict[str, PageFile]:
    """Every file of the page by its name, from wherever the package lies: a folder, a wheel, an archive.

    Raises:
        KeyError: a file of a kind that has no type here, which is a mistake of ours.
    """
    folder = resources.files("araio.serve") / "page"
    files = {}
    for entry in folder.iterdir():
        if entry.is_file():
            content = entry.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:32]
            files[entry.name] = PageFile(content, _TYPES[PurePosixPath(entry.name).suffix], f'"{digest}"')
    return files


@router.get("/")
async def index(request: Request) -> Response:
    """The page."""
    return _answer(request, page_files()[INDEX])


@router.get("/page/{name}")
async def page_file(request: Request, name: str) -> Response:
    """One of its files.

    Raises:
        HTTPException: 404, there is none of that name.
    """
    file = page_files().get(name)
    if file is None:
        raise HTTPException(404, f"the page has no file {name[:80]!r}")
    return _answer(request, file)


def _answer(request: Request, file: PageFile) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
