"""What several answers to one question came to, in a line."""

from __future__ import annotations

from araio.api.votes import Votes

__all__ = ["votes_line"]

MOST_OTHERS = 3


def votes_line(votes: Votes) -> str:
    """How many agree, what others said, and how many had no vote."""
    n = len(votes.candidates)
    if not votes.tally:
        return f"none of {n} answers came to an end; raise --max-tokens, or give --thinking-budget"
    said = [f"{votes.agreement} of {n} agree: {votes.tally[0][0]}"]
    others = votes.tally[1:]
    said += [f"{count} said {text}" for text, count in others[:MOST_OTHERS]]
    if rest := sum(count for _, count in others[MOST_OTHERS:]):
        said.append(f"{rest} said something else")
    if silent := n - sum(count for _, count in votes.tally):
        said.append(f"{silent} came to no answer")
    return "; ".join(said)
