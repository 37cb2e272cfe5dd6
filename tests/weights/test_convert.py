"""From a checkpoint to a store: what is stored is what the codec makes of it, whatever interrupts."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from araio.codecs import CODECS, codec
from araio.config import ModelConfig
from araio.errors import CheckpointError, FormatError, ModelNotFoundError
from araio.formats.checkpoint import Checkpoint
from araio.formats.layout import expected_tensors, main_tensors
from araio.formats.safetensors import SafetensorsFile
from araio.formats.store import Store
from araio.formats.store_check import check_store
from araio.formats.store_layout import StoreCodecs
from araio.formats.write import write_checkpoint
from araio.kernels.widen import widen
from araio.tensors import BFloat16, BlockFP8, Weight
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights import convert as module
from araio.weights.convert import convert
from araio.weights.load import open_checked
from araio.weights.locate import locate, locate_config

Q4 = StoreCodecs("q4", "q4", "q4")


@pytest.fixture(scope="module")
def v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("convert") / "v3"
    write_tiny_checkpoint(folder, "v3")
    return folder


@pytest.fixture(scope="module")
def v3_fp8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("convert") / "v3-fp8"
    write_tiny_checkpoint(folder, "v3-fp8")
    return folder


@pytest.fixture(scope="module")
def whole(v3: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the q4 store of `v3`, made without an interruption."""
    folder = tmp_path_factory.mktemp("convert") / "whole"
    convert(v3, folder, Q4)
    return contents(folder)


