"""`picture`: a figure to draw on, written when it is done, with matplotlib, which pictures alone need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from araio.cli.out_file import check_out
from araio.errors import RequestError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_picture", "picture"]


def check_picture(path: Path | None) -> None:
    """Whether a picture can be drawn into such a file, before what is drawn is computed; nothing is made.

    Raises RequestError as `picture` does, and as `check_out`.
    """
    if path is None:
        return
    check_out(path, "--plot")
    figure_class = _figure_class()
    known = figure_class().canvas.get_supported_filetypes()
    if _format(path) not in known:
        raise RequestError(
            f"--plot {path}: no format {_format(path)!r}; expected a name that ends in one of "
            f"{', '.join('.' + name for name in sorted(known))}"
        )


@contextmanager
def picture(path: Path, width_in: float, height_in: float) -> Iterator[Figure]:
    """A figure of so many inches, for `path`, whose ending says its format.

    Raises RequestError without matplotlib, for a format that it does not have, and for a file that cannot
    be written.
    """
    figure = _figure_class()(figsize=(width_in, height_in), layout="constrained")
    yield figure
    try:
        figure.savefig(path, format=_format(path))
    except ValueError as error:
        raise RequestError(f"--plot {path}: {error}") from None
    except OSError as error:
        raise RequestError(f"--plot {path}: cannot be written ({error.strerror})") from None


def _format(path: Path) -> str:
    """By its ending; a name without one is its own format, for matplotlib would quietly add another."""
    return path.suffix.removeprefix(".").lower() or path.name


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise RequestError(
            "--plot needs matplotlib, which is not installed: pip install 'araio[report]', or "
            "scripts/install report in a clone"
        ) from None
    return Figure
