"""Routes in responses of vLLM and of araio's own server, and in .npy files."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest

from araio.errors import TraceError
from araio.traces import Phase, Segment, Trace, TraceHeader
from araio.traces.importers import import_trace

MODEL = TraceHeader(n_routed_experts=16, top_k=4, layers=(1, 2))


def routes(tokens: int, layers: int = 2, seed: int = 0) -> np.ndarray:
    return np.argsort(np.random.default_rng(seed).random((tokens, layers, 16)), axis=2)[..., :4].astype(
        np.int16
    )


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype == object)
    return file.getvalue()


def text(array: np.ndarray) -> str:
    return base64.b64encode(npy(array)).decode()


def response(
    *answers: Any, prompt: Any = None, usage: tuple[int, int] = (3, 4), **more: Any
) -> dict[str, Any]:
    return {
        "choices": [{"routed_experts": answer} for answer in answers],
        "prompt_routed_experts": prompt,
        "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]},
        **more,
    }


def imported(tmp_path, *documents: dict[str, Any], **options: Any) -> Trace:
    path = tmp_path / ("one.json" if len(documents) == 1 else "many.jsonl")
    path.write_text("\n".join(json.dumps(document) for document in documents))
    trace = import_trace(path, **({"header": MODEL} | options))
    trace.check()
    return trace


def test_one_array_from_the_first_token_to_the_last_but_one(tmp_path):
    trace = imported(tmp_path, response(text(routes(6))), domain="chat")
    np.testing.assert_array_equal(trace.experts, routes(6))
    assert trace.column("position").tolist() == list(range(6))
    assert trace.column("phase").tolist() == [Phase.PREFILL] * 3 + [Phase.DECODE] * 3
    assert trace.column("segment").tolist() == [Segment.PROMPT] * 3 + [Segment.ANSWER] * 3
    assert (trace.domains, trace.header.engine, trace.header.columns) == (("chat",), "vllm", ())


@pytest.mark.parametrize("encode", [text, np.ndarray.tolist])
def test_prompt_and_answer_apart(tmp_path, encode):
    trace = imported(tmp_path, response(encode(routes(4, seed=1)), prompt=encode(routes(3))))
    np.testing.assert_array_equal(trace.experts, np.concatenate([routes(3), routes(4, seed=1)]))
    assert trace.column("phase").tolist() == [Phase.PREFILL] * 3 + [Phase.DECODE] * 4


def test_an_array_that_begins_later(tmp_path):
    trace = imported(tmp_path, response(text(routes(4))))
    assert trace.column("position").tolist() == [2, 3, 4, 5]
    assert trace.column("segment").tolist() == [0, 2, 2, 2]


def test_the_prompt_of_several_answers_counts_once(tmp_path):
    both = [routes(5, seed=1), routes(5, seed=2)]
    trace = imported(tmp_path, response(*map(text, both), usage=(3, 6)))
    assert [part.stop - part.start for part in trace.sequences] == [5, 2]
    np.testing.assert_array_equal(trace.experts, np.concatenate([both[0], both[1][3:]]))
    apart = imported(
        tmp_path, response(text(both[0][3:]), text(both[1][3:]), prompt=text(both[0][:3]), usage=(3, 6))
    )
    np.testing.assert_array_equal(apart.experts, trace.experts)
    np.testing.assert_array_equal(apart.column("position"), trace.column("position"))


def test_one_response_a_line(tmp_path):
    trace = imported(tmp_path, response(text(routes(6))), response(text(routes(3)), usage=(2, 2)))
    assert [part.stop - part.start for part in trace.sequences] == [6, 3]
    assert trace.domains == ("many",)


def test_tokens_that_a_response_gives(tmp_path):
    document = response(text(routes(6)), prompt_token_ids=[5, 6, 7])
    document["choices"][0]["token_ids"] = [8, 9, 10, 11]
    trace = imported(tmp_path, document)
    assert trace.column("token_id").tolist() == [5, 6, 7, 8, 9, 10]
    document["choices"][0]["token_ids"] = ["a"]
    assert not imported(tmp_path, document).header.has_text


def test_an_array_alone(tmp_path):
    np.save(tmp_path / "math.npy", routes(9))
    trace = import_trace(tmp_path / "math.npy", header=MODEL)
    np.testing.assert_array_equal(trace.experts, routes(9))
    assert set(trace.column("phase")) == {Phase.FORCED}
    assert trace.domains == ("math",)


def test_rows_that_a_program_does_not_have(tmp_path):
    ids = routes(6)
    ids[1], ids[4, 1, 2] = 0, -1
    trace = imported(tmp_path, response(text(ids)))
    assert trace.where().tolist() == [True, False, True, True, False, True]
    assert not trace.experts[[1, 4]].any()


def test_rows_of_all_layers(tmp_path):
    every = routes(6, layers=3)
    np.testing.assert_array_equal(imported(tmp_path, response(text(every))).experts, every[:, 1:])


def test_what_araio_serves_is_read(tmp_path):
    """The same encoding as `serve.experts.routed_experts`: the smallest type that holds the ids."""
    trace = imported(tmp_path, response(text(routes(6).astype(np.uint8))))
    np.testing.assert_array_equal(trace.experts, routes(6))


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (response(None), r"choices\[0\]\.routed_experts: is missing; ask for it"),
        (response("?"), r"choices\[0\]\.routed_experts: is '\?'; expected base64"),
        (response(7), r"routed_experts: holds int64 of the shape \(\)"),
        (response([[1, 2], [3]]), r"expected base64 of a \.npy file, or lists"),
        (response([[[0.5]]]), "holds float64"),
        (response(base64.b64encode(b"PK").decode()), r"is no \.npy file"),
        (response(text(routes(6))[:-8]), "says that it holds .* but has [0-9]+ bytes"),
        (response(text(np.array([[[{}]]], object))), "says that it holds"),
        (response(text(routes(7))), "has 7 rows of routes; expected 6"),
        (response(text(routes(6)), text(routes(5)), usage=(3, 6)), "has 11 rows of routes; expected 10"),
        (response(text(routes(6)[..., :3])), "has 2 layers and 3 experts of a token; expected 2 and 4"),
        (response(text(routes(6)[:, :1])), "has 1 layers; expected 2, those with experts, or all"),
        (response(text(routes(6) + 16)), "names expert 31; expected one of 0 to 15"),
        (response(text(routes(6) // 2)), "chose an expert twice; are there 4 of a token?"),
        (response(text(routes(6))) | {"usage": None}, "usage is missing"),
        (response(text(routes(6)), usage=(-3, 4)), "prompt_tokens is -3"),
        (response(), "holds no routes"),
        ({"choices": [1]}, "has no choices"),
        ({"choices": {}}, "has no choices"),
        ({"id": 1}, "is of no kind that can be imported"),
    ],
)
def test_responses_that_are_not_of_routes(tmp_path, document, message):
    with pytest.raises(TraceError, match=message) as caught:
        imported(tmp_path, document)
    assert str(caught.value).startswith(str(tmp_path / "one.json"))


def test_the_line_of_a_damaged_response_is_named(tmp_path):
    path = tmp_path / "many.jsonl"
    good = json.dumps(response(text(routes(6))))
    path.write_text(f"{good}\n\n{good[:-1]}\n")
    with pytest.raises(TraceError, match=r"many\.jsonl:3: is not valid JSON"):
        import_trace(path, header=MODEL)


def test_an_array_cannot_ask_for_memory_that_its_file_does_not_have(tmp_path):
    content = npy(routes(1)).replace(b"(1, 2, 4), }          ", b"(99999999999, 2, 4), }")
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(
        TraceError, match=r"says that it holds \(99999999999, 2, 4\) of int16, but has 16 bytes"
    ):
        import_trace(tmp_path / "x.npy", header=MODEL)


def test_the_model_must_be_known(tmp_path):
    with pytest.raises(TraceError, match="does not say how many experts the model has; give the model"):
        imported(tmp_path, response(text(routes(6))), header=None)