def weights_of(folder: Path) -> dict[str, Weight]:
    with open_checked(folder) as (config, source):
        if not source.holds_mtp(config):
            return {name: source.read_weight(name) for name, _ in main_tensors(config)}
        return {name: source.read_weight(name) for name in expected_tensors(config)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", [name for name in CODECS if name != "fp8"])
def test_every_tensor_is_what_the_codec_makes_of_it(v3, tmp_path, name, monkeypatch) -> None:
    monkeypatch.setattr(module, "PIECE_NUMBERS", 500)  # several pieces of most tensors
    conversion = convert(v3, tmp_path / "store", StoreCodecs(name, name, name))
    source, stored = weights_of(v3), weights_of(tmp_path / "store")
    assert source.keys() == stored.keys()
    for tensor, weight in source.items():
        is_plain = len(weight.shape) == 1 or tensor.endswith(".gate.weight")
        expected = widen(weight) if is_plain else widen(codec(name).encode(widen(weight)))
        np.testing.assert_array_equal(widen(stored[tensor]), expected, err_msg=tensor)
        assert codec("f32" if is_plain else name).holds(stored[tensor])
    files = [path.stat().st_size for path in (tmp_path / "store").glob("*.safetensors")]
    assert conversion.store_bytes == sum(files)
    assert conversion.weights == sum(np.prod(weight.shape) for weight in source.values())
    assert not (tmp_path / "store.partial").exists()


def test_each_class_has_its_codec(v3, tmp_path) -> None:
    convert(v3, tmp_path / "store", StoreCodecs(experts="q4", dense="q8", embeddings="bf16"))
    stored = weights_of(tmp_path / "store")
    for tensor, name in {
        "model.layers.1.mlp.experts.3.down_proj.weight": "q4",
        "model.layers.3.mlp.experts.0.up_proj.weight": "q4",  # of the MTP layer
        "model.layers.1.mlp.shared_experts.up_proj.weight": "q8",
        "model.layers.0.mlp.gate_proj.weight": "q8",
        "model.layers.2.self_attn.kv_b_proj.weight": "q8",
        "model.layers.3.eh_proj.weight": "q8",
        "model.embed_tokens.weight": "bf16",
        "lm_head.weight": "bf16",
        "model.layers.1.mlp.gate.weight": "f32",
        "model.layers.1.mlp.gate.e_score_correction_bias": "f32",
        "model.norm.weight": "f32",
    }.items():
        assert codec(name).holds(stored[tensor]), tensor


def test_published_fp8_is_passed_through_bit_for_bit(v3_fp8, tmp_path) -> None:
    convert(v3_fp8, tmp_path / "store", StoreCodecs("fp8", "fp8", "bf16"))
    source, stored = weights_of(v3_fp8), weights_of(tmp_path / "store")
    kinds = set()
    for tensor, weight in source.items():
        again = stored[tensor]
        if isinstance(weight, BlockFP8):
            assert isinstance(again, BlockFP8)
            np.testing.assert_array_equal(again.data, weight.data)
            np.testing.assert_array_equal(again.scale_inv, weight.scale_inv)
        else:  # embeddings and eh_proj stay bfloat16, the rest is widened
            np.testing.assert_array_equal(widen(again), widen(weight))
        kinds.add((type(weight), type(again)))
    assert (BFloat16, BFloat16) in kinds


def test_a_store_converts_as_a_checkpoint_does(v3, whole, tmp_path) -> None:
    convert(v3, tmp_path / "f32", StoreCodecs("f32", "f32", "f32"))
    convert(tmp_path / "f32", tmp_path / "again", Q4)
    again = contents(tmp_path / "again")
    assert again.pop("araio.json") != whole["araio.json"]  # their sources differ
    assert again == {name: content for name, content in whole.items() if name != "araio.json"}


def test_a_model_without_its_mtp_layer_gives_a_store_without_it(v3, tmp_path) -> None:
    config = ModelConfig.from_file(v3)
    with Checkpoint.open(v3) as checkpoint:
        tensors = [(name, checkpoint.read_weight(name)) for name, _ in main_tensors(config)]
    write_checkpoint(tmp_path / "saved", tensors)
    config.save(tmp_path / "saved" / "config.json")
    convert(tmp_path / "saved", tmp_path / "store", Q4)
    assert len(weights_of(tmp_path / "store")) == len(tensors)


def test_text_files_are_copied_as_they_are(v3, tmp_path) -> None:
    (tmp_path / "model").mkdir()
    for path in v3.iterdir():
        shutil.copy(path, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text('{"temperature" : 0.6}')
    convert(tmp_path / "model", tmp_path / "store", Q4)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "store" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_one_tensor_at_a_time_is_in_memory(v3, tmp_path, monkeypatch) -> None:
    seen: list[weakref.ref[Any]] = []
    most = 0
    read = Checkpoint.read_weight

    def watched(checkpoint: Checkpoint, name: str) -> Weight:
        nonlocal most
        weight = read(checkpoint, name)
        seen.append(weakref.ref(weight))
        most = max(most, sum(reference() is not None for reference in seen))
        return weight

    monkeypatch.setattr(Checkpoint, "read_weight", watched)
    convert(v3, tmp_path / "store", Q4)
    assert len(seen) > 100
    assert most <= 2


def test_few_pieces_are_encoded_ahead_of_a_disk_that_is_slow_and_then_stops(
    v3, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(module, "PIECE_NUMBERS", 500)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    begun: list[int] = []
    rows_of = module.rows_of

    def watched(weight: Weight, start: int, stop: int) -> Weight:
        begun.append(start)
        return rows_of(weight, start, stop)

    def stops(*_: object) -> None:
        sleep(0.05)  # for all pieces that may be encoded ahead
        raise StopError

    monkeypatch.setattr(module, "rows_of", watched)
    monkeypatch.setattr(module.TensorFileWriter, "append", stops)
    with pytest.raises(StopError):
        convert(v3, tmp_path / "store", Q4)
    assert 1 <= len(begun) <= 3


def test_progress_reaches_the_whole(v3, tmp_path) -> None:
    steps: list[tuple[int, int]] = []
    convert(v3, tmp_path / "store", Q4, lambda done, total: steps.append((done, total)))
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    assert len({total for _, total in steps}) == 1


# ---------------------------------------------------------------------- interruptions


class StopError(Exception):
    pass


def stopped(v3: Path, out: Path, after: int, codecs: StoreCodecs = Q4) -> None:
    steps = 0

    def on_progress(done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if steps == after:
            raise StopError

    with pytest.raises(StopError):
        convert(v3, out, codecs, on_progress)
    assert not out.exists()


@pytest.mark.parametrize("after", [1, 70, 90, 109])
def test_what_was_interrupted_goes_on_and_comes_to_the_same(v3, whole, tmp_path, after) -> None:
    stopped(v3, tmp_path / "store", after)
    partial = tmp_path / "store.partial"
    complete = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.safetensors")}
    convert(v3, tmp_path / "store", Q4)
    assert contents(tmp_path / "store") == whole
    for name, written in complete.items():
        assert (tmp_path / "store" / name).stat().st_mtime_ns == written
    assert (len(complete) > 0) == (after >= 70)


def test_an_unfinished_store_is_no_model_and_says_how_to_finish_it(v3, tmp_path) -> None:
    stopped(v3, tmp_path / "a store", 1, StoreCodecs("q4", "q8", "bf16"))
    command = f"araio convert MODEL '{tmp_path}/a store' --quant q4 --dense q8 --embeddings bf16, with"
    for find in (locate, locate_config):
        with pytest.raises(ModelNotFoundError, match=f"is an unfinished conversion.*: {command}"):
            find(str(tmp_path / "a store.partial"))
        with pytest.raises(ModelNotFoundError, match=f"is an unfinished conversion.*: {command}"):
            find(str(tmp_path / "a store"))


def test_after_kill_9_it_goes_on(v3, whole, tmp_path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from araio.weights.convert import convert; "
        "from araio.formats.store_layout import StoreCodecs; "
        "stop = lambda done, total: done > 0.7 * total and os.kill(os.getpid(), signal.SIGKILL); "
        "convert(Path(sys.argv[1]), Path(sys.argv[2]), StoreCodecs('q4', 'q4', 'q4'), stop)"
    )
    out = tmp_path / "store"
    killed = subprocess.run([sys.executable, "-c", script, v3, out], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    assert any((tmp_path / "store.partial").glob("*.safetensors"))
    convert(v3, out, Q4)
    assert contents(out) == whole


def test_a_complete_file_that_was_damaged_since_is_written_again(v3, tmp_path) -> None:
    stopped(v3, tmp_path / "store", 90)
    dense = tmp_path / "store.partial" / "dense.safetensors"
    content = bytearray(dense.read_bytes())
    content[-1] ^= 1
    dense.write_bytes(content)
    convert(v3, tmp_path / "store", Q4)
    with Store(tmp_path / "store", ModelConfig.from_file(v3)) as store:
        check_store(store)


def test_another_conversion_starts_over(v3, whole, tmp_path) -> None:
    stopped(v3, tmp_path / "store", 90, StoreCodecs("q8", "q4", "q4"))
    convert(v3, tmp_path / "store", Q4)
    assert contents(tmp_path / "store") == whole


def test_another_source_starts_over(v3, whole, tmp_path) -> None:
    write_tiny_checkpoint(tmp_path / "other", "v3", seed=1)
    stopped(tmp_path / "other", tmp_path / "store", 90)
    convert(v3, tmp_path / "store", Q4)
    assert contents(tmp_path / "store") == whole


def test_a_source_with_one_edited_expert_starts_over(v3, tmp_path) -> None:
    model = tmp_path / "model"
    shutil.copytree(v3, model)
    stopped(model, tmp_path / "store", 90)
    (path,) = model.glob("*.safetensors")
    place = SafetensorsFile(path)["model.layers.1.mlp.experts.0.up_proj.weight"]
    content = bytearray(path.read_bytes())
    content[place.begin : place.end] = bytes(place.end - place.begin)
    path.write_bytes(content)
    convert(model, tmp_path / "store", Q4)
    convert(model, tmp_path / "whole", Q4)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


@pytest.mark.parametrize("step", range(5))
def test_a_machine_that_stops_between_two_renames(v3, whole, tmp_path, monkeypatch, step) -> None:
    """Four files, the manifest and the folder are renamed; until the last of it there is no store."""
    done = 0
    rename = Path.rename

    def stops(path: Path, target: Path) -> Path:
        nonlocal done
        if done == step + 1:
            raise OSError(5, "Input/output error")
        done += 1
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stops)
    with pytest.raises(
        CheckpointError, match=r"could not be written \(Input/output error\); what is complete"
    ):
        convert(v3, tmp_path / "store", Q4)
    monkeypatch.undo()
    assert not (tmp_path / "store").exists()
    convert(v3, tmp_path / "store", Q4)
    assert contents(tmp_path / "store") == whole


# ---------------------------------------------------------------------- refusals


def test_what_exists_is_never_replaced(v3, tmp_path) -> None:
    convert(v3, tmp_path / "store", Q4)
    before = contents(tmp_path / "store")
    with pytest.raises(CheckpointError, match="store: exists already; delete it, or give another name"):
        convert(v3, tmp_path / "store", StoreCodecs("q8", "q8", "q8"))
    assert contents(tmp_path / "store") == before
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="link: exists already"):
        convert(v3, tmp_path / "link", Q4)


def test_a_folder_of_someone_else_is_left_alone(v3, tmp_path) -> None:
    (tmp_path / "store.partial").mkdir()
    (tmp_path / "store.partial" / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"store\.partial: is in the way, and no unfinished store"):
        convert(v3, tmp_path / "store", Q4)
    assert contents(tmp_path / "store.partial") == {"thesis.txt": b"years of work"}


def test_two_writers_exclude_each_other(v3, tmp_path) -> None:
    stopped(v3, tmp_path / "store", 90)
    descriptor = os.open(tmp_path / "store.partial", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    before = contents(tmp_path / "store.partial")
    with pytest.raises(CheckpointError, match="another process is writing this store; wait for it"):
        convert(v3, tmp_path / "store", Q4)
    assert contents(tmp_path / "store.partial") == before
    os.close(descriptor)
    convert(v3, tmp_path / "store", Q4)


def test_too_little_room_is_told_before_anything_is_written(v3, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(CheckpointError, match=r"store takes .* MB more, but 0 MB of the disk are free"):
        convert(v3, tmp_path / "store", Q4)
    assert contents(tmp_path / "store.partial").keys() == {"unfinished.json"}


def test_a_disk_that_fills_is_one_error(v3, tmp_path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"could not be written \(File too large\); what is complete"
        ):
            convert(v3, tmp_path / "store", Q4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    convert(v3, tmp_path / "store", Q4)


def test_a_number_that_a_codec_cannot_hold_names_the_tensor(v3, tmp_path) -> None:
    tensors = weights_of(v3)
    name = "model.layers.1.mlp.experts.2.up_proj.weight"
    large = widen(tensors[name])
    large[3, 4] = 1e6
    tensors[name] = large
    write_checkpoint(tmp_path / "model", tensors.items())
    shutil.copy(v3 / "config.json", tmp_path / "model")
    with pytest.raises(FormatError, match=rf"model: tensor '{name}' holds 1e\+06; q4 stores at most 393,024"):
        convert(tmp_path / "model", tmp_path / "store", Q4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_names_the_tensor(v3, tmp_path, value) -> None:
    tensors = weights_of(v3)
    name = "model.layers.0.self_attn.o_proj.weight"
    damaged = widen(tensors[name])
    damaged[3, 4] = value
    tensors[name] = damaged
    write_checkpoint(tmp_path / "model", tensors.items())
    shutil.copy(v3 / "config.json", tmp_path / "model")
    with pytest.raises(FormatError, match=rf"tensor '{name}' holds NaN or infinity"):
        convert(tmp_path / "model", tmp_path / "store", Q4)


def test_codecs_are_refused_by_name() -> None:
    with pytest.raises(FormatError, match="codec 'q6' is unknown"):
        StoreCodecs("q4", "q6", "q8")
    with pytest.raises(FormatError, match="embeddings are not stored as fp8; choose bf16"):
        StoreCodecs("fp8", "fp8", "fp8")
