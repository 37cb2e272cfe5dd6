"""Word problems in one to four steps, about names, objects, totals, sharing and prices.

A story is a list of sentences and the list of computations that answers it; the trace says what each
computation is about and works it out in columns. A problem is its template and numbers. Beyond training:
one more step, or larger numbers. Read `digits.py` for the columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from araio.train.tasks import digits
from araio.train.tasks.answers import same_integer
from araio.train.tasks.base import Domain, Example, Split, draw_problem
from araio.train.tasks.digits import Worked
from araio.train.tasks.words import NAMES, OBJECTS

__all__ = ["Story"]

USUAL = (5, 60)
LARGER = (66, 400)
"""Apart from USUAL by enough that the ranges stay disjoint after division by up to 5."""


@dataclass(frozen=True)
class Step:
    """What is computed, in a word or two, and the computation."""

    about: str
    worked: Worked


@dataclass(frozen=True)
class Problem:
    """A text that asks for the value of its last step; `numbers` and `template` identify it."""

    template: str
    numbers: tuple[int, ...]
    text: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about, and how large its main quantity may be."""

    first: str
    second: str
    third: str
    things: str
    others: str
    least: int
    largest: int

    def quantity(self, rng: Random, share: int = 1) -> int:
        """A quantity in the story's range, divided by `share` where a later step multiplies it."""
        return rng.randint(max(2, self.least // share), self.largest // share)


class Story:
    """Grade-school word problems."""

    name: str = "story"
    domain: Domain = "mathematics"
    summary: str = "word problems in one to four steps"

    def generate(self, rng: Random, split: Split) -> Example:
        """Draw a story and answer it."""
        problem = draw_problem(self.name, split, rng, draw_story, canonical)
        value = problem.steps[-1].worked.value
        return Example(
            task=self.name,
            prompt=problem.text,
            reasoning="\n".join(f"{step.about}: {step.worked.text}" for step in problem.steps),
            answer=str(value),
            difficulty=len(problem.steps),
            level=f"{len(problem.steps)} steps" if len(problem.steps) != 1 else "1 step",
            facts={"value": value},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True for exactly the integer, without a unit."""
        return same_integer(answer, example.facts["value"])


def draw_story(rng: Random, beyond: bool) -> Problem:
    first, second, third = rng.sample(NAMES, 3)
    things, others = rng.sample(OBJECTS, 2)
    larger = beyond and rng.random() < 0.5
    least, largest = LARGER if larger else USUAL
    cast = Cast(first, second, third, plural(things), plural(others), least, largest)
    if beyond and not larger:
        return diary(rng, cast, n_events=5)
    return rng.choice(TEMPLATES)(rng, cast)


def canonical(problem: Problem) -> str:
    return f"{problem.template} {problem.numbers}"


def diary(rng: Random, cast: Cast, n_events: int = 0) -> Problem:
    """One person's possessions through one to four events."""
    who, things = cast.first, cast.things
    total = cast.quantity(rng)
    sentences = [f"{who} has {total} {things}."]
    numbers = [total]
    steps = []
    kinds = ""
    for _ in range(n_events or rng.choice((1, 2, 2, 3, 4))):
        amount = rng.randint(2, max(3, cast.largest // 2))
        loses = total > amount and rng.random() < 0.5
        sentence, about = rng.choice(LOSSES if loses else GAINS)
        worked = digits.add(total, -amount if loses else amount)
        sentences.append(sentence.format(who=who, n=amount, things=things, friend=cast.second))
        steps.append(Step(about, worked))
        total = worked.value
        numbers.append(amount)
        kinds += "-" if loses else "+"
    question = rng.choice(
        (f"How many {things} does {who} have now?", f"How many {things} does {who} have in the end?")
    )
    return Problem(f"diary{kinds}", tuple(numbers), " ".join([*sentences, question]), tuple(steps))


GAINS = (
    ("Then {who} finds {n} more {things}.", "found"),
    ("{friend} gives {who} {n} {things}.", "got"),
    ("{who} buys {n} more {things}.", "bought"),
)
LOSSES = (
    ("Then {who} loses {n} {things}.", "lost"),
    ("{who} gives {n} {things} to {friend}.", "gave"),
    ("{who} sells {n} {things}.", "sold"),
)


def more_or_fewer(rng: Random, cast: Cast) -> Problem:
    """Two people compared by a difference; the other's count, or both together."""
    a = cast.quantity(rng)
    b = rng.randint(2, a - 1)
    fewer = rng.random() < 0.5
    together = rng.random() < 0.5
    other = digits.add(a, -b if fewer else b)
    steps = [Step(cast.second, other)]
    if together:
        steps.append(Step("together", digits.add(a, other.value)))
    text = (
        f"{cast.first} has {a} {cast.things}. "
        f"{cast.second} has {b} {cast.things} {'fewer' if fewer else 'more'} than {cast.first}. "
        + closing_question(cast, together)
    )
    return Problem(f"compare {fewer} {together}", (a, b), text, tuple(steps))


def times_as_many(rng: Random, cast: Cast) -> Problem:
    """Two people compared by a factor; the other's count, or both together."""
    a, factor = cast.quantity(rng, share=2), rng.randint(2, 9)
    together = rng.random() < 0.5
    other = digits.multiply(a, factor)
    steps = [Step(cast.second, other)]
    if together:
        steps.append(Step("together", digits.add(a, other.value)))
    times = "twice" if factor == 2 else f"{factor} times"
    text = (
        f"{cast.first} has {a} {cast.things}. "
        f"{cast.second} has {times} as many {cast.things} as {cast.first}. "
        + closing_question(cast, together)
    )
    return Problem(f"times {together}", (a, factor), text, tuple(steps))


def closing_question(cast: Cast, together: bool) -> str:
    if together:
        return f"How many {cast.things} do they have together?"
    return f"How many {cast.things} does {cast.second} have?"


def three_people(rng: Random, cast: Cast) -> Problem:
    """A factor, then a difference, then the sum of three: four steps."""
    a, factor = cast.quantity(rng, share=3), rng.randint(2, 5)
    second = digits.multiply(a, factor)
    b = rng.randint(1, second.value - 1)
    third = digits.add(second.value, -b)
    pair = digits.add(a, second.value)
    text = (
        f"{cast.first} has {a} {cast.things}. {cast.second} has {factor} times as many. "
        f"{cast.third} has {b} fewer than {cast.second}. How many {cast.things} do the three have in all?"
    )
    steps = (
        Step(cast.second, second),
        Step(cast.third, third),
        Step("two", pair),
        Step("three", digits.add(pair.value, third.value)),
    )
    return Problem("three people", (a, factor, b), text, steps)


def boxes(rng: Random, cast: Cast) -> Problem:
    """Equal boxes, some of whose contents go away."""
    each, n_boxes = cast.quantity(rng, share=2), rng.randint(2, 9)
    total = digits.multiply(each, n_boxes)
    steps = [Step("boxes", total)]
    text = f"{cast.first} has {n_boxes} boxes with {each} {cast.things} in each box. "
    gone = rng.randint(2, total.value - 1) if rng.random() < 0.6 else 0
    if gone:
        steps.append(Step("left", digits.add(total.value, -gone)))
        text += f"{cast.first} gives away {gone} {cast.things}. How many {cast.things} are left?"
    else:
        text += f"How many {cast.things} does {cast.first} have?"
    return Problem("boxes", (each, n_boxes, gone), text, tuple(steps))


def sharing(rng: Random, cast: Cast) -> Problem:
    """A number of things shared equally, sometimes after some are kept."""
    friends, share = rng.randint(2, 9), cast.quantity(rng, share=5)
    kept = rng.randint(2, 20) if rng.random() < 0.5 else 0
    total = friends * share + kept
    steps = []
    text = f"{cast.first} has {total} {cast.things}. "
    if kept:
        steps.append(Step("to share", digits.add(total, -kept)))
        text += f"{cast.first} keeps {kept} and shares the rest equally among {friends} friends. "
    else:
        text += f"{cast.first} shares them equally among {friends} friends. "
    steps.append(Step("each", digits.divide(total - kept, friends)))
    text += f"How many {cast.things} does each friend get?"
    return Problem("sharing", (total, kept, friends), text, tuple(steps))


def shopping(rng: Random, cast: Cast) -> Problem:
    """Things bought at two prices: the total, three steps."""
    price_a, price_b = cast.quantity(rng, share=3), cast.quantity(rng, share=3)
    n_a, n_b = rng.randint(2, 9), rng.randint(2, 9)
    cost_a, cost_b = digits.multiply(price_a, n_a), digits.multiply(price_b, n_b)
    text = (
        f"{cast.first} buys {n_a} {cast.things} for {price_a} dollars each "
        f"and {n_b} {cast.others} for {price_b} dollars each. How many dollars does {cast.first} pay?"
    )
    steps = (
        Step(cast.things, cost_a),
        Step(cast.others, cost_b),
        Step("pays", digits.add(cost_a.value, cost_b.value)),
    )
    return Problem("shopping", (price_a, n_a, price_b, n_b), text, steps)


def change(rng: Random, cast: Cast) -> Problem:
    """Money left after buying several of one thing."""
    price, n = cast.quantity(rng, share=3), rng.randint(2, 9)
    cost = digits.multiply(price, n)
    money = cost.value + rng.randint(1, cast.largest)
    text = (
        f"{cast.first} has {money} dollars and buys {n} {cast.things} for {price} dollars each. "
        f"How many dollars does {cast.first} have left?"
    )
    steps = (Step("pays", cost), Step("left", digits.add(money, -cost.value)))
    return Problem("change", (money, price, n), text, steps)


def reading(rng: Random, cast: Cast) -> Problem:
    """A rate over days, against a whole."""
    pages, days = cast.quantity(rng, share=2), rng.randint(2, 9)
    read = digits.multiply(pages, days)
    book = read.value + rng.randint(5, cast.largest)
    text = (
        f"A book has {book} pages. {cast.first} reads {pages} pages a day for {days} days. "
        "How many pages are left?"
    )
    steps = (Step("read", read), Step("left", digits.add(book, -read.value)))
    return Problem("reading", (book, pages, days), text, steps)


TEMPLATES: tuple[Callable[[Random, Cast], Problem], ...] = (
    diary,
    diary,
    more_or_fewer,
    times_as_many,
    three_people,
    boxes,
    sharing,
    shopping,
    change,
    reading,
)


def plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("ch", "sh", "s")) else "s")
