"""What of a long trace the slow metrics look at: whole sequences, drawn from a seed.

A sample of tokens would tear sequences apart, and the first tokens of a trace may all be of one domain.
"""

from __future__ import annotations

import numpy as np

from araio.lens.routes import Routes

__all__ = ["sample"]


def sample(routes: Routes, most_tokens: int, seed: int = 0) -> Routes:
    """Whole sequences, at random, of no more than so many tokens together; all of them if they are no more.

    Order stays. If already the first that is drawn is longer, its beginning is what there is.
    """
    if routes.tokens <= most_tokens:
        return routes
    drawn = np.random.default_rng(seed).permutation(routes.sequences)
    fits = np.cumsum(routes.sequence_tokens[drawn]) <= most_tokens
    if not fits[0]:
        return routes.select((routes.seq == drawn[0]) & (np.cumsum(routes.seq == drawn[0]) <= most_tokens))
    return routes.select(np.isin(routes.seq, drawn[fits]))
