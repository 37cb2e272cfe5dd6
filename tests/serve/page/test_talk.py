"""The conversation: asking, thinking that folds, stopping, asking again, and a server that goes away."""

import json
import re
from collections.abc import Callable
from typing import Any

from .conftest import ServedPage, Watched

SUM = "What is 47 + 38 - 12?"
FASTEST = "Iris is slower than Zoe. Jane is faster than Zoe. Jane is slower than Karl. Who is the fastest?"
LONG = (
    'Sam says: "Karl is a knave or Maya is a knight." Karl says: "Sam and Maya are different." '
    'Maya says: "Karl is a knave." Knights tell the truth, knaves lie. Who is what?'
)

Ask = Callable[[Any, str], None]


def test_thinking_is_open_while_it_streams_and_folds_when_the_answer_begins(page: Any) -> None:
    page.locator("#box").fill(FASTEST)
    page.locator("#box").press("Enter")
    page.locator("[data-state=thinking] details[open] .scratch", has_text="Zoe").wait_for()
    first = page.locator("summary").inner_text()
    assert re.match(r"Thinking for \d+\.\d s, \d+ tokens?", first)
    page.locator("[data-state=done] details:not([open])").wait_for()
    assert page.locator(".prose").inner_text() == "Karl"
    assert re.match(r"Thought for \d+\.\d s, \d{2} tokens", page.locator("summary").inner_text())


def test_whoever_folds_the_thinking_has_the_last_word(page: Any) -> None:
    page.locator("#box").fill(LONG)
    page.locator("#box").press("Enter")
    page.locator("[data-state=thinking] summary").click()
    page.locator("[data-state=thinking] details:not([open])").wait_for(state="attached")
    page.locator("[data-state=thinking] summary").click()
    page.locator("[data-state=done]").wait_for()
    assert page.locator("details").get_attribute("open") is not None


def test_stop_keeps_what_there_is_and_lets_the_next_question_in(page: Any, ask: Ask) -> None:
    page.locator("#box").fill(LONG)
    page.locator("#box").press("Enter")
    page.locator("[data-state=thinking] .scratch", has_text="Sam knight").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator("[data-state=stopped]").wait_for()
    assert "Sam knight" in page.locator(".scratch").inner_text()
    assert page.locator(".prose").is_hidden()
    page.locator("body:not(.is-busy)").wait_for()
    page.locator("#box").fill(LONG)
    page.locator("#box").press("Enter")
    page.locator("[data-state=thinking]").wait_for()
    page.keyboard.press("Escape")
    page.locator("body:not(.is-busy)").wait_for()
    assert page.locator("[data-state=stopped]").count() == 2
    ask(page, SUM)
    assert page.locator(".prose").last.inner_text() == "73"


def test_answer_now_ends_the_thinking_and_not_the_answer(page: Any) -> None:
    page.locator("#box").fill(LONG)
    page.locator("#box").press("Enter")
    page.locator("[data-state=thinking] .scratch", has_text="Sam knight").wait_for()
    page.get_by_role("button", name="Answer now").click()
    page.locator("[data-state=done]").wait_for()
    assert page.locator(".prose").inner_text().strip()
    assert "All fit" not in page.locator(".scratch").text_content()


def test_asking_again_keeps_both_answers_and_an_edit_replaces_what_is_below(page: Any, ask: Ask) -> None:
    ask(page, SUM)
    ask(page, 'What is "orange" written backwards?')
    again = page.get_by_role("button", name="Ask the question again")
    again.first.click()
    page.locator(".pager", has_text="2 of 2").wait_for()
    page.locator("body:not(.is-busy)").wait_for()
    page.get_by_role("button", name="The answer before").click()
    page.locator(".pager", has_text="1 of 2").wait_for()
    page.get_by_role("button", name="Edit the question").first.click()
    page.get_by_role("textbox", name="The question").fill("What is 5 + 4?")
    page.keyboard.press("Enter")
    page.locator(".turn [data-state=done], .turn[data-state=done]").wait_for()
    assert page.locator(".question").all_inner_texts() == ["What is 5 + 4?"]
    assert page.locator(".prose").inner_text() == "9"


