"""`printable`: text from elsewhere without the characters that a terminal would obey.

A model, a chat template or a file name may hold any character; with ESC it could move the cursor, rename the
window or rewrite what was printed before it.
"""

from __future__ import annotations

__all__ = ["printable"]

# All of C0, DEL and C1 but tab and newline.
CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


def printable(text: str) -> str:
    """The text without control characters; tab and newline stay."""
    return text.translate(CONTROLS)
