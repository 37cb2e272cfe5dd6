"""Guides: what they force and allow, and that neither drafts nor company change it."""

from itertools import count

import numpy as np
import pytest

import araio
from araio.engine.engine import Engine
from araio.engine.generate import generate
from araio.engine.guide import FormGuide, SingleCallGuide, ThinkingGuide, ThinkingTags
from araio.engine.output import TextOutput
from araio.engine.request import SamplingParams
from araio.engine.sampling import Sampler
from araio.errors import RequestError
from araio.kernels import native
from araio.text.deepseek import CALL_BEGIN, CALL_END, CALLS_BEGIN, CALLS_END, SEPARATOR
from araio.text.tokenizer import Span
from araio.text.tool_calls import ToolCallSplitter

pytestmark = pytest.mark.native

QUESTION = "What is 47 + 38 - 12?"
CLOSING = "\n</think>\n\n"


@pytest.fixture(scope="module")
def pocket() -> araio.Model:
    if not native.offer().operations:
        pytest.skip("the compiled kernels are not built")
    return araio.load("pocket", threads=1, speculate="off")


class Only:
    """A matcher that lets pass some tokens only, and keeps those that came."""

    def __init__(self, size: int, allowed: list[int]) -> None:
        self.allowed = np.zeros(size, np.bool_)
        self.allowed[allowed] = True
        self.came: list[int] = []

    def mask(self):
        return self.allowed

    def accept(self, token_id: int) -> None:
        self.came.append(token_id)


def guide_for(model: araio.Model, budget: int | None, matcher: Only | None = None) -> ThinkingGuide:
    answer = None if matcher is None else FormGuide(matcher)
    return ThinkingGuide(model.tokenizer, ThinkingTags(model.tokenizer), True, budget, answer)


def digits(model: araio.Model) -> list[int]:
    return [model.tokenizer.token_id(digit) for digit in "0123456789"]


@pytest.mark.parametrize(
    "params",
    [SamplingParams(max_tokens=60, logprobs=1), SamplingParams(max_tokens=60, temperature=1.0, seed=3)],
)
@pytest.mark.parametrize(("budget", "has_form"), [(0, False), (7, False), (7, True), (200, True)])
@pytest.mark.parametrize("speculate", ["off", "on"])
def test_a_guided_request_gets_what_the_naive_loop_gives_it_drafted_and_in_company(
    pocket, params: SamplingParams, budget: int, has_form: bool, speculate: str
) -> None:
    def guide() -> ThinkingGuide:
        matcher = Only(pocket.config.vocab_size, [*digits(pocket), pocket.tokenizer.eos_id])
        return guide_for(pocket, budget, matcher if has_form else None)

    prompt = pocket.chat_format.render([{"role": "user", "content": QUESTION}]).ids
    stop = [pocket.tokenizer.eos_id]
    alone = generate(pocket.network, prompt, params, stop_ids=stop, tokenizer=pocket.tokenizer, guide=guide())
    engine = Engine(pocket.network, pocket.tokenizer, speculate=speculate, chunk=64)
    others = SamplingParams(max_tokens=20, temperature=1.0, seed=9)
    for place in range(8):
        engine.submit([*prompt[:-5], place + 5], others)
        engine.step()
    job = engine.prepare(prompt, params, stop, guide())
    engine.enter(job)
    for place in range(7):
        engine.submit([*prompt[:-6], place + 5], others)
    while engine.step():
        pass
    assert list(job.tokens) == list(alone)
    if speculate == "on":
        assert job.draft_tokens > 0


def test_thinking_ends_with_its_budget(pocket) -> None:
    free = pocket.chat(QUESTION)
    answer = pocket.chat(QUESTION, thinking_budget=8)
    assert free.reasoning.startswith(answer.reasoning)
    # A line break and the tag come on top; the blank line behind them is no part of the thinking.
    assert answer.usage["completion_tokens_details"]["reasoning_tokens"] == 8 + 2
    assert answer.content
    assert "</think>" not in answer.content + answer.reasoning
    assert pocket.chat(QUESTION, thinking_budget=0).reasoning == ""