def test_a_reload_keeps_the_conversation_its_experts_and_what_was_being_typed(page: Any, ask: Ask) -> None:
    ask(page, SUM)
    tokens = page.locator(".token").all_inner_texts()
    page.locator("#box").fill("half a quest")
    page.reload()
    page.locator("#map-readout", has_text="experts").wait_for()
    assert page.locator(".prose").inner_text() == "73"
    assert page.locator(".token").all_inner_texts() == tokens
    assert page.locator("#box").input_value() == "half a quest"


def test_conversations_are_listed_and_a_deleted_one_can_be_had_back(page: Any, ask: Ask) -> None:
    ask(page, SUM)
    page.get_by_role("button", name="New conversation").click()
    ask(page, "What is 5 + 4?")
    assert page.locator(".entry").all_inner_texts() == ["What is 5 + 4?", SUM]
    page.get_by_role("button", name=f"Delete {SUM}").click()
    page.reload()
    assert page.locator(".entry").all_inner_texts() == ["What is 5 + 4?"]
    page.get_by_role("button", name="Delete What is 5 + 4?").click()
    page.get_by_role("button", name="Undo").click()
    page.reload()
    assert page.locator(".entry").all_inner_texts() == ["What is 5 + 4?"]


def test_settings_go_into_the_request(page: Any, ask: Ask) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Tokens, at most").fill("9")
    page.get_by_role("button", name="Save").click()
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, SUM)
    body = json.loads(asked.value.post_data)
    assert (body["seed"], body["temperature"], body["max_tokens"]) == (7, 0.5, 9)
    assert page.locator(".trouble").inner_text() == "The token limit came before the answer."


def test_a_refusal_that_is_about_no_key_asks_for_none(page: Any, watched: Watched) -> None:
    said = "pages of 'http://localhost' may not ask this server; `--allow-origin ORIGIN` lets them"
    body = json.dumps(
        {"error": {"message": said, "type": "permission_error", "param": None, "code": "origin"}}
    )
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=403, body=body))
    page.locator("#box").fill(SUM)
    page.locator("#box").press("Enter")
    page.locator("#notice", has_text="--allow-origin").wait_for()
    assert page.get_by_role("button", name="Enter the key").count() == 0
    watched.complaints.clear()  # the browser's own, of the 403


def test_a_server_that_goes_away_loses_nothing_and_may_come_back_with_a_key(
    page: Any, server: ServedPage, watched: Watched
) -> None:
    page.locator("#box").fill(LONG)
    page.locator("#box").press("Enter")
    page.locator("[data-state=thinking] .scratch", has_text="Sam knight").wait_for()
    server.stop()
    try:
        page.locator(".notice", has_text="The server is away").wait_for()
        assert page.locator(".question").inner_text() == LONG
        assert "Sam knight" in page.locator(".scratch").inner_text()
        server.start(ARAIO_API_KEYS="open-sesame")
        for key, said in (("open-barley", "asks for a key"), ("open-sesame", "does not know this key")):
            page.locator("#notice", has_text=said).wait_for()
            page.get_by_role("button", name="Enter the key").click()
            page.get_by_role("textbox", name="Key").fill(key)
            page.keyboard.press("Enter")
        page.locator("#notice").wait_for(state="hidden")
        page.reload()
        page.locator("#map-readout", has_text="experts").wait_for()
        page.get_by_role("button", name="Ask the question again").click()
        page.locator("[data-state=done]").wait_for()
        assert "Karl is a" in page.locator(".prose").inner_text()
        assert "open-sesame" not in page.evaluate("() => JSON.stringify(localStorage)")
    finally:
        server.stop()
        server.start()
    # The browser itself notes each request that found nobody, or was turned away.
    expected = ("net::ERR_", "status of 401")
    watched.complaints = [line for line in watched.complaints if not any(part in line for part in expected)]


def test_retry_asks_again_when_the_server_was_busy(page: Any, watched: Watched) -> None:
    refusal = {"error": {"message": "64 answers are under way", "type": "unavailable_error"}}
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(status=503, json=refusal, headers={"Retry-After": "5"}),
        times=1,
    )
    page.locator("#box").fill(SUM)
    page.locator("#box").press("Enter")
    page.locator(".notice", has_text="The server is busy. Try again in 5 s.").wait_for()
    page.get_by_role("button", name="Retry").click()
    page.locator("[data-state=done]").wait_for()
    assert page.locator(".prose").inner_text() == "73"
    watched.complaints = [line for line in watched.complaints if "status of 503" not in line]
