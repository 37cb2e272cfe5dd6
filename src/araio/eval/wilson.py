"""The Wilson score interval: how sure an accuracy over n questions can be."""

from __future__ import annotations

from math import sqrt

__all__ = ["wilson_interval"]

Z_95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927, "Probable inference, the law of succession").

        centre = (p + z^2 / 2n) / (1 + z^2 / n)
        half   = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2)

    Unlike p +- z sqrt(p (1 - p) / n) it never has zero width and stays inside [0, 1], so that 200 right of
    200 does not claim certainty.

    successes  0 to n
    n          1 or more
    """
    assert n >= 1
    assert 0 <= successes <= n
    share = successes / n
    scale = 1 + Z_95**2 / n
    centre = (share + Z_95**2 / (2 * n)) / scale
    half = Z_95 / scale * sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2))
    # At the two ends the bound is exact, and rounding would miss it.
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half
