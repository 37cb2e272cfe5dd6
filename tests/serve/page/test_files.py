"""The page's files as they are served: their types, the policy, and nothing beside them."""

import http.client
import re
from importlib import resources
from typing import Any

import pytest

from araio.serve.static import page_files
from araio.testing.waiting import PATIENCE_S

from .conftest import ServedPage


def fetch(server: ServedPage, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_every_file_is_served_with_its_type_and_the_policy(server: ServedPage) -> None:
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name, file in page_files().items():
        status, headers, body = fetch(server, f"/page/{name}")
        assert (status, body) == (200, file.content)
        assert headers["content-type"].startswith(types[name.rpartition(".")[2]])
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
    assert fetch(server, "/")[2] == page_files()["index.html"].content


def test_what_the_browser_has_is_not_sent_again(server: ServedPage) -> None:
    _, headers, _ = fetch(server, "/page/main.js")
    status, _, body = fetch(server, "/page/main.js", **{"If-None-Match": f'"old", W/{headers["etag"]}'})
    assert (status, body) == (304, b"")
    assert headers["cache-control"] == "no-cache"


def test_a_head_request_gets_the_length_alone(server: ServedPage) -> None:
    status, headers, body = fetch(server, "/", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) == len(page_files()["index.html"].content)


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/nothing.js",
        "/page/../static.py",
        "/page/..%2fstatic.py",
        "/page/%2e%2e/static.py",
        "/page/%2fetc%2fpasswd",
        "/page/main.js%00.css",
        "/page/page/main.js",
        "/static.py",
    ],
)
def test_nothing_outside_the_folder_is_served(server: ServedPage, path: str) -> None:
    assert fetch(server, path)[0] == 404


def test_the_page_asks_for_files_that_there_are_and_for_no_others() -> None:
    index = page_files()["index.html"].content.decode()
    asked = set(re.findall(r'(?:src|href)="([^"#]+)"', index))
    for file in page_files().values():
        asked |= {f"page/{found}" for found in re.findall(r'from "\./([^"]+)"', file.content.decode())}
    assert asked == {f"page/{name}" for name in page_files()} - {"page/index.html"}


def test_no_file_names_another_server_or_makes_markup_of_text() -> None:
    for name, file in page_files().items():
        text = file.content.decode().replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"\b(?:https?:)?//[\w-]+\.[\w.-]+", text) == [], name
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert word not in text, name
        assert max(map(len, text.splitlines())) <= 120, name
    index = page_files()["index.html"].content.decode()
    assert re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", index) == []


def test_the_files_come_from_the_package_and_stay_small() -> None:
    folder = resources.files("araio.serve") / "page"
    assert {entry.name for entry in folder.iterdir()} == set(page_files())
    assert sum(len(file.content) for file in page_files().values()) < 110_000
