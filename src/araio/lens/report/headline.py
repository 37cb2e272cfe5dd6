"""`headline`: whether experts specialise by domain, in half a sentence for the report and the terminal."""

from __future__ import annotations

import numpy as np

from araio.lens.summary import Summary

__all__ = ["headline"]

SIGNIFICANT = 0.05
LITTLE, MUCH = 0.02, 0.2
"""Of the information that would name the domain, beyond chance: below the one experts hardly differ."""


def headline(summary: Summary) -> str:
    """A clause about the model's experts, which says no more than the shuffled sequences allow."""
    if sum(domain.tokens > 0 for domain in summary.domains) < 2:
        return "one domain alone says nothing of specialisation"
    found = summary.information
    is_shown = 2 * np.count_nonzero(found.p <= SIGNIFICANT) > len(summary.layers)
    if not is_shown or not np.any(summary.domain_use.serves >= 0):
        return "no specialisation by domain can be shown"
    share = float(found.excess.mean()) / found.most
    if share < LITTLE:
        return "experts differ by domain, but hardly"
    return f"experts specialise by domain, {'in part' if share < MUCH else 'strongly'}"
