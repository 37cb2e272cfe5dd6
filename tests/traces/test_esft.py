"""ESFT's text files: one line a sequence, ids, a gap, weights; files of that format are written here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from araio.errors import TraceError
from araio.traces import Phase, TraceHeader
from araio.traces.importers import import_trace


def line(ids: np.ndarray, weights: np.ndarray) -> str:
    numbers = [f"{weight:.4f}".rstrip("0") for weight in weights.ravel()]
    return "\t".join(map(str, ids.ravel())) + "\t\t" + "\t".join(numbers) + "\n"


def write_domain(folder: Path, lengths: list[int], layers: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Files as the scripts write them: six of 64 experts in no order, softmax probabilities."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    shape = (sum(lengths), layers, 6)
    ids = np.argsort(random.random((*shape[:2], 64)), axis=2)[..., :6]
    weights = np.round(random.random(shape) / 10 + 0.01, 4)
    ends = np.cumsum(lengths)
    for layer in range(layers):
        lines = [
            line(ids[end - length : end, layer], weights[end - length : end, layer])
            for end, length in zip(ends, lengths, strict=True)
        ]
        (folder / f"expert_weights_{layer + 1}.txt").write_text("".join(lines))
    return {"ids": ids, "weights": weights}


def test_domains_are_folders(tmp_path):
    law = write_domain(tmp_path / "law", [5, 1, 30])
    write_domain(tmp_path / "intent", [7, 9], seed=1)
    (tmp_path / "law" / "summary.json").write_text("{}")
    trace = import_trace(tmp_path)
    trace.check()
    assert trace.domains == ("intent", "law")
    assert (trace.header.layers, trace.header.n_routed_experts, trace.header.top_k) == ((1, 2, 3), 64, 6)
    assert (trace.header.scoring_func, trace.header.norm_topk_prob) == ("softmax", False)
    assert [part.stop - part.start for part in trace.sequences] == [7, 9, 5, 1, 30]
    assert set(trace.column("phase")) == {Phase.FORCED}
    is_law = trace.where(domain="law")
    assert is_law.sum() == 36
    order = np.argsort(-law["weights"].astype(np.float16), axis=2, kind="stable")
    np.testing.assert_array_equal(trace.experts[is_law], np.take_along_axis(law["ids"], order, 2))
    np.testing.assert_allclose(trace.weights[is_law], np.take_along_axis(law["weights"], order, 2), rtol=1e-3)
    assert trace.column("position")[trace.sequences[0]].tolist() == list(range(7))


def test_one_domain_and_the_folders_of_its_processes(tmp_path):
    write_domain(tmp_path / "law" / "rank_0", [5])
    write_domain(tmp_path / "law" / "rank_1", [6], seed=1)
    assert import_trace(tmp_path / "law").domains == ("law",)
    assert import_trace(tmp_path).tokens == 11
    assert import_trace(tmp_path / "law" / "rank_1").domains == ("law",)
    assert import_trace(tmp_path, domain="mine").domains == ("mine",)


def test_another_model(tmp_path):
    write_domain(tmp_path / "law", [4])
    model = TraceHeader(model="x", layers=(1, 2, 3), n_routed_experts=160, top_k=3, scoring_func="softmax")
    trace = import_trace(tmp_path, header=model)
    assert (trace.tokens, trace.header.n_routed_experts, trace.header.model) == (8, 160, "x")
    with pytest.raises(TraceError, match=r"has files of layers \[1, 2, 3\]; expected \[4, 5, 6\]"):
        import_trace(tmp_path, header=replace(model, layers=(4, 5, 6)))


SIX = "\t".join("123456")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": is empty; expected a line for each sequence"),
        (f"{SIX}\t\t{SIX}\n\n", ":2: has 0 expert ids and 0 weights"),
        (f"{SIX}\n", ":1: has 6 expert ids and 0 weights; expected as many of both, 6 for each token"),
        ("1\t2\t\t.1\t.2\n", ":1: has 2 expert ids and 2 weights"),
        (f"{SIX}\t\t1\n", ":1: has 6 expert ids and 1 weights"),
        (f"{SIX}\t\t{SIX[:-1]}x\n", ":1: holds something that is no number"),
        (f"x{SIX}\t\t{SIX}\n", ":1: holds something that is no number"),
        (f"{SIX[:-1]}64\t\t{SIX}\n", ":1: an expert id is not one of 0 to 63"),
        (f"{SIX[:-1]}-1\t\t{SIX}\n", ":1: an expert id is not one of 0 to 63"),
        (f"{SIX[:-1]}1.5\t\t{SIX}\n", ":1: an expert id is not one of 0 to 63"),
        (f"{SIX[:-1]}nan\t\t{SIX}\n", ":1: an expert id is not one of 0 to 63"),
        (f"{SIX[:-1]}1\t\t{SIX}\n", ":1: token 0 chose an expert twice; are there 6 of a token"),
        (f"{SIX}\t\t{SIX[:-1]}-6\n", ":1: a weight is negative, too large or not a number"),
        (f"{SIX}\t\t{SIX[:-1]}inf\n", ":1: a weight is negative, too large or not a number"),
        (f"{SIX}\t\t{SIX}\n" * 2, r": has 2 sequences; expert_weights_1\.txt has 1"),
        (f"{SIX}\t{SIX}\t\t{SIX}\t{SIX}\n", r":1: has 2 tokens; expert_weights_1\.txt has 1"),
    ],
)
def test_damaged_files_are_named_with_the_line(tmp_path, text, message):
    write_domain(tmp_path / "law", [1])
    path = tmp_path / "law" / "expert_weights_3.txt"
    path.write_text(text)
    with pytest.raises(TraceError, match=message) as caught:
        import_trace(tmp_path)
    assert str(caught.value).startswith(str(path))


def test_bytes_that_are_no_text(tmp_path):
    write_domain(tmp_path / "law", [1])
    (tmp_path / "law" / "expert_weights_2.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(TraceError, match=r"expert_weights_2\.txt: cannot be read"):
        import_trace(tmp_path)


def test_domains_of_different_layers(tmp_path):
    write_domain(tmp_path / "law", [1])
    write_domain(tmp_path / "intent", [1], layers=2)
    with pytest.raises(TraceError, match="only traces of one model"):
        import_trace(tmp_path)
