"""The panel: what a token lights on the map, what the strip says of it, and the receipt."""

import json
from collections.abc import Callable
from typing import Any

from araio.testing.waiting import eventually

SUM = "What is 47 + 38 - 12?"
Ask = Callable[[Any, str], None]

# Reads the middle of every cell of the map; the numbers are those of map.js.
LIT_CELLS = """([rows, columns]) => {
    const map = document.getElementById("map");
    const scale = map.width / map.clientWidth;
    const [left, top] = [26, 16];
    const [wide, high] = [(map.clientWidth - left) / columns, (map.clientHeight - top) / rows];
    const pen = map.getContext("2d");
    const at = (start, size, index) => Math.round((start + (index + 0.4) * size) * scale);
    const colour = (row, column) =>
        pen.getImageData(at(left, wide, column), at(top, high, row), 1, 1).data.join();
    const cells = [];
    for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++) cells.push([row, column, colour(row, column)]);
    const often = {};
    for (const [, , found] of cells) often[found] = (often[found] ?? 0) + 1;
    const rest = Object.keys(often).sort((one, other) => often[other] - often[one])[0];
    return cells.filter(([, , found]) => found !== rest).map(([row, column]) => [row, column]);
}"""


def kept_tokens(page: Any) -> list[dict[str, Any]]:
    saved = page.evaluate(
        "() => localStorage[Object.keys(localStorage).find((name) => name.startsWith('araio.conversation.'))]"
    )
    tokens: list[dict[str, Any]] = json.loads(saved)["turns"][0]["answers"][0]["tokens"]
    return tokens


def test_pointing_at_a_token_lights_its_experts_and_no_others(answered: Any) -> None:
    page = answered
    page.locator(".token").nth(12).hover()
    page.locator("table.experts caption", has_text="Token 13").wait_for()
    token = kept_tokens(page)[12]
    expected = sorted([row, expert] for row, ids in enumerate(token["experts"]) for expert in ids)
    assert len(expected) == 5 * 4
    # The map is drawn with the next frame.
    eventually(lambda: sorted(page.evaluate(LIT_CELLS, [5, 32])) == expected)
    shown = [row.locator("b").all_inner_texts() for row in page.locator("table.experts tr").all()]
    assert [sorted(map(int, ids)) for ids in shown] == [sorted(ids) for ids in token["experts"]]
    weights = [
        float(text) for text in page.locator("table.experts tr").first.locator("span").all_inner_texts()
    ]
    assert weights == [round(weight, 2) for weight in sorted(token["weights"][0], reverse=True)]


def test_arrow_keys_walk_over_the_tokens_and_over_the_map(answered: Any) -> None:
    page = answered
    page.locator(".token").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.locator("table.experts caption", has_text="Token 3,").wait_for()
    page.keyboard.press("End")
    last = page.locator(".token").count()
    page.locator("table.experts caption", has_text=f"Token {last},").wait_for()
    assert page.locator(".token[tabindex='0']").count() == 1
    page.locator("#map").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.locator("#map-readout").inner_text().startswith("Layer 1, expert 1:")


def test_the_strip_holds_the_whole_answer(answered: Any) -> None:
    page = answered
    tokens = kept_tokens(page)
    spoken = "".join(token["text"] for token in tokens if token["phase"] == "answer")
    assert spoken.removesuffix("<｜end▁of▁sentence｜>").strip() == page.locator(".prose").inner_text()
    assert page.locator(".token[data-phase=reasoning]").count() > 20
    assert page.locator(".token").last.inner_text() == "⟨end of sentence⟩"


def test_the_receipt_says_what_was_active_and_that_joules_are_modelled(answered: Any) -> None:
    page = answered
    receipt = page.locator("#receipt").inner_text()
    assert "2.60M" in receipt
    assert "of 10.5M parameters" in receipt
    assert "if dense" in receipt
    energy = page.locator("#receipt dt:text-is('Energy') + dd")
    assert energy.locator(".value").inner_text().startswith("~")
    assert energy.locator(".tag").inner_text().startswith("model")
    assert "CO₂e" in receipt
    assert page.locator("#receipt dt:text-is('Money') + dd .value").inner_text() == "none"
    used = int(page.locator("#receipt dt:text-is('Experts') + dd .value").inner_text())
    tokens = kept_tokens(page)
    assert used == len(
        {(row, e) for token in tokens for row, ids in enumerate(token["experts"]) for e in ids}
    )


def test_all_requests_are_shown_on_demand(answered: Any) -> None:
    page = answered
    with page.expect_response("**/v1/experts"):
        page.get_by_text("All requests").click()
    page.locator("#map").hover(position={"x": 40, "y": 30})
    assert "tokens" in page.locator("#map-readout").inner_text()


def test_a_light_of_no_domain_is_not_taken_for_one_that_is_lit_now(answered: Any) -> None:
    page = answered
    colour = "(one) => getComputedStyle(one).backgroundColor"
    page.locator("#panel").evaluate("(panel) => panel.toggleAttribute('data-domains', true)")
    page.locator("#legend-domains").evaluate(
        "(list) => list.insertAdjacentHTML('beforeend', '<li><i class=swatch data-hue=none></i></li>')"
    )
    lit, none = ".legend.scale [data-hue=lit]", "#legend-domains [data-hue=none]"
    assert page.locator(lit).evaluate(colour) != page.locator(none).evaluate(colour)


def test_on_a_phone_the_experts_are_behind_a_button(open_page: Callable[..., Any], ask: Ask) -> None:
    page = open_page(390, 844)
    ask(page, SUM)
    assert page.locator("#panel").is_hidden()
    page.get_by_role("button", name="Experts", exact=True).click()
    assert page.locator("#map").is_visible()
    assert page.locator("#box").is_hidden()
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    page.keyboard.press("/")
    assert page.locator("#box").evaluate("(box) => box === document.activeElement")
