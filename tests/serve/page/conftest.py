"""A real server with pocket, slowed to the pace of a larger model, and Debian's chromium for its page."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 120_000
PACE_S = 0.01

# pocket thinks for a tenth of a second, too short to stop it or to see it fold.
PACED_SERVER = """
import sys, time
from araio.cli.main import main
from araio.engine.engine import Engine

step, pace_s = Engine.step, float(sys.argv[1])

def paced(engine):
    time.sleep(pace_s)
    return step(engine)

Engine.step = paced
sys.argv = ["araio", *sys.argv[2:]]
main()
"""


class ServedPage:
    """`araio serve` as a process that can go away and come back at the same address."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self, **environment: str) -> None:
        command = [
            sys.executable,
            "-c",
            PACED_SERVER,
            str(PACE_S),
            "serve",
            "--port",
            str(self.port),
            "--json",
        ]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "ARAIO_THREADS": "1", **environment},
        )
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["url"].removesuffix("/v1").rstrip("/") + "/"
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="session")
def server() -> Iterator[ServedPage]:
    served = ServedPage()
    yield served
    served.stop()


# Not for the session: while the driver lives, this thread has a running event loop, and no other test in the
# same process could run one of its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}; the page is looked at with Debian's chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is driven by playwright")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """What a page asked for and complained of."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def watch(self, page: Any) -> None:
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self._complain(message) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _complain(self, message: Any) -> None:
        self.complaints.append(f"{message.text} ({message.location.get('url')})")


@pytest.fixture
def watched() -> Watched:
    return Watched()


@contextmanager
def opener(browser: Any, server: ServedPage, watched: Watched) -> Iterator[Callable[..., Any]]:
    """Opens the page, its model known; in the end, it has asked nobody else and complained of nothing."""
    contexts = []

    def open_one(width: int = 1440, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        watched.watch(page)
        page.goto(server.url)
        page.locator("#map-readout", has_text="experts").wait_for(state="attached")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert [url for url in watched.requests if not url.startswith(server.url)] == []
    assert watched.complaints == []


@pytest.fixture
def open_page(browser: Any, server: ServedPage, watched: Watched) -> Iterator[Callable[..., Any]]:
    with opener(browser, server, watched) as open_one:
        yield open_one


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Any:
    return open_page()


def ask_and_wait(page: Any, question: str) -> None:
    turns = page.locator(".turn").count()
    page.locator("#box").fill(question)
    page.locator("#box").press("Enter")
    page.locator(".turn").nth(turns).locator(".receipt-line:visible").wait_for()


@pytest.fixture
def ask() -> Callable[[Any, str], None]:
    """Types a question and waits until its answer is over."""
    return ask_and_wait


@pytest.fixture(scope="module")
def answered(browser: Any, server: ServedPage) -> Iterator[Any]:
    """A page with one answer, for tests that only look."""
    with opener(browser, server, Watched()) as open_one:
        page = open_one()
        ask_and_wait(page, "What is 47 + 38 - 12?")
        yield page
