"""What can happen to files while experts are read from them: only who needs the expert hears of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from araio.engine.engine import Engine
from araio.engine.job import Job
from araio.engine.request import SamplingParams
from araio.errors import AraioError, CheckpointError, DiskError
from araio.formats.checkpoint import Checkpoint
from araio.formats.safetensors import SafetensorsFile
from araio.formats.store import Store
from araio.formats.store_layout import EXPERTS_TENSOR, StoreCodecs, expert_file
from araio.nn.model import Model
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.testing.faulty_reader import Broken, Fault, FaultyReader, Flipped, Late, Short
from araio.weights import load
from araio.weights.convert import convert
from araio.weights.load import Memory, load_model, open_checked, open_model
from araio.weights.machine_memory import MachineMemory

from .streams import bits, check, scores, streamed

IDS = np.random.default_rng(4).integers(0, 250, 14).tolist()
PARAMS = SamplingParams(max_tokens=4)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published checkpoint in bfloat16, one in fp8, and a store of each."""
    home = tmp_path_factory.mktemp("faults")
    for family in ("v3", "v3-fp8"):
        write_tiny_checkpoint(home / family, family)
        convert(home / family, home / f"{family}-store", StoreCodecs("q4", "q8", "bf16"))
    return home


@pytest.fixture(params=["v3", "v3-store"])
def folder(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Path:
    return shutil.copytree(home / request.param, tmp_path / request.param)


@pytest.fixture
def store(home: Path, tmp_path: Path) -> Path:
    return shutil.copytree(home / "v3-store", tmp_path / "store")


def whole(folder: Path) -> np.ndarray:
    return scores(load_model(folder), IDS, 5, 10)


def chosen(model: Model, ids: list[int]) -> dict[int, set[int]]:
    """Experts by layer that a prompt uses."""
    seen: dict[int, set[int]] = {}
    model.on_route = lambda layer, ids, weights: seen.setdefault(layer, set()).update(ids.ravel().tolist())
    model.forward(np.asarray(ids), model.new_cache())
    model.on_route = None
    return seen


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 16]))


# ---------------------------------------------------------------------- damaged weights


def damaged_expert(folder: Path) -> tuple[Model, int, list[int], list[int]]:
    """Damages an expert of layer 1 of a store that one prompt uses and another does not.

    returns  the whole model before, the expert, a prompt that needs it, a prompt that does not
    """
    model = load_model(folder)
    rng = np.random.default_rng(6)
    prompts = [rng.integers(0, 250, 1).tolist() for _ in range(40)]
    uses = [chosen(model, prompt)[1] for prompt in prompts]
    answers = [alone(model, prompt) for prompt in prompts]
    for expert in range(model.config.n_routed_experts):
        needing = [p for p, used in zip(prompts, uses, strict=True) if expert in used]
        others = [
            p
            for p, answer in zip(prompts, answers, strict=True)
            if expert not in chosen(model, [*p, *answer])[1]
        ]
        if needing and others:
            begin = SafetensorsFile(folder / expert_file(1))[EXPERTS_TENSOR].begin
            with open_checked(folder) as (_, opened):
                assert isinstance(opened, Store)
                flip(folder / expert_file(1), begin + expert * opened.record.bytes + 100)
            return model, expert, needing[0], others[0]
    raise AssertionError("every prompt uses every expert")


def alone(model: Model, prompt: list[int]) -> list[int]:
    engine = Engine(model, speculate="off")
    return finished(engine, engine.submit(prompt, PARAMS))


def finished(engine: Engine, job: Job) -> list[int]:
    while not job.is_done and engine.step():
        pass
    if job.error is not None:
        raise job.error
    return [token.id for token in job.tokens]


