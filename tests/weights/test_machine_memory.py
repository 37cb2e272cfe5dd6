"""Memory that may be used: the machine's, or that of the tightest group around the process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from araio.weights import machine_memory as module
from araio.weights.machine_memory import MachineMemory, machine_memory

GIB = 1 << 30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 GiB, of which 40 are free and this process has 1."""
    monkeypatch.setattr(
        module.psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * GIB, available=40 * GIB)
    )
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=GIB))
    monkeypatch.setattr(module.psutil, "Process", lambda: process)


def tree(home: Path, lines: str, files: dict[str, object]) -> MachineMemory:
    (home / "own").write_text(lines)
    for name, content in files.items():
        path = home / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return machine_memory(home / "own", home / "groups")


def test_without_groups_it_is_the_machines(tmp_path: Path) -> None:
    memory = machine_memory(tmp_path / "none", tmp_path / "nowhere")
    assert memory == MachineMemory(64 * GIB, 40 * GIB, GIB)
    assert memory.allowed == 41 * GIB  # what others hold is theirs


def test_the_last_eighth_is_left_to_others() -> None:
    assert MachineMemory(64 * GIB, 64 * GIB, GIB).allowed == 56 * GIB


def test_version_2_of_a_container(tmp_path: Path) -> None:
    """A container sees its own group as the outermost."""
    memory = tree(tmp_path, "0::/\n", {"memory.max": 8 * GIB, "memory.current": 3 * GIB})
    assert (memory.total, memory.available) == (8 * GIB, 5 * GIB)
    assert memory.allowed == 6 * GIB


def test_version_2_slows_down_before_its_limit(tmp_path: Path) -> None:
    files = {"memory.max": 8 * GIB, "memory.high": 6 * GIB, "memory.current": 3 * GIB}
    memory = tree(tmp_path, "0::/\n", files)
    assert (memory.total, memory.available) == (6 * GIB, 3 * GIB)


def test_version_2_counts_the_tightest_group_above(tmp_path: Path) -> None:
    files = {
        "user.slice/memory.max": 16 * GIB,
        "user.slice/memory.current": 15 * GIB,
        "user.slice/app/memory.max": 20 * GIB,
        "user.slice/app/memory.current": 2 * GIB,
        "user.slice/app/own/memory.max": "max",
        "user.slice/app/own/memory.current": GIB,
    }
    memory = tree(tmp_path, "0::/user.slice/app/own\n", files)
    assert (memory.total, memory.available) == (16 * GIB, GIB)


def test_page_cache_of_a_group_can_be_freed(tmp_path: Path) -> None:
    files = {
        "a/memory.max": 8 * GIB,
        "a/memory.current": 8 * GIB,
        "a/memory.stat": f"anon {GIB}\ninactive_file {6 * GIB}\nactive_file 5",
    }
    assert tree(tmp_path, "0::/a\n", files).available == 6 * GIB


def test_version_1(tmp_path: Path) -> None:
    lines = "12:cpu,cpuacct:/docker/1\n9:memory:/docker/1\n1:name=systemd:/docker/1\n"
    files = {
        "memory/docker/1/memory.limit_in_bytes": 4 * GIB,
        "memory/docker/1/memory.usage_in_bytes": 2 * GIB,
        "memory/docker/1/memory.stat": f"cache 1\ntotal_inactive_file {GIB}",
        "memory/memory.limit_in_bytes": 9223372036854771712,
        "memory/memory.usage_in_bytes": 20 * GIB,
    }
    memory = tree(tmp_path, lines, files)
    assert (memory.total, memory.available) == (4 * GIB, 3 * GIB)


def test_version_1_whose_path_is_the_hosts(tmp_path: Path) -> None:
    """A container without a namespace of its own is told the host's path, and shown its group as the root."""
    files = {"memory/memory.limit_in_bytes": 4 * GIB, "memory/memory.usage_in_bytes": GIB}
    assert tree(tmp_path, "9:memory:/docker/0123\n", files).total == 4 * GIB


def test_a_group_that_uses_more_than_its_limit_leaves_nothing(tmp_path: Path) -> None:
    memory = tree(tmp_path, "0::/\n", {"memory.max": GIB, "memory.current": 2 * GIB})
    assert memory.available == 0
    assert memory.allowed == GIB - GIB // 8


@pytest.mark.parametrize("content", ["", "max", "-1", "many"])
def test_a_limit_that_is_none_does_not_count(tmp_path: Path, content: str) -> None:
    memory = tree(tmp_path, "0::/\n", {"memory.max": content, "memory.current": 3 * GIB})
    assert memory.total == 64 * GIB


def test_this_machine_has_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    memory = machine_memory()
    assert 0 < memory.used < memory.total
    assert 0 < memory.allowed < memory.total
