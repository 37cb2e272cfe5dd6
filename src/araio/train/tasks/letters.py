"""Letters of a word: count one, reverse all, sort them, or find one by its position.

A model that reads words as tokens must learn to spell before it can count, so every trace spells first, and
reversed or sorted letters stay spaced: joined, they would be no word, and its tokens a second riddle.
A problem is the form, the word and what is asked of it: a test word may have been spelled in training
for another question, never for the same one. Beyond training: long words that are never trained. Read
`words.py` for the words.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from araio.train.tasks.answers import normalize, same_text
from araio.train.tasks.base import Domain, Example, Split, draw_problem
from araio.train.tasks.words import LONG_WORDS, ORDINALS, WORDS

__all__ = ["Letters"]

PHRASINGS = {
    "count": (
        'How many times does the letter {which} appear in "{word}"?',
        'How many letters {which} are in "{word}"?',
        'Count the letter {which} in the word "{word}".',
    ),
    "reverse": (
        'Reverse the word "{word}".',
        'Spell "{word}" backwards.',
        'What is "{word}" written backwards?',
    ),
    "sort": (
        'Sort the letters of "{word}" alphabetically.',
        'Put the letters of "{word}" in alphabetical order.',
        'Write the letters of "{word}" from a to z.',
    ),
    "position": (
        'What is the {which} letter of "{word}"?',
        'Which letter is {which} in "{word}"?',
        'Tell me the {which} letter of the word "{word}".',
    ),
}


@dataclass(frozen=True)
class Problem:
    """form: a key of PHRASINGS; which: the letter to count or the ordinal to find, else empty."""

    form: str
    word: str
    which: str


class Letters:
    """Spell and manipulate words."""

    name: str = "letters"
    domain: Domain = "language"
    summary: str = "count, reverse, sort and find letters of a word"

    def generate(self, rng: Random, split: Split) -> Example:
        """Draw a word and a question about its letters."""
        problem = draw_problem(self.name, split, rng, draw_question, canonical)
        reasoning, answer = spell_out(problem)
        phrasing = rng.choice(PHRASINGS[problem.form])
        return Example(
            task=self.name,
            prompt=phrasing.format(which=problem.which, word=problem.word),
            reasoning=reasoning,
            answer=answer,
            difficulty=len(problem.word),
            level=problem.form,
            facts={"answer": answer, "several": problem.form in ("reverse", "sort")},
        )

    def verify(self, example: Example, answer: str) -> bool:
        """True for exactly the number, letter or letters; reversed or sorted letters may be joined."""
        text = normalize(answer)
        if example.facts["several"] and " " not in text:
            text = " ".join(text)
        return same_text(text, example.facts["answer"])


def draw_question(rng: Random, beyond: bool) -> Problem:
    form = rng.choice(("count", "reverse", "sort", "position"))
    word = rng.choice(LONG_WORDS if beyond else WORDS)
    if form == "count":
        # Repeated letters first, or the answer would nearly always be 1; sometimes one that is absent.
        repeated = [letter for letter in word if word.count(letter) > 1]
        pool = repeated if repeated and rng.random() < 0.7 else word
        return Problem(form, word, rng.choice(pool if rng.random() < 0.85 else "aeinorst"))
    if form == "position":
        return Problem(form, word, rng.choice((*ORDINALS[: len(word)], "last")))
    return Problem(form, word, "")


def canonical(problem: Problem) -> str:
    return f"{problem.form} {problem.word} {problem.which}"


def spell_out(problem: Problem) -> tuple[str, str]:
    word = problem.word
    spelled = " ".join(word)
    if problem.form == "count":
        seen, running = 0, []
        for letter in word:
            seen += letter == problem.which
            running.append(f"{letter} {seen}")
        return f"{spelled}\n{problem.which}: {', '.join(running)} -> {seen}", str(seen)
    if problem.form == "position":
        numbered = ", ".join(f"{letter} {place}" for place, letter in enumerate(word, start=1))
        place = len(word) if problem.which == "last" else 1 + ORDINALS.index(problem.which)
        answer = word[place - 1]
        return f"{numbered}\n{problem.which}, {place} -> {answer}", answer
    ordered = " ".join(word[::-1] if problem.form == "reverse" else sorted(word))
    return f"{spelled}\n{ordered}", ordered
