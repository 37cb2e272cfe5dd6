"""Where keys come from, what is refused, and how a request's key is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from araio.errors import RequestError
from araio.serve.keys import KeyRing, file_warning, presented_key, read_keys


def key_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "keys"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_file_has_one_key_a_line(tmp_path: Path) -> None:
    path = key_file(tmp_path, "# who has them\n\n  first-key \nsecond#key\nfirst-key\n")
    assert read_keys(path) == ("first-key", "second#key")


def test_the_variable_has_keys_between_commas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert read_keys() == ()
    monkeypatch.setenv("ARAIO_API_KEYS", "first-key, second-key,")
    assert read_keys() == ("first-key", "second-key")
    assert read_keys(key_file(tmp_path, "of-the-file")) == ("of-the-file",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# nothing\n", "no key"),
        ("good-key\nshort\n", "key 2 .* 5 characters"),
        ("k" * 513, "513 characters"),
        ("two words here", "printable"),
        ("schlüssel-eins", "printable"),
        (b"\xff\xfe-not-text", "printable"),
        ("key-number-x\n" * 100_000, "larger than"),
        ("\n".join(f"key-number-{number}" for number in range(1025)), "1,025 keys"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_keys(key_file(tmp_path, content))


def test_no_message_has_a_key(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        read_keys(key_file(tmp_path, "secret words\n"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_keys(tmp_path / name)


def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    path = key_file(tmp_path, "first-key")
    path.chmod(0o640)
    assert "chmod 600" in (file_warning(path) or "")
    path.chmod(0o600)
    assert file_warning(path) is None


def test_a_ring_finds_its_keys_and_no_others() -> None:
    ring = KeyRing(["first-key", "second-key"])
    names = {ring.find(b"first-key"), ring.find(b"second-key")}
    assert len(names) == 2
    assert None not in names
    for stranger in (b"", b"first-ke", b"first-key ", b"FIRST-KEY", b"third-key"):
        assert ring.find(stranger) is None
    assert ring
    assert not KeyRing([])


def test_a_ring_does_not_keep_keys() -> None:
    ring = KeyRing(["first-key"])
    assert "first" not in repr(vars(ring))
    assert "first" not in (ring.find(b"first-key") or "")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([(b"authorization", b"Bearer first-key")], b"first-key"),
        ([(b"authorization", b"bearer   first-key ")], b"first-key"),
        ([(b"x-api-key", b"first-key")], b"first-key"),
        ([(b"x-api-key", b"other"), (b"authorization", b"Bearer first-key")], b"first-key"),
        ([(b"authorization", b"Basic Zmlyc3Q="), (b"x-api-key", b"first-key")], b"first-key"),
        ([(b"authorization", b"first-key")], None),
        ([(b"cookie", b"key=first-key")], None),
        ([], None),
    ],
)
def test_a_request_presents_its_key_in_either_way(
    headers: list[tuple[bytes, bytes]], key: bytes | None
) -> None:
    assert presented_key(headers) == key
