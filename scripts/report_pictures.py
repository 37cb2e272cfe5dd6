"""Takes the pictures of a report that the docs show: docs/assets/lens-*.png, from a trace of pocket.

    .venv/bin/python scripts/report_pictures.py

It needs Debian's chromium and playwright, which the tests need as well.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal, get_args

from playwright.sync_api import Browser, sync_playwright

Theme = Literal["light", "dark"]

ASSETS = Path(__file__).parents[1] / "docs" / "assets"
CHROMIUM = "/usr/bin/chromium"
WIDTH, HEIGHT = 1360, 830
"""The first screen, and no more."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        report = write_report(Path(folder))
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for theme in get_args(Theme):
            take(browser, report, theme)
        browser.close()


def write_report(folder: Path) -> Path:
    """Trace pocket over its domains, and write what its experts do."""
    trace, report = folder / "pocket.moetrace", folder / "report.html"
    araio("trace", "pocket", "--out", trace)
    araio("lens", trace, "--report", report)
    return report


def araio(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "araio", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def take(browser: Browser, report: Path, theme: Theme) -> None:
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme)
    page.goto(report.as_uri())
    page.locator(".served svg").last.wait_for()
    page.locator("#verdict canvas").hover(position={"x": 300, "y": 60})
    page.wait_for_timeout(300)
    page.screenshot(path=str(ASSETS / f"lens-{theme}.png"))


if __name__ == "__main__":
    main()
