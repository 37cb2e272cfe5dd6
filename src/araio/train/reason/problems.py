"""`Problems`: draws what is asked: families by their shares, levels by how much there is to learn from them.

A problem is a question of a task family with its verifier's facts, and the ids of its prompt as the chat
template has them. Read `train/tasks/base.py` for the splits: what is trained here is never tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from araio.errors import RecipeError
from araio.train.data import Encoder
from araio.train.reason.curriculum import Curriculum
from araio.train.tasks import TASKS, Example, Split

__all__ = ["Problem", "Problems"]

MAX_REDRAWS = 200
"""Questions in a row that may be too long before the recipe is refused."""

Origin: TypeAlias = tuple[str, Split]
"""A family, and the split that it is drawn from."""


@dataclass(frozen=True)
class Problem:
    """A question that can be asked.

    level   family and level, such as "chain: 3 terms", with "beyond" where it lies outside of the ranges
    prompt  ids, up to and with the opened reasoning
    """

    example: Example
    level: str
    prompt: list[int]


class Problems:
    """Draws problems of the training splits.

    mix, beyond  shares of the families, within and outside of the trained ranges
    longest      prompts of more tokens are drawn anew
    """

    def __init__(
        self, encoder: Encoder, mix: Mapping[str, float], beyond: Mapping[str, float], longest: int
    ) -> None:
        self._encoder = encoder
        self._longest = longest
        shares: dict[Origin, float] = {}
        for family, share in mix.items():
            shares[family, "train"] = share
        for family, share in beyond.items():
            shares[family, "beyond-train"] = share
        self._origins = list(shares)
        self._shares = list(shares.values())

    def draw(self, rng: Random, count: int, curriculum: Curriculum | None = None) -> list[Problem]:
        """So many problems, which depend on the generator and on what the curriculum has seen.

        Raises:
            RecipeError: a family's questions leave no room for an answer.
        """
        return [self._draw_one(rng, curriculum) for _ in range(count)]

    def _draw_one(self, rng: Random, curriculum: Curriculum | None) -> Problem:
        too_long = 0
        while True:
            (origin,) = rng.choices(self._origins, self._shares)
            problem = self._problem(rng, origin)
            if len(problem.prompt) > self._longest:
                too_long += 1
                if too_long == MAX_REDRAWS:
                    raise RecipeError(
                        f"{origin[0]} asks nothing in at most {self._longest} tokens; raise sequence_length, "
                        "or lower max_tokens"
                    )
            elif curriculum is None or curriculum.accepts(problem.level, rng):
                return problem

    def _problem(self, rng: Random, origin: Origin) -> Problem:
        family, split = origin
        example = TASKS[family].generate(rng, split)
        beyond = " beyond" if split != "train" else ""
        document = self._encoder.conversation(example)
        return Problem(example, f"{family}{beyond}: {example.level}", document.ids[: document.first_learned])