@pytest.mark.parametrize("slots", [3, 40])
def test_a_flipped_bit_is_the_error_of_who_needs_the_expert(store: Path, slots: int) -> None:
    model, expert, needing, other = damaged_expert(store)
    source_model, source = streamed(store, slots)
    engine = Engine(source_model, speculate="off", streamed=source)
    before = engine.submit(other, PARAMS)
    engine.step()
    struck = engine.submit(needing, PARAMS)
    beside = engine.submit(other, PARAMS)
    while engine.step():
        pass
    with pytest.raises(CheckpointError) as told:
        finished(engine, struck)
    words = str(told.value)
    assert re.search(rf"expert {expert} of layer 1\b", words)
    assert str(store / expert_file(1)) in words
    assert re.search(r"checksum [0-9a-f]{8}, expected [0-9a-f]{8}", words)
    assert "convert" in words
    expected = alone(model, other)
    assert finished(engine, before) == finished(engine, beside) == expected
    assert finished(engine, engine.submit(other, PARAMS)) == expected  # and later ones
    with pytest.raises(CheckpointError):  # it does not heal by itself
        finished(engine, engine.submit(needing, PARAMS))
    check(source)
    assert engine.free_pages == engine.total_pages


@pytest.mark.parametrize(
    ("family", "suffix", "code", "words"),
    [
        ("v3", "", b"\xc0\x7f", "BF16 that is NaN or infinite"),
        ("v3", "", b"\x80\xff", "BF16 that is NaN or infinite"),
        ("v3-fp8", "", b"\x7f", "FP8 that is NaN or infinite"),
        ("v3-fp8", "_scale_inv", b"\x00\x00\xc0\x7f", "scale that is not finite and above 0"),
        ("v3-fp8", "_scale_inv", b"\x00\x00\x00\x00", "scale that is not finite and above 0"),
        ("v3-fp8", "_scale_inv", b"\x00\x00\x80\xbf", "scale that is not finite and above 0"),
    ],
)
def test_a_number_that_is_none_in_a_published_expert(
    home: Path, tmp_path: Path, family: str, suffix: str, code: bytes, words: str
) -> None:
    folder = shutil.copytree(home / family, tmp_path / family)
    layer, expert = 1, sorted(chosen(load_model(folder), IDS)[1])[0]
    name = f"model.layers.{layer}.mlp.experts.{expert}.up_proj.weight{suffix}"
    with Checkpoint.open(folder) as checkpoint:
        entry = checkpoint[name]
        path = next(file.path for file in checkpoint.files if name in file)
    with path.open("r+b") as file:
        file.seek(entry.end - len(code))
        file.write(code)
    model, source = streamed(folder, 4)
    with pytest.raises(CheckpointError) as told:
        scores(model, IDS, 5, 10)
    assert f"expert {expert} of layer {layer}" in str(told.value)
    assert str(path) in str(told.value)
    assert words in str(told.value)
    assert f"at byte {entry.end - len(code)}" in str(told.value)
    check(source)


# ---------------------------------------------------------------------- files that change


def test_a_file_that_is_deleted_while_in_use_is_read_on(folder: Path) -> None:
    expected = whole(folder)
    model, _ = streamed(folder, 2)
    for path in folder.iterdir():
        path.unlink()
    np.testing.assert_array_equal(scores(model, IDS, 5, 10), expected)


def test_a_file_that_is_cut_off_while_in_use_is_told(folder: Path) -> None:
    expected = whole(folder)
    model, source = streamed(folder, 3)
    contents = {path: path.read_bytes() for path in folder.glob("*.safetensors")}
    for path in contents:
        os.truncate(path, 8192)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"expert \d+ of layer 1 .*the file has shrunk"):
            scores(model, IDS, 5, 10)
        check(source)
    for path, content in contents.items():
        with path.open("r+b") as file:  # the same file, not another of its name
            file.write(content)
    np.testing.assert_array_equal(scores(model, IDS, 5, 10), expected)


