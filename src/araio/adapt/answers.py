"""`ask`: many prompts at a time, and what the model made of each, token by token.

Prompts run together in the engine, as many as its batch has room for; what one gets does not depend on the
others. Read `engine/engine.py` for how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from araio.api import Model
from araio.api.together import run_together
from araio.engine.answer import Answer
from araio.engine.generation import Generation
from araio.errors import ProfileError
from araio.eval.prompts import Prompt

__all__ = ["Asked", "ask", "check_whole"]


@dataclass(frozen=True)
class Asked:
    """One prompt and its answer.

    ids     (T,) of the prompt and of all that was generated, the end of the text among it
    prompt_tokens  of them
    """

    prompt: Prompt
    answer: Answer
    ids: npt.NDArray[np.int64]
    prompt_tokens: int

    @property
    def is_finished(self) -> bool:
        """Whether the answer ended by itself and not at a limit."""
        return self.answer.finish_reason != "length"


def check_whole(model: Model) -> None:
    """Refuse a model whose own answers, which all is compared with, would be those of a mask.

    Raises:
        ProfileError: it is one, or an approximation.
    """
    if model.label != model.name:
        raise ProfileError(
            f"{model.label} does not answer as the whole model does; load it without a mask and without an "
            "approximation"
        )


def ask(
    model: Model,
    prompts: Sequence[Prompt],
    on_answer: Callable[[Asked], None] = lambda asked: None,
    **options: Any,
) -> list[Asked]:
    """Answer all prompts, and give what came of them in their order.

    on_answer  called as each is done
    options    keywords of `Model.prepare`

    Raises:
        RequestError, TextError, CacheFullError: as `Model.prepare`, for a prompt that cannot be asked.
        GenerationError: the model's output is not a number.
    """
    generations = [model.prepare(prompt.messages, **options) for prompt in prompts]
    tokens: list[list[int]] = [[] for _ in prompts]
    done: dict[int, Asked] = {}

    def keep(place: int) -> None:
        done[place] = _asked(prompts[place], generations[place], tokens[place])
        on_answer(done[place])

    run_together(model.engine, generations, lambda place, token: tokens[place].append(token.id), keep)
    return [done[place] for place in range(len(prompts))]


def _asked(prompt: Prompt, generation: Generation, tokens: Sequence[int]) -> Asked:
    ids = np.concatenate([generation.job.prompt, np.asarray(tokens, np.int64)])
    return Asked(prompt, generation.answer(), ids, len(generation.job.prompt))
