"""`picture`: a figure to draw on, written when it is done, with matplotlib, which pictures alone need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from araio.errors import RequestError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["picture"]


@contextmanager
def picture(path: Path, width_in: float, height_in: float) -> Iterator[Figure]:
    """A figure of so many inches, for `path`, whose ending says its format.

    Raises RequestError without matplotlib, for a format that it does not have, and for a file that cannot
    be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RequestError(
            "--plot needs matplotlib, which is not installed: pip install 'araio[report]', or "
            "scripts/install report in a clone"
        ) from None
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    yield figure
    try:
        # The format is stated: a name without an ending would quietly be given one.
        figure.savefig(path, format=path.suffix.removeprefix(".") or path.name)
    except ValueError as error:
        raise RequestError(f"--plot {path}: {error}") from None
    except OSError as error:
        raise RequestError(f"--plot {path}: cannot be written ({error.strerror})") from None