@pytest.mark.parametrize("budget", [None, 7, 0])
def test_a_guide_knows_which_tokens_are_thinking_and_which_it_forced(pocket, budget) -> None:
    generation = pocket.prepare(QUESTION, seed=0, thinking_budget=budget)
    steps = [generation.take(token, 0.0) for token in pocket.engine.tokens(generation.job)]
    guide = generation.job.guide
    assert list(guide.thinking) == [place for place, step in enumerate(steps) if step.is_reasoning]
    assert len(guide.thinking) == generation.reasoning_tokens
    forced = [steps[place].id for place in guide.imposed]
    tags = ThinkingTags(pocket.tokenizer)
    assert forced in ([[]] if budget is None else [tags.closing, tags.breaking])


def test_a_budget_that_is_not_used_up_changes_nothing(pocket) -> None:
    free, bound = (pocket.chat(QUESTION, thinking_budget=budget) for budget in (None, 500))
    assert (free.reasoning, free.content) == (bound.reasoning, bound.content)


@pytest.mark.parametrize("budget", [-1, 1.5, True, "8"])
def test_a_budget_that_is_none_is_refused(pocket, budget) -> None:
    with pytest.raises(RequestError, match="thinking_budget is "):
        pocket.prepare(QUESTION, thinking_budget=budget)


def test_a_line_that_has_ended_is_not_ended_again(pocket) -> None:
    tags, new_line = ThinkingTags(pocket.tokenizer), pocket.tokenizer.encode("\n")
    for text, closing in (("4", tags.breaking), ("4\n", tags.closing), ("", tags.breaking)):
        ids = pocket.tokenizer.encode(text)
        guide = guide_for(pocket, len(ids))
        for token in ids:
            assert guide.forced() is None
            guide.accept(token)
        forced = []
        while (token := guide.forced()) is not None:
            forced.append(token)
            guide.accept(token)
        assert forced == closing
    assert tags.breaking == [*new_line, *tags.closing]


def test_somebody_may_ask_for_the_answer_at_any_time(pocket) -> None:
    generation = pocket.prepare(QUESTION)
    steps = []
    for token in pocket.engine.tokens(generation.job):
        steps.append(generation.take(token, 0.0))
        if len(steps) == 8:
            assert generation.end_reasoning()
    answer, budget = generation.answer(), pocket.chat(QUESTION, thinking_budget=8)
    assert (answer.reasoning, answer.content) == (budget.reasoning, budget.content)
    assert not generation.end_reasoning()


def test_only_thinking_can_be_ended(pocket) -> None:
    assert not pocket.prepare_text("One").end_reasoning()
    waiting = pocket.prepare(QUESTION, max_tokens=30)
    assert waiting.end_reasoning()  # before it has begun
    tokens = list(pocket.engine.tokens(waiting.job))
    assert "".join(token.text for token in tokens).startswith(CLOSING)


def test_a_model_may_open_its_thinking_by_itself(pocket) -> None:
    tokenizer, tags = pocket.tokenizer, ThinkingTags(pocket.tokenizer)
    matcher = Only(pocket.config.vocab_size, digits(pocket))
    guide = ThinkingGuide(tokenizer, tags, False, 2, FormGuide(matcher))
    assert guide.allowed()[tags.opening]
    assert guide.forced() is None
    guide.accept(tags.opening)
    assert guide.is_reasoning
    assert guide.allowed() is None
    guide.accept(digits(pocket)[4])
    assert guide.forced() == tags.breaking[0]  # the opening tag counts
    for token in tags.breaking:
        guide.accept(token)
    assert not guide.allowed()[tags.opening]
    guide.accept(digits(pocket)[4])
    assert matcher.came == [digits(pocket)[4]]


