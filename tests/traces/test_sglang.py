"""SGLang's dumps and responses; the dumps are saved by PyTorch as its recorder saves them."""

from __future__ import annotations

import base64
import builtins
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from araio.errors import TraceError
from araio.traces import Phase, Segment, Trace, TraceHeader
from araio.traces.exporters import export_trace
from araio.traces.importers import import_trace

MODEL = TraceHeader(n_routed_experts=16, top_k=4, layers=(1, 2))
EXTEND, DECODE, MIXED, IDLE = 1, 2, 3, 4


def routes(tokens: int, seed: int = 0) -> np.ndarray:
    return np.argsort(np.random.default_rng(seed).random((tokens, 2, 16)), axis=2)[..., :4]


def recorded(
    ids: np.ndarray, mode: int, positions: list[int], lengths: list[int] | None = None
) -> dict[str, Any]:
    """One pass of mode per_token: a dense layer first, room for 8 experts, -1 where there is nothing."""
    topk = np.full((3, len(ids), 8), -1, np.int32)
    topk[1:, :, :4] = ids.swapaxes(0, 1)
    return {
        "forward_pass_id": 1,
        "rank": 0,
        "gatherer_key": "primary",
        "input_ids": [100 + position for position in positions],
        "positions": positions,
        "extend_seq_lens": lengths,
        "forward_mode": mode,
        "topk_ids_of_layer": torch.from_numpy(topk),
        "misc_objects": [],
        "global_physical_count": torch.zeros((3, 16), dtype=torch.int32),
    }


def dump(path: Path, records: list[dict[str, Any]], table: Any = None) -> Path:
    if table is None:
        table = np.tile(np.arange(16), (3, 1))
    torch.save({"records": records, "last_physical_to_logical_map": torch.as_tensor(table)}, path)
    return path


def test_passes_of_prefill_and_decode(tmp_path):
    records = [
        recorded(routes(5), EXTEND, [0, 1, 2, 0, 1], [3, 2]),
        recorded(routes(2, seed=1), DECODE, [3, 2]),
        recorded(np.zeros((0, 2, 4), int), IDLE, []),
        recorded(routes(3, seed=2), MIXED, [0, 1, 4], [2]),
    ]
    trace = import_trace(dump(tmp_path / "dump.pt", records))
    trace.check()
    assert (trace.header.layers, trace.header.top_k, trace.header.n_routed_experts) == ((1, 2), 4, 16)
    assert [trace.column("position")[part].tolist() for part in trace.sequences] == [
        [0, 1, 2, 3, 4],
        [0, 1, 2],
        [0, 1],
    ]
    rows = trace.recorded()
    np.testing.assert_array_equal(rows["expert_ids"], np.concatenate([routes(5), routes(2, 1), routes(3, 2)]))
    assert rows["phase"].tolist() == [Phase.PREFILL] * 5 + [Phase.DECODE] * 2 + [Phase.PREFILL] * 2 + [
        Phase.DECODE
    ]
    assert rows["segment"].tolist() == [Segment.PROMPT] * 5 + [Segment.ANSWER] * 2 + [0, 0, Segment.ANSWER]
    assert rows["token_id"].tolist() == [100, 101, 102, 100, 101, 103, 102, 100, 101, 104]


def test_a_decoded_token_that_several_sequences_could_continue_begins_its_own(tmp_path):
    records = [
        recorded(routes(4), EXTEND, [0, 1, 0, 1], [2, 2]),
        recorded(routes(1), DECODE, [2]),  # of one of two
        recorded(routes(3), EXTEND, [0, 1, 2], [3]),
        recorded(routes(2), DECODE, [3, 3]),  # two for one
    ]
    trace = import_trace(dump(tmp_path / "dump.pt", records))
    lengths = [part.stop - part.start for part in trace.sequences]
    assert lengths == [2, 2, 1, 3, 1, 1]