@pytest.mark.parametrize(
    ("fault", "words", "slots"),
    [
        (Broken(), r"cannot be read \(Input/output error\)", 2),
        (Broken(), r"cannot be read \(Input/output error\)", 6),
        (Short(100), "ends inside bytes", 3),
        (Flipped(at=9), "checksum", 48),  # the checksum is tested when an expert is read for the first time
    ],
)
def test_a_disk_that_fails_once_loses_one_request(home: Path, fault: Fault, words: str, slots: int) -> None:
    """Wherever it strikes: a guess that fails is nobody's loss, unless it is needed first."""
    folder = home / "v3-store"
    expected = whole(folder)
    lost = 0
    for number in range(0, 30, 3):
        model, source = streamed(
            folder, slots, wrap=lambda reader, n=number: FaultyReader(reader, {n: fault})
        )
        try:
            found = scores(model, IDS, 5, 10)
        except CheckpointError as error:
            lost += 1
            assert re.search(words, str(error))  # noqa: PT017 - most strikes are not told
        else:
            np.testing.assert_array_equal(found, expected)
        check(source)
        np.testing.assert_array_equal(scores(model, IDS, 5, 10), expected)
    assert lost > 0


def test_a_disk_that_fails_for_good(folder: Path) -> None:
    always = dict.fromkeys(range(10_000), Broken())
    model, source = streamed(folder, 6, wrap=lambda reader: FaultyReader(reader, always))
    engine = Engine(model, speculate="off", streamed=source)
    jobs = [engine.submit(IDS[:n], PARAMS) for n in (3, 4, 5)]
    while engine.step():
        pass
    for job in jobs:
        assert isinstance(job.error, CheckpointError)
        assert "Input/output error" in str(job.error)
    check(source)
    assert engine.free_pages == engine.total_pages


def test_reads_that_come_late_and_out_of_order(home: Path) -> None:
    folder = home / "v3"
    late = {number: Late(0.002 * (number % 3)) for number in range(0, 400, 2)}
    model, source = streamed(folder, 7, wrap=lambda reader: FaultyReader(reader, late))
    np.testing.assert_array_equal(scores(model, IDS, 5, 10), whole(folder))
    check(source)
    assert source.counters.wait_s > 0


# ---------------------------------------------------------------------- file systems and processes


def file_system_of(path: Path) -> str:
    best = max(
        (line.split() for line in Path("/proc/self/mounts").read_text().splitlines()),
        key=lambda fields: len(fields[1]) if path.is_relative_to(fields[1]) else -1,
    )
    return best[2]


@pytest.fixture
def in_memory(home: Path) -> Iterator[Path]:
    """A store on tmpfs."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or file_system_of(shm) != "tmpfs" or not os.access(shm, os.W_OK):
        pytest.skip("/dev/shm is no tmpfs here")
    folder = shm / f"araio-test-{os.getpid()}"
    shutil.copytree(home / "v3-store", folder)
    yield folder
    shutil.rmtree(folder)


def test_a_store_on_tmpfs(in_memory: Path) -> None:
    model, source = streamed(in_memory, 3)
    np.testing.assert_array_equal(scores(model, IDS, 5, 10), whole(in_memory))
    assert source.reading.startswith("the others read from")


def test_direct_where_there_is_none_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that refuses the flag, which tmpfs no longer does everywhere."""
    real = os.open

    def refuses(path, flags, *rest, **named):
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return real(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refuses)
    with pytest.raises(DiskError, match=r"no reads past the page cache .*use io auto or buffered"):
        streamed(home / "v3-store", 3, io="direct")
    model, source = streamed(home / "v3-store", 3, io="auto")
    np.testing.assert_array_equal(scores(model, IDS, 5, 10), whole(home / "v3-store"))
    assert "through the page cache" in source.reading


PROGRAM = """
import sys, json
import numpy as np
from araio.weights import load
from araio.weights.load import Memory, open_model
from araio.weights.machine_memory import MachineMemory
from pathlib import Path
load.machine_memory = lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20)
ids = np.array(json.loads(sys.argv[2]))
loaded = open_model(Path(sys.argv[1]), memory=Memory(ram=int(sys.argv[3])))
assert loaded.experts is not None
model = loaded.network
cache = model.new_cache()
for start in range(3):
    found = model.logits(model.forward(ids, model.new_cache()))
print(json.dumps(found.view(np.uint32).tolist()))
"""


def started(folder: Path, ram: int, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), json.dumps(IDS), str(ram)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
    )