def test_an_answer_without_thinking_has_the_form_from_its_first_token(pocket) -> None:
    matcher = Only(pocket.config.vocab_size, digits(pocket))
    guide = ThinkingGuide(pocket.tokenizer, ThinkingTags(pocket.tokenizer), False, None, FormGuide(matcher))
    for token in digits(pocket)[:3]:
        guide.accept(token)
    assert matcher.came == digits(pocket)[:3]
    assert not guide.allowed()[ThinkingTags(pocket.tokenizer).opening]
    assert not guide.end_reasoning()


class Forces:
    """Forces token 0 at every other place."""

    is_silent = False

    def __init__(self) -> None:
        self.place = count()

    def forced(self) -> int | None:
        return None if next(self.place) % 2 else 0

    def allowed(self) -> None:
        return None

    def accept(self, token_id: int) -> None:
        pass


def test_a_forced_token_draws_nothing_and_is_reported_as_the_model_sees_it() -> None:
    params = SamplingParams(temperature=1.0, seed=1, logprobs=0)
    rows = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    guided, free = Sampler(params, [1], 5, Forces()), Sampler(params, [1], 5)
    chosen = [guided.sample(row) for row in rows]
    assert [token.id for token in chosen[::2]] == 4 * [0]
    assert chosen[1::2] == [free.sample(row) for row in rows[1::2]]
    expected = rows[0].astype(float) - np.log(np.exp(rows[0].astype(float)).sum())
    assert chosen[0].logprob == pytest.approx(expected[0])


@pytest.mark.parametrize("temperature", [0.0, 1.0, 100.0])
def test_only_what_is_allowed_is_chosen(temperature: float) -> None:
    allowed = [1, 3]
    guide = FormGuide(Only(5, allowed))
    sampler = Sampler(SamplingParams(temperature=temperature, seed=1, top_k=3), [0], 5, guide)
    row = np.array([9, 1, 8, 1, 7], np.float32)
    assert {sampler.sample(row).id for _ in range(50)} == ({1} if temperature == 0 else {1, 3})


def test_a_budget_gives_one_text_cold_and_with_a_cached_beginning(pocket) -> None:
    question = "Sort these words: " + "tree house river cloud " * 12
    asked = {"thinking_budget": 9, "temperature": 1.0, "seed": 2, "max_tokens": 40, "logprobs": 1}
    cold, warm = (pocket.chat(question, **asked) for _ in range(2))
    assert cold.usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert warm.usage["prompt_tokens_details"]["cached_tokens"] > 0
    assert (cold.reasoning, cold.content, cold.logprobs) == (warm.reasoning, warm.content, warm.logprobs)


class Scripted:
    """Forces what follows the thinking, and then nothing more."""

    is_silent = False

    def __init__(self, ids: list[int]) -> None:
        self.left = list(ids)

    def forced(self) -> int | None:
        return self.left[0] if self.left else None

    def allowed(self) -> None:
        return None

    def accept(self, token_id: int) -> None:
        if self.left:
            assert token_id == self.left.pop(0)


def scripted(model: araio.Model, text: str, budget: int = 2) -> ThinkingGuide:
    """Thinks for so many tokens, and answers with this text, whose tags are tags, and ends."""
    ids = [*model.tokenizer.encode_spans([Span(text, is_trusted=True)]), model.tokenizer.eos_id]
    return ThinkingGuide(model.tokenizer, ThinkingTags(model.tokenizer), True, budget, Scripted(ids))


@pytest.mark.parametrize("speculate", ["off", "on"])
def test_a_tag_behind_the_thinking_comes_and_counts_and_gives_no_text(pocket, speculate: str) -> None:
    prompt = pocket.chat_format.render([{"role": "user", "content": QUESTION}]).ids
    stop, params = [pocket.tokenizer.eos_id], SamplingParams(max_tokens=60)
    said = "47\n</think>\n\n<think>12</think></think> is the end"
    guide = scripted(pocket, said)
    alone = list(
        generate(pocket.network, prompt, params, stop_ids=stop, tokenizer=pocket.tokenizer, guide=guide)
    )
    engine = Engine(pocket.network, pocket.tokenizer, speculate=speculate, chunk=64)
    job = engine.prepare(prompt, params, stop, scripted(pocket, said))
    engine.enter(job)
    while engine.step():
        pass
    assert list(job.tokens) == alone
    thinking, tag, answer = "".join(token.text for token in alone).partition("</think>\n\n")
    assert thinking
    assert tag
    assert answer == "47\n\n\n12 is the end"
    closing = pocket.tokenizer.token_id("</think>")
    assert [token.id for token in alone].count(closing) == 4


