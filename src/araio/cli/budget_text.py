"""A budget in two lines, as `araio run` prints it: what each part takes, and where the experts are."""

from __future__ import annotations

from araio.cli.numbers import memory_text
from araio.weights.budget import Budget
from araio.weights.residency import StreamedExperts

__all__ = ["budget_text"]


def budget_text(budget: Budget, experts: StreamedExperts | None) -> str:
    """The parts of the memory, and how many experts of all it holds."""
    parts = (
        ("weights of every token", budget.dense),
        (f"cache of {budget.cache_tokens:,} tokens", budget.cache),
        ("a step", budget.activations),
        ("the program", budget.process),
        ("experts on their way", budget.staging),
        ("experts", budget.experts),
    )
    listed = ", ".join(f"{memory_text(size)} {what}" for what, size in parts if size)
    if experts is None or budget.slots is None:
        used, given = memory_text(budget.used), memory_text(budget.ram)
        return f"memory: {used} of {given}: {listed}; every expert is in memory"
    share = budget.slots / experts.count
    held = f"{budget.slots:,} of {experts.count:,} in memory at a time ({share:.0%})"
    # What is left after the rest goes to experts, so that the parts come to all of it.
    return f"memory: {memory_text(budget.ram)} = {listed}\nexperts: {held}, {experts.reading}"
