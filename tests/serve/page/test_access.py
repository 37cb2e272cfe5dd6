"""Whoever cannot see or point, or bears no motion, can use the page; what a model writes stays text."""

from collections.abc import Callable
from typing import Any

import pytest

SUM = "What is 47 + 38 - 12?"
Ask = Callable[[Any, str], None]

NAMELESS = """() => {
    const name = (element) => (
        element.getAttribute("aria-label") || element.labels?.[0]?.textContent || element.textContent || ""
    ).trim();
    const controls = "button, input, select, textarea, canvas, a, [role], aside, nav";
    const areRegions = ["notice", "status"];
    return [...document.querySelectorAll(controls)]
        .filter((one) => !name(one) && !areRegions.includes(one.id))
        .map((one) => one.outerHTML.slice(0, 120));
}"""

# Of text to what lies behind it, as a browser paints both.
CONTRASTS = """(pairs) => {
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const light = (name) => {
        const probe = document.createElement("i");
        probe.style.color = `var(--${name})`;
        document.body.append(probe);
        pen.fillStyle = getComputedStyle(probe).color;
        probe.remove();
        pen.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
            const part = value / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    return pairs.map(([front, back]) => {
        const [more, less] = [light(front), light(back)].sort((one, other) => other - one);
        return [front, back, (more + 0.05) / (less + 0.05)];
    });
}"""


def test_everything_that_can_be_used_has_a_name(answered: Any) -> None:
    page = answered
    assert page.evaluate(NAMELESS) == []
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    named = "() => [...document.querySelectorAll('[aria-labelledby], [aria-controls], [aria-describedby]')]"
    dangling = page.evaluate(
        named + ".filter((one) => !['aria-labelledby', 'aria-controls', 'aria-describedby'].every((name) => "
        "!one.hasAttribute(name) || document.getElementById(one.getAttribute(name)))).map((one) => one.id)"
    )
    assert dangling == []
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out(open_page: Callable[..., Any], theme: str) -> None:
    page = open_page(color_scheme=theme)
    text = [
        ("ink", "ground"),
        ("ink", "raised"),
        ("muted", "ground"),
        ("muted", "raised"),
        ("accent", "ground"),
    ]
    text += [("accent", "raised"), ("on-accent", "accent")]
    for front, back, ratio in page.evaluate(CONTRASTS, text):
        assert ratio >= 4.5, (front, back)
    # WCAG asks 3 of what is no text.
    for front, back, ratio in page.evaluate(CONTRASTS, [("lit", "rest"), ("edge", "ground")]):
        assert ratio >= 3, (front, back)


def test_the_toggle_overrules_the_system(open_page: Callable[..., Any]) -> None:
    page = open_page(color_scheme="light")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    page.get_by_role("button", name="Theme: dark").wait_for()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark


def test_tab_reaches_everything_and_is_seen(answered: Any) -> None:
    page = answered
    page.locator("body").focus()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.id || document.activeElement.className"))
    assert {"new", "entry", "theme", "open-settings", "box", "ask", "map"} <= reached
    assert {"token", "receipt-line", "quiet"} <= reached
    page.locator("#new").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.locator("#new").evaluate("(one) => getComputedStyle(one).outlineStyle") == "solid"


def test_stages_are_read_out_and_the_stream_is_not(answered: Any) -> None:
    page = answered
    assert page.locator("#turns").get_attribute("aria-live") == "off"
    page.locator("#status[role=status]", has_text="The answer is: 73").wait_for(state="attached")


def test_less_motion_means_none(open_page: Callable[..., Any], ask: Ask) -> None:
    page = open_page(reduced_motion="reduce")
    ask(page, SUM)
    assert page.evaluate("() => document.getAnimations().length") == 0
    first = page.locator("#map").screenshot()
    page.wait_for_timeout(300)
    assert page.locator("#map").screenshot() == first


HOSTILE = """# Steps <img src=x onerror=alert(1)>

Some **bold**, *italic*, `a < b`, 2 * 3 * 4 and \\(a_1 * b * c\\).
<script>alert(1)</script>

- one
  1. deeper
- two

> quoted

```html
<b>code</b>
```
[good](https://example.org/a?b=c) [bad](javascript:alert(1)) [worse](data:text/html,x) [rel](//evil.example)

***
the last"""

RENDER = """async (text) => {
    const { renderMarkdown } = await import(new URL("page/markdown.js", location.href).href);
    const target = document.createElement("div");
    // Piece by piece, as it streams.
    for (let at = 1; at <= text.length; at++) renderMarkdown(target, text.slice(0, at));
    const whole = document.createElement("div");
    renderMarkdown(whole, text);
    return {
        tags: [...new Set([...whole.querySelectorAll("*")].map((one) => one.tagName.toLowerCase()))].sort(),
        links: [...whole.querySelectorAll("a")].map((one) => [one.href, one.rel]),
        text: whole.textContent,
        same: target.isEqualNode(whole),
    };
}"""


def test_what_a_model_writes_becomes_text_and_never_markup(answered: Any) -> None:
    found = answered.evaluate(RENDER, HOSTILE)
    assert found["tags"] == sorted(
        ["a", "blockquote", "code", "em", "h3", "hr", "li", "ol", "p", "pre", "strong", "ul"]
    )
    assert found["links"] == [["https://example.org/a?b=c", "noopener noreferrer nofollow"]]
    for kept in (
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "<b>code</b>",
        "\\(a_1 * b * c\\)",
    ):
        assert kept in found["text"]
    assert "2 * 3 * 4" in found["text"]
    assert found["same"]


def test_endless_marks_do_not_stall_the_page(answered: Any) -> None:
    spent = answered.evaluate(
        """async () => {
            const { renderMarkdown } = await import(new URL("page/markdown.js", location.href).href);
            const start = performance.now();
            for (const mark of ["`", "*", "**a", "[", "[a](", "> ", "- ", "$$", "\\\\("])
                renderMarkdown(document.createElement("div"), mark.repeat(20000 / mark.length));
            return performance.now() - start;
        }"""
    )
    assert spent < 3000