def test_physical_experts_are_translated(tmp_path):
    table = np.tile(np.concatenate([np.arange(16)[::-1], [5, 6]]), (3, 1))  # two experts lie twice
    ids = routes(3)
    ids[0, 0] = [16, 1, 17, 2]
    trace = import_trace(dump(tmp_path / "dump.pt", [recorded(ids, DECODE, [7, 8, 9])], table))
    np.testing.assert_array_equal(trace.experts, table[0][ids])
    assert trace.experts[0, 0].tolist() == [5, 14, 6, 13]
    assert trace.header.n_routed_experts == 16


def test_padding_has_no_routes(tmp_path):
    ids = routes(4)
    ids[3] = -1
    trace = import_trace(dump(tmp_path / "dump.pt", [recorded(ids, EXTEND, [0, 1, 2, 3], [4])]))
    assert trace.where().tolist() == [True, True, True, False]


def test_counts(tmp_path):
    counts = np.zeros((2, 3, 16), np.int32)
    counts[:, 1:] = 3
    torch.save({"rank": 0, "logical_count": torch.from_numpy(counts)}, tmp_path / "stat.pt")
    for header in (MODEL, TraceHeader(n_routed_experts=16, top_k=4)):
        trace = import_trace(tmp_path / "stat.pt", header=header)
        assert (trace.tokens, trace.n_layers, trace.header.layers) == (24, 2, (1, 2))
        np.testing.assert_array_equal(trace.counts.n[0, Phase.FORCED], counts[:, 1:].sum(axis=0))
    with pytest.raises(TraceError, match="does not say how many experts a token has"):
        import_trace(tmp_path / "stat.pt")


def test_counts_go_to_sglang_and_back(tmp_path):
    trace = Trace.from_arrays(MODEL, expert_ids=routes(10))
    export_trace(trace, tmp_path / "x.json", "sglang")
    document = json.loads((tmp_path / "x.json").read_text())
    assert np.shape(document["logical_count"]) == (1, 3, 16)
    assert not np.any(document["logical_count"][0][0])
    again = import_trace(tmp_path / "x.json", header=MODEL)
    np.testing.assert_array_equal(again.counts.n.sum(axis=(0, 1)), trace.counts.n.sum(axis=(0, 1)))


def test_responses(tmp_path):
    every = np.zeros((5, 3, 4), np.int32)
    every[:, 1:] = routes(5)
    content = base64.b64encode(every.tobytes()).decode()
    meta = {"prompt_tokens": 2, "completion_tokens": 4, "routed_experts": content}
    (tmp_path / "x.jsonl").write_text("\n".join([json.dumps({"text": "a", "meta_info": meta})] * 2))
    trace = import_trace(tmp_path / "x.jsonl", header=MODEL)
    assert (trace.tokens, len(trace.sequences), trace.header.engine) == (10, 2, "sglang")
    np.testing.assert_array_equal(trace.experts[:5], routes(5))
    assert trace.column("phase")[:5].tolist() == [0, 0, 1, 1, 1]


# ---------------------------------------------------------------------- what is refused


