"""Traces that lie or are damaged: each ends in a TraceError that names the file and the column.

What a damaged trace gives is an error or the numbers that its files hold, never more memory than the files
have bytes, and never a file outside its folder.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from araio.errors import TraceError
from araio.traces import CacheEvents, Trace, TraceHeader
from araio.traces.importers import import_trace

TOKENS, COUNTS, CACHE = "tokens-00000.safetensors", "counts.safetensors", "cache.safetensors"
SHAPE = (30, 2, 4)
OTHERS = TraceHeader(n_routed_experts=16, top_k=4, layers=(1, 2))


def made(seed: int = 0) -> Trace:
    random = np.random.default_rng(seed)
    weights = np.sort(random.random(SHAPE) + 0.1, axis=2)[..., ::-1]
    valid = np.where(np.arange(30) % 7 == 6, 2, 1)
    is_valid = (valid == 1)[:, None, None]
    header = TraceHeader(n_routed_experts=16, top_k=4, layers=(1, 2), norm_topk_prob=True, domains=("a", "b"))
    draft = Trace.from_arrays(
        replace(header, layers=(3,)), expert_ids=[[[1, 2, 3, 4]]] * 5, weights=np.full((5, 1, 4), 0.25)
    )
    return Trace.from_arrays(
        header,
        expert_ids=np.argsort(random.random((30, 2, 16)), axis=2)[..., :4] * is_valid,
        weights=weights / weights.sum(axis=2, keepdims=True) * is_valid,
        domain=np.arange(30) % 2,
        valid=valid,
        cache_events=CacheEvents(
            *(np.array(values) for values in ([0, 9], [1, 2], [3, 15], [0, 3], [0, 7], [0, 1]))
        ),
        draft=draft,
    )


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces") / "x.moetrace"
    made().save(folder)
    return folder


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    return shutil.copytree(intact, tmp_path / "x.moetrace")


def read_all(folder: Path) -> Trace:
    trace = Trace.open(folder)
    trace.check()
    _ = trace.counts, trace.cache_events, trace.sequences
    return trace


def refused(folder: Path, file: str, message: str) -> None:
    with pytest.raises(TraceError, match=message) as caught:
        read_all(folder)
    assert str(caught.value).startswith(str(folder / file) if file else str(folder))
    assert len(str(caught.value)) < 800


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "trace.json").read_text())
    change(document)
    (folder / "trace.json").write_text(json.dumps(document))


def change_tensors(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = {name: values.copy() for name, values in load_file(path).items()}
    change(tensors)
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, path)


def test_an_intact_one(folder):
    trace = read_all(folder)
    assert (trace.tokens, trace.draft.tokens, len(trace.cache_events.t)) == (30, 5, 2)


# ---------------------------------------------------------------------- the header


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "version 2, this araio reads up to 1; install a newer araio"),
        (lambda d: d.update(version="1"), "version is '1'; expected an integer"),
        (lambda d: d.update(format="araio-profile"), "format is 'araio-profile'; expected araio-trace"),
        (lambda d: d.update(surprise=1), "the key 'surprise' .* is not known"),
        (lambda d: d.pop("top_k"), "top_k is missing; expected an integer"),
        (lambda d: d.update(top_k=True), "top_k is True"),
        (lambda d: d.update(top_k=17), "top_k is 17; expected 1 to the 16 experts"),
        (lambda d: d.update(n_routed_experts=1 << 40), "n_routed_experts is 1099511627776"),
        (lambda d: d.update(n_routed_experts=16.0), r"n_routed_experts is 16\.0"),
        (lambda d: d.update(layers=[2, 1]), r"layers are \[2, 1\]; expected rising numbers"),
        (lambda d: d.update(layers="12"), "layers is '12'; expected at most 4096 integers"),
        (
            lambda d: d.update(layers=[1, 2, 3]),
            "column 'n' is U64 .*; expected U64|column 'expert_ids' is U8",
        ),
        (lambda d: d.update(domains=[]), r"domains are \[\]"),
        (lambda d: d.update(domains=["a", 1]), r"domains is \['a', 1\]; expected at most 256 texts"),
        (lambda d: d.update(domains=["a"] * 2), "expected 1 to 256 different names"),
        (lambda d: d.update(model=["x"]), r"model is \['x'\]; expected text"),
        (lambda d: d.update(seed=0.5), r"seed is 0\.5; expected an integer"),
        (lambda d: d.update(norm_topk_prob="yes"), "norm_topk_prob is 'yes'; expected true or false"),
        (lambda d: d.update(scoring_func="tanh"), "scoring_func is 'tanh'"),
        (lambda d: d.update(columns=["logits"]), "column 'logits' is not known"),
        (lambda d: d.update(shards=[0]), "shards is .*; expected at most 65536 integers from 1"),
        (lambda d: d.update(shards=[30.5]), "shards is .*; expected at most 65536 integers"),
        (lambda d: d.update(mtp_layers=[]), r"names shards of drafts, but mtp_layers is \[\]"),
        (lambda d: d.update(mtp_layers=list(range(99))), "mtp_layers is .*; expected at most 8"),
        (lambda d: d.update(cache_events=-1), "cache_events is -1"),
    ],
)
def test_a_header_that_is_not_one(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(TraceError, match=message):
        read_all(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": "araio-trace"}', b"\xff", b'{"a":1,"a":2}']
)
def test_a_header_that_is_not_json(folder, content):
    (folder / "trace.json").write_bytes(content)
    refused(folder, "trace.json", "is not|holds|version is missing|appears twice")


def test_what_is_no_trace(tmp_path, folder):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, message in [
        ("missing", "does not exist; expected the folder of a trace"),
        ("file", "is a file; expected the folder"),
        ("empty", r"has no trace\.json, so it is no trace"),
    ]:
        with pytest.raises(TraceError, match=message):
            Trace.open(tmp_path / name)
    (folder / "trace.json").unlink()
    refused(folder, "", r"has no trace\.json")


def test_an_empty_trace(folder):
    rewrite(folder, lambda d: d.update(shards=[]))
    change_tensors(folder / COUNTS, lambda t: t["n"].fill(0))
    refused(folder, COUNTS, "the trace is empty: it has no rows, and counts no tokens")


# ---------------------------------------------------------------------- the files


@pytest.mark.parametrize("name", [TOKENS, COUNTS, CACHE, "draft-00000.safetensors"])
def test_a_file_that_is_missing(folder, name):
    (folder / name).unlink()
    refused(folder, name, "is missing; copy the trace again, or record it again")


@pytest.mark.parametrize("name", [TOKENS, COUNTS, CACHE, "draft-00000.safetensors"])
@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_file_that_is_truncated(folder, name, left):
    (folder / name).write_bytes((folder / name).read_bytes()[:left])
    refused(folder, name, "(truncated, |too few .*; )copy the trace again, or record it again$")


@pytest.mark.parametrize("name", [TOKENS, COUNTS, CACHE, "trace.json"])
def test_a_file_that_is_a_link_elsewhere(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    refused(folder, name, "is a link to .*, outside")


def test_a_file_that_is_a_link_to_itself(folder):
    (folder / TOKENS).unlink()
    (folder / TOKENS).symlink_to(folder / TOKENS)
    with pytest.raises(TraceError):
        read_all(folder)


def test_a_file_that_is_no_file(folder):
    (folder / TOKENS).unlink()
    os.mkfifo(folder / TOKENS)
    refused(folder, TOKENS, "not a regular file")


def test_a_file_that_shrinks_while_it_is_open(folder):
    trace = Trace.open(folder)
    os.truncate(folder / TOKENS, 700)
    with pytest.raises(TraceError, match=rf"{TOKENS}: ends inside tensor 'weights'"):
        _ = trace.weights


def test_another_number_of_rows(folder):
    rewrite(folder, lambda d: d.update(shards=[29]))
    refused(folder, TOKENS, r"column '\w+' is \w+ \[30.*\]; expected \w+ \[29.*\] by trace\.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("seq"), "column 'seq' is missing"),
        (lambda t: t.pop("weights"), "column 'weights' is missing"),
        (lambda t: t.update(norms=t["weights"]), r"column 'norms' is not in trace\.json"),
        (
            lambda t: t.update(expert_ids=t["expert_ids"].astype(np.uint16)),
            "column 'expert_ids' is U16 .* expected U8",
        ),
        (
            lambda t: t.update(weights=t["weights"].astype(np.float32)),
            "column 'weights' is F32 .* expected F16",
        ),
        (
            lambda t: t.update(weights=t["weights"][:, :1]),
            r"column 'weights' is F16 \[30, 1, 4\]; expected F16 \[30, 2",
        ),
        (lambda t: t.update(seq=t["seq"][:, None]), r"column 'seq' is I32 \[30, 1\]; expected I32 \[30\]"),
    ],
)
def test_columns_of_another_type_or_shape(folder, change, message):
    change_tensors(folder / TOKENS, change)
    refused(folder, TOKENS, message)


# ---------------------------------------------------------------------- the numbers


def put(name: str, place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("expert_ids", (2, 1, 3), 16), "column 'expert_ids': row 2: an expert beyond the 16"),
        (put("expert_ids", (2, 1), [1, 2, 1, 3]), "column 'expert_ids': row 2: an expert is chosen twice"),
        (put("expert_ids", (6, 0, 0), 9), "column 'expert_ids': row 6: something is there, but `valid` says"),
        (put("weights", (5, 0, 3), np.nan), "column 'weights': row 5: a weight is not a number"),
        (put("weights", (5, 0, 0), np.inf), "column 'weights': row 5: a weight is not a number"),
        (put("weights", (5, 0, 3), -0.5), "column 'weights': row 5: a weight is negative"),
        (put("weights", (5, 0, 3), 1), "column 'weights': row 5: weights do not fall"),
        (put("weights", (5, 0, 0), 2), "column 'weights': row 5: weights do not add up to 1"),
        (put("phase", 3, 9), "column 'phase': row 3: a number above 3"),
        (put("segment", 3, 9), "column 'segment': row 3: a number above 2"),
        (put("domain", 3, 2), "column 'domain': row 3: a domain beyond the 2"),
        (put("valid", 3, 255), "column 'valid': row 3: a number above 7"),
        (put("seq", 3, -1), "column 'seq': row 3: a negative number"),
        (put("position", 3, -7), "column 'position': row 3: a negative number"),
    ],
)
def test_numbers_that_no_router_gives(folder, change, message):
    change_tensors(folder / TOKENS, change)
    refused(folder, TOKENS, message)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            TOKENS,
            put("domain", 0, 1),
            "column 'n': layer 0 of domain 'a' in phase prefill counts 52 choices; expected 4",
        ),
        (TOKENS, put("phase", 0, 2), "column 'n': layer 0 of domain 'a' in phase prefill counts 52"),
        (
            COUNTS,
            put("n", (0, 0, 1, 3), 1 << 60),
            "column 'n': layer 1 of domain 'a' in phase prefill counts",
        ),
        (
            COUNTS,
            put("n", (0, 3, 0, 0), 4),
            "column 'n': layer 0 of domain 'a' in phase forced counts 4 .*of 0 tokens",
        ),
    ],
)
def test_counts_that_contradict_rows(folder, file, change, message):
    change_tensors(folder / file, change)
    refused(folder, COUNTS, message)


def test_counts_of_other_experts(folder):
    change_tensors(folder / COUNTS, lambda t: t.update(n=np.roll(t["n"], 1, axis=3)))
    Trace.open(folder)  # the sums are right
    refused(folder, COUNTS, r"column 'n': \d+ choices of expert \d+ in layer 0, but the rows have \d+")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("pair", (0, 1, 2), 9999), "column 'pair'"),
        (put("pair", (1, 3, 3), 1), "column 'pair'"),
        (put("trans", (0, 1, 2), 9999), "column 'trans'"),
        (put("gate", (0, 0, 0, 0), np.nan), "column 'gate'"),
        (put("gate", (0, 0, 0, 0), -1.0), "column 'gate'"),
        (put("gate", (0, 0, 0, 0), 1e300), "column 'gate'"),
    ],
)
def test_counts_that_contradict_themselves(folder, change, message):
    change_tensors(folder / COUNTS, change)
    refused(folder, COUNTS, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("t", 1, 31), "column 't': event 1 has 31"),
        (put("t", 1, -1), "column 't': event 1 has -1"),
        (put("layer", 0, 7), "column 'layer': event 0 has 7"),
        (put("expert", 0, 16), "column 'expert': event 0 has 16"),
        (put("kind", 0, 4), "column 'kind': event 0 has 4"),
    ],
)
def test_cache_events_of_nothing_that_there_is(folder, change, message):
    change_tensors(folder / CACHE, change)
    refused(folder, CACHE, message)


# ---------------------------------------------------------------------- memory, and anything at all


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(n_routed_experts=4096),
        lambda d: d.update(shards=[(1 << 31) - 1]),
        lambda d: d.update(shards=[1] * 60_000),
        lambda d: d.update(layers=list(range(4096))),
        lambda d: d.update(domains=[str(number) for number in range(256)]),
        lambda d: d.update(cache_events=(1 << 31) - 1),
        lambda d: d.update(mtp_layers=list(range(3, 11))),
        lambda d: d.update(n_routed_experts=4096, layers=list(range(4096)), shards=[]),
    ],
)
def test_a_header_cannot_ask_for_memory_that_no_file_has(folder, change):
    rewrite(folder, change)
    tracemalloc.start()
    try:
        with pytest.raises(TraceError):
            read_all(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def opens_or_is_refused(folder: Path) -> None:
    try:
        trace = read_all(folder)
    except TraceError:
        return
    read = [trace.column(name) for name in ("expert_ids", "weights", "seq", "valid") if trace.has(name)]
    assert sum(values.nbytes for values in read) <= (folder / TOKENS).stat().st_size


@settings(derandomize=True, deadline=None, max_examples=300)
@given(data=st.data())
def test_damage_anywhere(intact, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged") / "x"
    shutil.copytree(intact, folder)
    path = folder / data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "digit", "insert"]))
        if kind == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del content[place : place + data.draw(st.integers(1, 9))]
        elif kind == "digit":
            content[place] = data.draw(st.sampled_from(b'0123456789-[]{},:"'))
        else:
            content[place:place] = data.draw(st.binary(max_size=5))
        if not content:
            break
    path.write_bytes(content)
    opens_or_is_refused(folder)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(data=st.data())
def test_any_value_in_the_header(intact, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("headers") / "x"
    shutil.copytree(intact, folder)
    document = json.loads((folder / "trace.json").read_text())
    for key in data.draw(st.lists(st.sampled_from(sorted(document)), min_size=1, max_size=2)):
        document[key] = data.draw(VALUES)
    (folder / "trace.json").write_text(json.dumps(document))
    opens_or_is_refused(folder)


# ---------------------------------------------------------------------- what other programs recorded


def write_others(folder: Path) -> list[Path]:
    """A good file of each kind that is imported and is no container of another library's."""
    ids = np.argsort(np.random.default_rng(0).random((5, 2, 16)), axis=2)[..., :4].astype(np.int32)
    np.save(folder / "x.npy", ids.astype(np.uint8))
    encoded = base64.b64encode((folder / "x.npy").read_bytes()).decode()
    usage = {"prompt_tokens": 2, "completion_tokens": 4}
    vllm = {"choices": [{"routed_experts": encoded}], "usage": usage}
    lists = {"choices": [{"routed_experts": ids[2:].tolist()}], "prompt_routed_experts": ids[:2].tolist()}
    sglang = {"meta_info": {"routed_experts": base64.b64encode(ids.tobytes()).decode(), **usage}}
    (folder / "vllm.jsonl").write_text(f"{json.dumps(vllm)}\n{json.dumps(lists)}\n")
    (folder / "sglang.json").write_text(json.dumps(sglang))
    (folder / "counts.json").write_text(json.dumps({"logical_count": np.full((1, 3, 16), 4).tolist()}))
    (folder / "law").mkdir()
    for layer in (1, 2):
        lines = ["\t".join(map(str, ids[row, layer - 1])) + "\t\t0.5\t0.3\t0.1\t0.05\n" for row in range(5)]
        (folder / "law" / f"expert_weights_{layer}.txt").write_text("".join(lines))
    return [folder / name for name in ("x.npy", "vllm.jsonl", "sglang.json", "counts.json", "law")]


@pytest.mark.parametrize("number", range(5))
def test_files_of_others_that_are_intact(tmp_path, number):
    path = write_others(tmp_path)[number]
    trace = import_trace(path, header=OTHERS)
    trace.check()
    assert trace.n_layers == 2


@settings(derandomize=True, deadline=None, max_examples=400)
@given(data=st.data())
def test_damage_anywhere_in_files_of_others(tmp_path_factory, data):
    path = data.draw(st.sampled_from(write_others(tmp_path_factory.mktemp("others"))))
    damaged = path / "expert_weights_2.txt" if path.is_dir() else path
    content = bytearray(damaged.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(len(content) - 1, 0)))
        new = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"0", b"-", b"9999999999999999999999", b"[", b"1e9"])
        )
        content[place : place + data.draw(st.integers(0, 4))] = new
    damaged.write_bytes(content)
    told = None
    try:
        import_trace(path, header=OTHERS).check()
    except TraceError as error:
        told = str(error)
    assert told is None or (told.startswith(str(path)) and len(told) < 800)
