"""Rewards that can be checked: right, well formed, in plain words, not too long. No model judges another.

An answer is well formed if it closes its reasoning once, says something behind it and ends by itself; the
chat template has opened the reasoning. Only a well-formed answer can be right (arXiv 2501.12948, section
2.2.2, gives both rewards; arXiv 2502.14768 ties them so). A verifier that raises is the verifier's fault:
its answer is left out and told of. Read `train/tasks/base.py` for the verifiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from araio.train.data import Encoder
from araio.train.reason.problems import Problem
from araio.train.tasks import TASKS

__all__ = ["Rewards", "Verdict", "VerifierError", "overlong_penalty", "plain_share"]


class VerifierError(Exception):
    """A task's verifier raised instead of judging; the message says which one and how."""


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth, its text taken apart.

    reasoning, content  the text before and behind `</think>`, without the blank lines of the format
    """

    reward: float
    is_right: bool
    is_well_formed: bool
    reasoning: str
    content: str


@dataclass(frozen=True)
class Rewards:
    """The settings of a stage, see `stages.ReinforceStage`."""

    encoder: Encoder
    max_tokens: int
    format_reward: float = 0.0
    language_reward: float = 0.0
    overlong_tokens: int = 0

    def judge(self, problem: Problem, answer: Sequence[int]) -> Verdict:
        """Verdict on the ids of an answer, the token that ended it included.

        Raises:
            VerifierError: the task's verifier failed.
        """
        reasoning, content, is_well_formed = self._taken_apart(answer)
        is_right = is_well_formed and verified(problem, content)
        reward = float(is_right)
        if is_well_formed:
            reward += self.format_reward + self.language_reward * plain_share(reasoning)
        reward += overlong_penalty(len(answer), self.max_tokens, self.overlong_tokens)
        return Verdict(reward, is_right, is_well_formed, reasoning, content)

    def _taken_apart(self, answer: Sequence[int]) -> tuple[str, str, bool]:
        encoder = self.encoder
        ids, is_finished = list(answer), bool(answer) and answer[-1] == encoder.eos
        if is_finished:
            ids.pop()
        cut = ids.index(encoder.end_think) if encoder.end_think in ids else len(ids)
        reasoning, content = (
            encoder.tokenizer.decode(part).strip("\n") for part in (ids[:cut], ids[cut + 1 :])
        )
        controls = {
            encoder.bos,
            encoder.pad,
            encoder.user,
            encoder.assistant,
            encoder.think,
            encoder.end_think,
        }
        has_one_tag = sum(token in controls for token in ids) == 1 and cut < len(ids)
        return reasoning, content, is_finished and has_one_tag and bool(content.strip())


def verified(problem: Problem, content: str) -> bool:
    """What the task's verifier says; VerifierError if it says nothing."""
    task = problem.example.task
    try:
        return TASKS[task].verify(problem.example, content)
    except Exception as error:
        raise VerifierError(f"the verifier of {task} raised {type(error).__name__}: {error}") from error


def overlong_penalty(tokens: int, most: int, margin: int) -> float:
    """0 up to `most - margin` tokens, then down to -1 at `most` (DAPO, arXiv 2503.14476, equation 13)."""
    return -max(0.0, (tokens - (most - margin)) / margin) if margin else 0.0


def plain_share(text: str) -> float:
    """Share of the words that have no letter outside of ASCII; 1 where there are no words.

    R1's language reward is the share of words in the language that was asked in (section 2.3.2); araio's
    tasks are all in English.
    """
    words = text.split()
    return sum(word.isascii() for word in words) / len(words) if words else 1.0
