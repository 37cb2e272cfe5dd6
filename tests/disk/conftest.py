"""Every reader for tests, closed afterwards; memory at a page; files whose bytes are known."""

import functools
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from araio.disk.native_reader import NativeReader
from araio.disk.python_reader import PythonReader
from araio.disk.reader import Reader, Slot
from araio.errors import DiskError

KINDS: dict[str, Callable[..., Reader]] = {
    "python": PythonReader,
    "threads": functools.partial(NativeReader, engine="threads"),
    "uring": functools.partial(NativeReader, engine="uring"),
}


def why_not(kind: str) -> str:
    """What keeps a kind of reader from running here; nothing for most."""
    try:
        KINDS[kind]().close()
    except (ImportError, DiskError) as error:
        return f"{kind}: {error}"
    return ""


def parameter(kind: str) -> object:
    reason = why_not(kind)
    native = [pytest.mark.native] * (kind != "python")
    return pytest.param(kind, marks=[*native, pytest.mark.skipif(bool(reason), reason=reason)])


PARAMETERS = [parameter(kind) for kind in KINDS]


def aligned(size: int) -> Slot:
    """Zeroed bytes (size,) that begin at a page."""
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]


@pytest.fixture(scope="module", params=PARAMETERS)
def kind(request: pytest.FixtureRequest) -> str:
    """The readers, by the name of their kind."""
    return request.param


@pytest.fixture
def make_reader(kind: str) -> Iterator[Callable[..., Reader]]:
    """A constructor of readers of one kind."""
    made: list[Reader] = []

    def make(*arguments: object, **named: object) -> Reader:
        made.append(KINDS[kind](*arguments, **named))
        return made[-1]

    yield make
    for reader in made:
        reader.close()


@pytest.fixture
def reader(make_reader: Callable[..., Reader]) -> Reader:
    return make_reader()


@pytest.fixture(scope="session")
def content() -> bytes:
    """What is in `file`: no multiple of anything."""
    return np.random.default_rng(7).bytes(3_000_001)


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> Path:
    path = tmp_path_factory.mktemp("disk") / "content"
    write(path, content)
    return path


def write(path: Path, content: bytes) -> None:
    """A file whose bytes are on the disk: what is only in the page cache cannot be dropped from it."""
    with path.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
