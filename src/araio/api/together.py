"""`run_together`: several prepared requests at once, each token told as it comes.

They share the engine's steps, and what they have in common of their prompts is computed once. What one gets
does not depend on the others. Read `engine/engine.py` for how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from araio.engine.engine import Engine
from araio.engine.generation import Generation
from araio.engine.tokens import GeneratedToken

__all__ = ["run_together"]


def run_together(
    engine: Engine,
    generations: Sequence[Generation],
    on_token: Callable[[int, GeneratedToken], None] = lambda place, token: None,
    on_done: Callable[[int], None] = lambda place: None,
    *,
    is_one_prompt: bool = False,
) -> None:
    """Run all of them to their ends; what interrupts it, an exception of a callback too, ends them all.

    on_token  told the place of a request and its next token, in order for each
    on_done   told the place of a request when it has ended
    is_one_prompt  all have the same: the others wait for the first one's, and find it in the cache

    Raises:
        GenerationError: the model's output is not a number.
    """
    running = dict(enumerate(generations))
    waiting = list(generations[1:]) if is_one_prompt else []
    try:
        for generation in generations[: 1 if is_one_prompt else None]:
            engine.enter(generation.job)
        while running:
            if waiting and (generations[0].completion_tokens or generations[0].job.is_done):
                for generation in waiting:
                    engine.enter(generation.job)
                waiting.clear()
            begun_s = perf_counter()
            engine.step()
            seconds = perf_counter() - begun_s
            for place, generation in list(running.items()):
                job = generation.job
                if job.error is not None:
                    raise job.error
                while job.tokens:
                    token = job.tokens.popleft()
                    generation.take(token, seconds)
                    on_token(place, token)
                if job.is_done:
                    del running[place]
                    on_done(place)
    finally:
        for generation in generations:
            engine.cancel(generation.job)
