"""Traces as other programs read them: EPLB's weights, SGLang's counts, Parquet and back."""

from __future__ import annotations

import builtins
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from araio.errors import TraceError
from araio.traces import Trace
from araio.traces.exporters import export_trace, parquet
from araio.traces.importers import import_trace

from .conftest import assert_same, columns, header


def test_eplb_takes_tokens_of_each_expert(tmp_path, trace):
    export_trace(trace, tmp_path / "w.npy", "eplb")
    export_trace(trace, tmp_path / "w.json", "eplb")
    weight = np.load(tmp_path / "w.npy")
    assert (weight.shape, weight.dtype) == ((3, 16), np.int64)
    assert (weight.sum(axis=1) == 4 * (trace.column("valid") == 1).sum()).all()
    assert json.loads((tmp_path / "w.json").read_text()) == weight.tolist()


def test_sglang_wants_every_layer_by_its_number():
    unknown = Trace.from_arrays(header(layers=()), **columns())
    with pytest.raises(TraceError, match="does not say which layers its routes are of"):
        export_trace(unknown, "x.json", "sglang")


@settings(derandomize=True, deadline=None, max_examples=15)
@given(
    tokens=st.integers(1, 60),
    layers=st.integers(1, 3),
    experts=st.sampled_from([4, 300]),
    optional=st.sets(st.sampled_from(["weights", "token_id", "margin"])),
    is_known=st.booleans(),
    block_rows=st.integers(1, 40),
)
def test_parquet_gives_the_same_rows_back(
    tmp_path_factory, tokens, layers, experts, optional, is_known, block_rows
):
    given_columns = columns(tokens, layers=layers, experts=experts)
    for name in {"weights", "token_id", "margin"} - optional:
        del given_columns[name]
    made = header(layers=(3, 7, 60)[:layers] if is_known else (), n_routed_experts=experts, created="now")
    trace = Trace.from_arrays(made, **given_columns)
    path = tmp_path_factory.mktemp("parquet") / "x.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_BLOCK_ROWS", block_rows)
        export_trace(trace, path, "parquet")
    again = import_trace(path)
    assert_same(trace, again)
    assert again.header == trace.header


def test_parquet_has_a_column_for_each_layer(tmp_path, trace):
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    export_trace(trace, tmp_path / "x.parquet", "parquet")
    table = pyarrow_parquet.read_table(tmp_path / "x.parquet")
    assert {"experts_001", "experts_002", "experts_003", "weights_001", "margin_003", "seq"} <= set(
        table.column_names
    )
    assert table["experts_002"][7].as_py() == trace.recorded()["expert_ids"][7, 1].tolist()
    codec = pyarrow_parquet.ParquetFile(tmp_path / "x.parquet").metadata.row_group(0).column(0).compression
    assert codec == "ZSTD"


def test_parquet_files_of_others(tmp_path, trace):
    pyarrow = pytest.importorskip("pyarrow")
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    export_trace(trace, path, "parquet")
    table = pyarrow_parquet.read_table(path)
    metadata = table.schema.metadata

    def refused(changed: Any, message: str) -> None:
        pyarrow_parquet.write_table(changed, path)
        with pytest.raises(TraceError, match=message) as caught:
            import_trace(path)
        assert str(caught.value).startswith(str(path))

    refused(table.replace_schema_metadata(None), "has no araio-trace in its metadata")
    refused(table.replace_schema_metadata({b"araio-trace": b"{"}), "is not valid JSON")
    refused(table.drop_columns(["experts_002"]), "column 'experts_002' is missing")
    position = table.column_names.index("seq")
    for values, message in [
        (pyarrow.array([None] * 50, pyarrow.int32()), "column 'seq' has rows without a value"),
        (pyarrow.array(["a"] * 50), "column 'seq' holds"),
        (pyarrow.array([-1] * 50, pyarrow.int32()), "column 'seq': row 0: a negative number"),
    ]:
        refused(table.set_column(position, "seq", values).replace_schema_metadata(metadata), message)
    twice = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array([1] * 100, pyarrow.uint8()), 2)
    refused(
        table.set_column(0, "experts_001", twice).replace_schema_metadata(metadata),
        "has lists of 2; expected 4",
    )
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(TraceError, match="is no Parquet file that can be read"):
        import_trace(path)
    with pytest.raises(TraceError, match="says itself of which model"):
        import_trace(path, domain="x")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("x.bin", "eplb", r"as \.npy or \.json"),
        ("x.pt", "sglang", r"as \.json; give it that ending"),
        ("x.npz", "parquet", r"give it the ending \.parquet"),
        ("x.json", "csv", "kind 'csv' is not known; expected one of eplb, parquet, sglang"),
        ("missing/x.json", "eplb", "could not be written .No such file"),
    ],
)
def test_what_cannot_be_written(tmp_path, trace, name, kind, message):
    with pytest.raises(TraceError, match=message):
        export_trace(trace, tmp_path / name, kind)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_fails_leaves_the_old_one(tmp_path, trace, monkeypatch):
    path = tmp_path / "x.parquet"
    path.write_text("old")

    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "_arrays", fail)
    with pytest.raises(TraceError, match=r"could not be written \(No space left on device\)"):
        export_trace(trace, path, "parquet")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]


def test_without_pyarrow(tmp_path, trace, monkeypatch):
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TraceError, match="need pyarrow, which is not installed: pip install 'araio"):
        export_trace(trace, tmp_path / "x.parquet", "parquet")


def test_counts_alone_have_no_rows_for_parquet(tmp_path):
    with pytest.raises(TraceError, match="has counts alone"):
        export_trace(Trace.from_counts(header(), np.ones((3, 16), int)), tmp_path / "x.parquet", "parquet")
