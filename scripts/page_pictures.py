"""Takes the pictures of the page that the documentation shows: docs/assets/page-*.png, from a real server.

    .venv/bin/python scripts/page_pictures.py

It needs Debian's chromium and playwright, which the tests need as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

from playwright.sync_api import Browser, Page, sync_playwright

Theme = Literal["light", "dark"]

ASSETS = Path(__file__).parents[1] / "docs" / "assets"
CHROMIUM = "/usr/bin/chromium"
QUESTIONS = (
    "What is 47 + 38 - 12?",
    "Iris is slower than Zoe. Jane is faster than Zoe. Jane is slower than Karl. Who is the fastest?",
)
TOKEN = 20
"""Which token of the last answer is looked at."""


def main() -> None:
    with serving() as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for theme in get_args(Theme):
            page = answered(browser, url, 1360, 1010, theme)
            page.locator("summary").last.click()
            page.locator(".token").nth(TOKEN).hover()
            save(page, f"page-{theme}")
        page = answered(browser, url, 390, 780, "light")
        page.get_by_role("button", name="Experts", exact=True).click()
        page.locator(".token").nth(TOKEN).hover()
        save(page, "page-phone")
        browser.close()


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server with pocket, and with a trace that says which domain each expert serves."""
    araio = [sys.executable, "-m", "araio"]
    with TemporaryDirectory() as folder, ExitStack() as stack:
        trace = f"{folder}/pocket.moetrace"
        subprocess.run([*araio, "trace", "pocket", "--out", trace], check=True)
        command = [*araio, "serve", "--port", "0", "--json", "--trace", trace]
        server = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())["url"].removesuffix("/v1")
        finally:
            server.terminate()


def answered(browser: Browser, url: str, width: int, height: int, theme: Theme) -> Page:
    """The page after the questions, its glow faded."""
    scale = 2 if width < 500 else 1
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, device_scale_factor=scale
    )
    page = context.new_page()
    page.goto(url)
    for number, question in enumerate(QUESTIONS):
        page.locator("#box").fill(question)
        page.locator("#box").press("Enter")
        page.locator(".turn").nth(number).locator(".receipt-line:visible").wait_for()
    page.wait_for_timeout(3000)
    return page


def save(page: Page, name: str) -> None:
    page.wait_for_timeout(300)
    page.screenshot(path=str(ASSETS / f"{name}.png"))


if __name__ == "__main__":
    main()
