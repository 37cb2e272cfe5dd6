"""`StoreWriter`: the folder in which a store grows, file by file, until it takes its name.

Files are written into `NAME.partial` beside the store and flushed to the disk; `unfinished.json` lists those
that are complete, with their checksums. After an interruption, however hard, the same conversion finds them,
checks them, and writes only the others. The last step gives the folder its name: until then there is no
store, and a store that is there already is never touched. Two writers of one store exclude each other.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from araio.atomic import flush_folder, write_text
from araio.errors import CheckpointError
from araio.formats.digest import sha256_of
from araio.formats.manifest import JOURNAL_NAME, MANIFEST_NAME, PARTIAL_SUFFIX, Manifest, StoredFile

__all__ = ["StoreWriter"]

_WRITING_SUFFIX = ".writing"


class StoreWriter:
    """One store in the making; `open` gives it.

    folder    where it grows
    manifest  of the files that are complete
    """

    def __init__(self, out: Path, folder: Path, manifest: Manifest) -> None:
        self.out = out
        self.folder = folder
        self.manifest = manifest

    @classmethod
    @contextmanager
    def open(cls, out: Path, wanted: Manifest) -> Iterator[StoreWriter]:
        """The unfinished store beside `out`, with the complete files of an earlier attempt at the same.

        wanted  how the store is to be, without files

        Raises CheckpointError when `out` exists, something else lies in the way, another process is writing
        it, or the disk refuses.
        """
        out = out.absolute()
        with _storage_errors(out):
            if out.exists() or out.is_symlink():
                raise CheckpointError(f"{out}: exists already; delete it, or give another name")
            folder = out.with_name(out.name + PARTIAL_SUFFIX)
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                yield cls(out, folder, _resumed(folder, wanted))

    def has(self, name: str) -> bool:
        """Whether a file is complete."""
        return name in self.manifest.files

    def path(self, name: str) -> Path:
        """Where to write a file that is not complete yet."""
        return self.folder / (name + _WRITING_SUFFIX)

    def add(self, name: str, crc32: tuple[int, ...] = ()) -> None:
        """Count the file that was written to `path` as complete; it is read back for its checksum."""
        written, final = self.path(name), self.folder / name
        stored = StoredFile(written.stat().st_size, sha256_of(written), crc32)
        written.rename(final)
        self.manifest = replace(self.manifest, files={**self.manifest.files, name: stored})
        write_text(self.folder / JOURNAL_NAME, self.manifest.text())

    def publish(self, copies: list[Path]) -> None:
        """Copy files as they are, make the journal the manifest, and give the store its name."""
        for source in copies:
            _copy(source, self.folder / source.name)
        (self.folder / JOURNAL_NAME).rename(self.folder / MANIFEST_NAME)
        flush_folder(self.folder)
        self.folder.rename(self.out)
        flush_folder(self.out.parent)


@contextmanager
def _storage_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{out}: the store could not be written ({error.strerror}); what is complete is kept, and the "
            "same conversion goes on from there: make room, or choose another folder"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the system lets go of it, however the process ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(f"{folder}: another process is writing this store; wait for it") from None
        yield
    finally:
        os.close(descriptor)


def _resumed(folder: Path, wanted: Manifest) -> Manifest:
    """What is complete in the folder; everything else in it is cleared away."""
    journal = folder / JOURNAL_NAME
    if (folder / MANIFEST_NAME).exists():  # interrupted between the last two steps
        (folder / MANIFEST_NAME).rename(journal)
    if not journal.exists():
        if any(not path.name.startswith(".") for path in folder.iterdir()):
            raise CheckpointError(f"{folder}: is in the way, and no unfinished store; move it elsewhere")
        write_text(journal, wanted.text())
    found = Manifest.read(journal)
    is_same = replace(found, files={}) == wanted
    kept = {n: file for n, file in found.files.items() if is_same and _is_intact(folder / n, file)}
    for path in folder.iterdir():
        if path.name not in (*kept, JOURNAL_NAME):
            path.unlink()
    manifest = replace(wanted, files=kept)
    write_text(journal, manifest.text())
    return manifest


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as handle:
        os.fsync(handle.fileno())


def _is_intact(path: Path, stored: StoredFile) -> bool:
    return path.is_file() and path.stat().st_size == stored.bytes and sha256_of(path) == stored.sha256