def test_a_stop_string_reaches_across_a_tag_that_gives_no_text(pocket) -> None:
    prompt = pocket.chat_format.render([{"role": "user", "content": QUESTION}]).ids
    params = SamplingParams(max_tokens=60, stop=("4712",))
    guide = scripted(pocket, "a 47</think>12 b")
    tokens = list(
        generate(
            pocket.network,
            prompt,
            params,
            stop_ids=[pocket.tokenizer.eos_id],
            tokenizer=pocket.tokenizer,
            guide=guide,
        )
    )
    assert "".join(token.text for token in tokens).endswith("</think>\n\na ")
    assert tokens[-1].stop_reason == "4712"


def test_a_tag_that_is_typed_in_letters_is_text(pocket) -> None:
    guide = guide_for(pocket, 0)
    while (token := guide.forced()) is not None:
        guide.accept(token)
    for token in pocket.tokenizer.encode("</think>"):
        guide.accept(token)
        assert not guide.is_silent
    guide.accept(pocket.tokenizer.token_id("</think>"))
    assert guide.is_silent


def test_without_an_opening_a_closing_tag_is_silent_and_the_thinking_may_still_be_opened(pocket) -> None:
    tags = ThinkingTags(pocket.tokenizer)
    guide = ThinkingGuide(pocket.tokenizer, tags, False)
    guide.accept(pocket.tokenizer.token_id("</think>"))
    assert guide.is_silent
    guide.accept(tags.opening)
    assert not guide.is_silent
    assert guide.is_reasoning


def test_an_answer_ends_behind_its_first_call(pocket) -> None:
    tokenizer = pocket.tokenizer
    call = f'{CALL_BEGIN}function{SEPARATOR}add\n```json\n{{"a": "{CALL_END}"}}\n```'
    guide = SingleCallGuide(tokenizer, tokenizer.eos_id)
    for token in tokenizer.encode_spans([Span(f"I add.{CALLS_BEGIN}{call}", is_trusted=True)]):
        assert guide.forced() is None
        assert guide.allowed() is None
        guide.accept(token)
    guide.accept(tokenizer.token_id(CALL_END))
    assert guide.forced() == tokenizer.eos_id


def test_a_call_is_one_whatever_tag_of_thinking_comes_within_it(pocket) -> None:
    tokenizer = pocket.tokenizer
    said = f"{CALLS_BEGIN}{CALL_BEGIN}function{SEPARATOR}add</think>\n```json\n{{}}\n```{CALL_END}"
    thinking = ThinkingGuide(
        tokenizer, ThinkingTags(tokenizer), False, answer=SingleCallGuide(tokenizer, tokenizer.eos_id)
    )
    transcript, output = ToolCallSplitter(), TextOutput(tokenizer, ())
    for token in tokenizer.encode_spans([Span(said, is_trusted=True)]):
        assert thinking.forced() is None
        thinking.accept(token)
        if not thinking.is_silent:
            transcript.push(output.push(token)[0])
    assert [call.name for call in transcript.calls] == ["add"], "as the client is told"
    assert thinking.forced() == tokenizer.eos_id


def test_what_is_no_call_ends_nothing(pocket) -> None:
    tokenizer = pocket.tokenizer
    guide = SingleCallGuide(tokenizer, tokenizer.eos_id)
    for token in tokenizer.encode_spans(
        [Span(f"{CALLS_BEGIN}{CALL_BEGIN}no head at all{CALL_END}{CALLS_END}", is_trusted=True)]
    ):
        guide.accept(token)
        assert guide.forced() is None