def test_two_processes_on_one_store(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same time, with one usage file between them; and one more behind them, which begins warm."""
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20))
    smallest = open_model(store, memory=Memory(ram=1 << 30)).budget.smallest
    model = load_model(store)
    expected = bits(model.logits(model.forward(np.array(IDS), model.new_cache())))
    for programs in (
        [started(store, smallest, tmp_path / "cache"), started(store, smallest + 50_000, tmp_path / "cache")],
        [started(store, smallest, tmp_path / "cache")],
    ):
        for program in programs:
            out, err = program.communicate(timeout=60)
            assert (program.returncode, err) == (0, "")
            np.testing.assert_array_equal(np.array(json.loads(out), np.uint32), expected)
    assert list((tmp_path / "cache" / "araio" / "usage").iterdir())


@pytest.mark.parametrize("how", ["garbage", "folder", "other shape", "nan"])
def test_a_usage_file_that_is_none_is_as_good_as_none(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20))
    ram = open_model(store, memory=Memory(ram=1 << 30)).budget.smallest + 100_000
    ids = np.array(IDS)
    loaded = open_model(store, memory=Memory(ram=ram))
    expected = bits(loaded.network.logits(loaded.network.forward(ids, loaded.network.new_cache())))
    del loaded
    (path,) = (tmp_path / "cache" / "araio" / "usage").iterdir()
    document = json.loads(path.read_text())
    path.unlink()
    match how:
        case "garbage":
            path.write_bytes(b"\xff\x00{")
        case "folder":
            path.mkdir()
        case "other shape":
            path.write_text(json.dumps(document | {"worth": [[1.0]]}))
        case "nan":
            path.write_text(json.dumps(document).replace("0.0", "NaN", 1).replace("[[", "[[NaN, ", 1))
    loaded = open_model(store, memory=Memory(ram=ram))
    found = loaded.network.logits(loaded.network.forward(ids, loaded.network.new_cache()))
    np.testing.assert_array_equal(bits(found), expected)


def test_a_damaged_expert_does_not_keep_a_model_from_beginning_warm(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20))
    ram = open_model(store, memory=Memory(ram=1 << 30)).budget.smallest + 100_000
    loaded = open_model(store, memory=Memory(ram=ram))
    loaded.network.forward(np.array(IDS), loaded.network.new_cache())
    del loaded
    kept = (store / expert_file(1)).stat()
    with suppress(AraioError):
        for expert in range(16):
            with open_checked(store) as (_, opened):
                size = opened.record.bytes
            begin = SafetensorsFile(store / expert_file(1))[EXPERTS_TENSOR].begin
            flip(store / expert_file(1), begin + expert * size + 100)
    os.utime(store / expert_file(1), ns=(kept.st_atime_ns, kept.st_mtime_ns))
    loaded = open_model(store, memory=Memory(ram=ram))  # begins warm with what can be read
    check(loaded.experts)
    with pytest.raises(CheckpointError, match="of layer 1 could not be read"):
        loaded.network.forward(np.array(IDS), loaded.network.new_cache())


INTERRUPTED = """
import sys, time
from pathlib import Path
import araio
from araio.weights import load
from araio.weights.machine_memory import MachineMemory
load.machine_memory = lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20)
model = araio.load(sys.argv[1], ram=int(sys.argv[2]))
assert model.experts is not None
first = model.complete("aaa", max_tokens=20, seed=1).content
while True:
    try:
        print("ready", flush=True)
        for _ in range(10_000):
            model.complete("aab", max_tokens=20, seed=2)
    except KeyboardInterrupt:
        break
assert model.complete("aaa", max_tokens=20, seed=1).content == first
print("the same", flush=True)
"""


@pytest.mark.parametrize("after_s", [0.0, 0.013, 0.05])
def test_ctrl_c_leaves_a_model_that_answers(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    monkeypatch.setattr(load, "machine_memory", lambda: MachineMemory(1 << 40, 1 << 40, 100 << 20))
    ram = open_model(store, memory=Memory(ram=1 << 30)).budget.smallest + 10_000
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(store), str(ram)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n", program.communicate()[1]
    time.sleep(after_s)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert (out, program.returncode) == ("the same\n", 0), err
