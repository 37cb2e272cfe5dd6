"""The report in Debian's chromium, opened as a file: what it shows, with keys, wide and narrow."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from araio.lens.report import report_document, write_report
from araio.lens.summary import summarise

from .made import CHROMIUM, DOMAINS, EXPERTS, HOSTILE, LAYERS, PLANTED, made, planted_trace

PATIENCE_MS = 20_000

# How many colours there are in the cells of a map; the numbers are those of heatmap.js.
COLOURS = """(canvas) => {
    const pen = canvas.getContext("2d");
    const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
    const found = new Set();
    for (let at = 0; at < data.length; at += 4)
        if (data[at + 3] === 255) found.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
    return found.size;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}; the report is looked at with Debian's chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="the report is driven by playwright")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, made().document)
    return path


@pytest.fixture
def open_report(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a report; in the end it has asked nobody for anything and complained of nothing."""
    contexts, requests, complaints = [], [], []

    def open_one(path: Path, width: int = 1360, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        page.locator("#provenance").wait_for(state="attached")
        return page

    yield open_one
    pages = len(contexts)
    for context in contexts:
        context.close()
    assert len(requests) == pages, f"a report asked for {requests}"
    assert complaints == []


def test_the_first_screen_says_which_experts_serve_which_domain_and_how_sure(
    report: Path, open_report: Any
) -> None:
    page = open_report(report)
    assert page.locator("h1").inner_text().startswith("made: experts specialise by domain")
    for index, domain in enumerate(DOMAINS):
        part = page.locator(".served").nth(index)
        assert part.locator("h3").inner_text().startswith(domain)
        first = part.locator("svg .name").first
        assert first.text_content() == f"layer {LAYERS[1]} · expert {PLANTED[index]}"
        assert part.bounding_box()["y"] + part.bounding_box()["height"] < 900
    said = page.locator(".sureness").inner_text()
    assert "false discovery rate" in said
    assert "bit" in said


def test_maps_are_drawn_and_say_what_is_under_the_keys(report: Path, open_report: Any) -> None:
    page = open_report(report)
    maps = page.locator("#maps canvas")
    assert maps.count() == 1 + len(DOMAINS)
    for at in range(maps.count()):
        maps.nth(at).scroll_into_view_if_needed()
        page.wait_for_timeout(50)
        assert maps.nth(at).evaluate(COLOURS) > 8
    mathematics = page.locator("#maps figure").nth(1)
    mathematics.locator("canvas").focus()
    for key in ["ArrowDown", "ArrowDown"] + ["ArrowRight"] * PLANTED[0]:
        page.keyboard.press(key)
    said = mathematics.locator(".readout").inner_text()
    assert said.startswith(f"Layer {LAYERS[1]}, expert {PLANTED[0]}: 8.0")  # E / K, the most there can be
    page.get_by_text("all domains together").locator("visible=true").last.click()
    page.get_by_label("domain", exact=True).check(force=True)
    assert mathematics.locator("canvas").evaluate(COLOURS) > 8


def test_a_token_that_is_focused_shows_its_experts(report: Path, open_report: Any) -> None:
    page = open_report(report)
    page.locator(".token").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    caption = page.locator("#token-detail caption")
    assert "word2" in caption.inner_text()
    rows = page.locator("#token-detail tbody tr")
    assert [row.locator("th").inner_text() for row in rows.all()] == [str(layer) for layer in LAYERS]
    shown = [[int(cell) for cell in row.locator("b").all_inner_texts()] for row in rows.all()]
    assert shown == made().trace.experts[2].tolist()
    page.keyboard.press("End")
    assert "language" in caption.inner_text()
    assert page.locator(".token[aria-selected='true']").count() == 1


def test_tokens_are_coloured_by_whom_their_first_expert_serves(report: Path, open_report: Any) -> None:
    page = open_report(report)
    page.get_by_label("Colour by layer").select_option(index=1)
    rows = [row for row, domain in enumerate(made().trace.column("domain")) if domain == 2]
    first = made().trace.experts[rows[0], 1, 0]
    serves = made().summary.domain_use.serves[1, first]
    hue = page.locator(".token").nth(rows[0]).get_attribute("data-hue")
    assert hue == (None if serves < 0 else str(serves))


def test_text_of_tokens_is_text(report: Path, open_report: Any) -> None:
    page = open_report(report)
    assert page.locator(".token").first.inner_text() == HOSTILE
    assert page.locator(".token b").count() == 0


def test_every_chart_has_a_table(report: Path, open_report: Any) -> None:
    page = open_report(report)
    for section in page.locator("main > section").all():
        if section.get_attribute("id") == "verdict":
            continue  # its tables are those of the sections below
        charts = section.locator("canvas, svg").count()
        tables = section.locator("table, details").count()
        assert tables > 0 or charts == 0, section.get_attribute("id")
    for details in page.locator("details").all():
        details.locator("summary").click()
        details.locator("tbody tr").first.wait_for(state="attached")  # it is made when it is opened
    loads = page.locator("#maps table tbody tr")
    assert loads.count() == len(LAYERS) * EXPERTS


def test_ablation_and_cache_are_there_if_they_were_measured(
    report: Path, open_report: Any, tmp_path: Path
) -> None:
    page = open_report(report)
    assert "25" in page.locator("#ablation table").inner_text()
    said = page.locator(".sureness").inner_text().replace("\u202f", "")
    assert "mathematics 90%, without its own 25%, without as many at random 90%" in said
    assert page.locator("#timeline canvas").evaluate(COLOURS) >= 2
    trace = planted_trace(("code",))
    write_report(tmp_path / "one.html", report_document(trace, summarise(trace)))
    page = open_report(tmp_path / "one.html")
    assert page.locator("#ablation, #timeline, #specialisation").count() == 0
    assert "one domain alone" in page.locator("h1").inner_text()
    assert "one domain" in page.locator("#warnings").inner_text()


def test_light_and_dark(report: Path, open_report: Any) -> None:
    backgrounds = []
    for theme in ("light", "dark"):
        page = open_report(report, color_scheme=theme)
        backgrounds.append(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        page.locator("#theme").click()
        backgrounds.append(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
    assert backgrounds[0] == backgrounds[3] != backgrounds[1] == backgrounds[2]


def test_a_phone_needs_no_sideways_scrolling(report: Path, open_report: Any) -> None:
    page = open_report(report, width=390, height=844)
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    for details in page.locator("details").all():
        details.locator("summary").click()
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    size = page.locator(".served svg text").first.evaluate("(text) => text.getBoundingClientRect().height")
    assert size >= 10