def with_record(**changes: Any) -> dict[str, Any]:
    return recorded(routes(2), EXTEND, [0, 1], [2]) | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "holds list; expected what SGLang's recorder dumps"),
        ({"a": 1}, "has neither logical_count nor records"),
        ({"records": [{"global_physical_count": 1}]}, "have no topk_ids_of_layer; record with"),
        ({"records": []}, "holds no routes"),
        (
            {"records": [with_record(topk_ids_of_layer="x")]},
            r"records\[0\]: holds .*; expected whole numbers",
        ),
        (
            {"records": [with_record(topk_ids_of_layer=torch.zeros(3, 2))]},
            r"expected whole numbers, \(layers, tokens",
        ),
        (
            {"records": [with_record(positions=[0])]},
            r"records\[0\]: has 2 tokens, 1 positions and 2 input_ids",
        ),
        ({"records": [with_record(positions=None)]}, r"records\[0\]\.positions: holds object"),
        ({"records": [with_record(forward_mode=5)]}, r"records\[0\]: forward_mode is 5"),
        (
            {"records": [with_record(extend_seq_lens=[3])]},
            "extend_seq_lens add up to 3; expected at most its 2",
        ),
        ({"records": [with_record(extend_seq_lens=None)]}, r"extend_seq_lens: holds object"),
        (
            {
                "records": [with_record()],
                "last_physical_to_logical_map": torch.zeros(3, 4, dtype=torch.int64),
            },
            "expected a row for each layer, a place for each id",
        ),
        (
            {
                "records": [with_record()],
                "last_physical_to_logical_map": torch.arange(16).repeat(3, 1) // 4,
            },
            r"records\[0\]: token 0 chose an expert twice",
        ),
        (
            {
                "records": [with_record()],
                "last_physical_to_logical_map": torch.zeros(3, 16, dtype=torch.int64),
            },
            "top_k is 4; expected 1 to the 1 experts",
        ),
        ({"records": [with_record(topk_ids_of_layer=torch.full((3, 2, 8), -1))]}, "holds no routes"),
        ({"records": [with_record(input_ids=[1, 1 << 40])]}, "column 'token_id' holds"),
        (
            {
                "records": [
                    with_record(),
                    with_record(topk_ids_of_layer=torch.zeros(1, 2, 8, dtype=torch.int32)),
                ]
            },
            "models",
        ),
    ],
)
def test_dumps_that_are_not_of_routes(tmp_path, content, message):
    torch.save(content, tmp_path / "dump.pt")
    with pytest.raises(TraceError, match=message) as caught:
        import_trace(tmp_path / "dump.pt")
    assert str(caught.value).startswith(str(tmp_path / "dump.pt"))


class Hostile:
    def __reduce__(self) -> Any:
        return print, ("run",)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", pickle.dumps({"records": 1}), pickle.dumps(Hostile())]
)
def test_files_that_pytorch_did_not_save(tmp_path, content, capsys):
    (tmp_path / "dump.pt").write_bytes(content)
    with pytest.raises(TraceError, match=r"tensors and plain values alone|has neither"):
        import_trace(tmp_path / "dump.pt")
    assert "run" not in capsys.readouterr().out


def test_a_saved_object_does_not_run(tmp_path, capsys):
    torch.save({"records": Hostile()}, tmp_path / "dump.pt")
    with pytest.raises(TraceError, match="tensors and plain values alone"):
        import_trace(tmp_path / "dump.pt")
    assert "run" not in capsys.readouterr().out


def test_without_pytorch(tmp_path, monkeypatch):
    dump(tmp_path / "dump.pt", [with_record()])
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "torch":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TraceError, match="PyTorch is not installed; install it"):
        import_trace(tmp_path / "dump.pt")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, r"meta_info\.routed_experts is missing"),
        ({"routed_experts": "?"}, "has no prompt_tokens or completion_tokens"),
        ({"routed_experts": "?", "prompt_tokens": 2, "completion_tokens": 4}, "expected base64"),
        (
            {"routed_experts": "AAAA", "prompt_tokens": 2, "completion_tokens": 4},
            "has 3 bytes; expected 4 int32 for",
        ),
        ({"routed_experts": "", "prompt_tokens": 0, "completion_tokens": 0}, "has 0 bytes"),
        ({"routed_experts": 5, "prompt_tokens": 2, "completion_tokens": 4}, "is 5; expected base64"),
    ],
)
def test_responses_that_are_not_of_routes(tmp_path, meta, message):
    (tmp_path / "x.json").write_text(json.dumps({"meta_info": meta}))
    with pytest.raises(TraceError, match=message):
        import_trace(tmp_path / "x.json", header=MODEL)


def test_what_is_of_no_kind(tmp_path):
    (tmp_path / "x.txt").write_text("")
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "empty.jsonl").write_text("")
    for name, message in [
        ("missing", "does not exist"),
        ("x.txt", "is of no kind that can be imported; expected a .pt, .npy"),
        ("empty.json", "is not valid JSON"),
        ("empty.jsonl", "is empty; expected JSON objects"),
        (".", "is of no kind that can be imported; expected expert_weights_LAYER"),
    ]:
        with pytest.raises(TraceError, match=message):
            import_trace(tmp_path / name)
    with pytest.raises(
        TraceError, match="kind 'llama' is not known; expected one of esft, parquet, sglang, vllm"
    ):
        import_trace(tmp_path / "x.txt", "llama")
