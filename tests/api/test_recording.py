"""Recordings: every token with its experts, whatever runs how, and an end in order however a block ends."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import araio
from araio.errors import RequestError, TraceError
from araio.kernels.ops import PAGE
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.testing.profiles import profile_of
from araio.traces import Phase, Segment, Trace, Valid

QUESTION = "What is 47 + 38 - 12?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recording") / "tiny"
    write_tiny_checkpoint(folder, "v3", max_position_embeddings=1024)
    return folder


@pytest.fixture
def model(folder):
    return araio.load(folder, speculate="off")


@pytest.fixture(scope="module")
def pocket():
    return araio.load("pocket", speculate="off")


def rows_of(trace, number):
    rows = trace.sequences[number]
    return {name: trace.column(name)[rows] for name in ("token_id", "position", "phase", "segment", "valid")}


@pytest.mark.parametrize("family", ["v2-lite", "v2", "v3"])
def test_a_trace_has_the_experts_that_the_model_chooses(tmp_path, family):
    write_tiny_checkpoint(tmp_path / "tiny", family)
    model = araio.load(tmp_path / "tiny", speculate="off")
    prompt = [3, 1, 4, 1, 5, 9, 2, 6]
    with model.trace(tmp_path / "x.moetrace") as recording:
        model.complete(prompt, max_tokens=1)
    trace = recording.trace()
    trace.check()
    ids, weights = model.route(prompt)
    order = np.argsort(-weights, axis=2, kind="stable")
    assert trace.header.layers == tuple(model.config.moe_layers)
    np.testing.assert_array_equal(trace.experts, np.take_along_axis(ids, order, 2))
    scaled = np.take_along_axis(weights, order, 2) / model.config.routed_scaling_factor
    np.testing.assert_allclose(trace.weights, scaled, rtol=2e-3, atol=1e-6)
    assert trace.column("token_id").tolist() == prompt
    assert set(trace.column("phase")) == {Phase.PREFILL}


def test_rows_say_what_their_token_was_part_of(pocket, tmp_path):
    generation = pocket.prepare(QUESTION, seed=0, thinking_budget=9)
    with pocket.trace(tmp_path / "x.moetrace", domain="sums") as recording:
        steps = [generation.take(token, 0.0) for token in pocket.engine.tokens(generation.job)]
    trace, prompt = recording.trace(), len(generation.job.prompt)
    rows = rows_of(trace, 0)
    assert rows["token_id"].tolist() == [*generation.job.prompt.tolist(), *(step.id for step in steps[:-1])]
    assert rows["position"].tolist() == list(range(len(rows["position"])))
    assert rows["phase"].tolist() == [Phase.PREFILL] * prompt + [Phase.DECODE] * (len(steps) - 1)
    expected = [Segment.REASONING if step.is_reasoning else Segment.ANSWER for step in steps[:-1]]
    assert rows["segment"].tolist() == [Segment.PROMPT] * prompt + expected
    imposed = [place for place, valid in enumerate(rows["valid"]) if valid & Valid.GUIDED]
    assert imposed == [prompt + place for place in generation.job.guide.imposed]
    assert trace.domains == ("sums",)
    assert recording.tokens_by_domain() == {"sums": recording.tokens} == {"sums": trace.tokens}
    assert trace.header.fingerprint == pocket.fingerprint


def test_wrong_drafts_are_told_apart_and_those_of_the_module_lie_beside(folder, tmp_path):
    model = araio.load(folder, speculate="on")
    generation = model.prepare(QUESTION, max_tokens=30)
    with model.trace(tmp_path / "x.moetrace") as recording:
        tokens = list(model.engine.tokens(generation.job))
    trace, job = recording.trace(), generation.job
    rows = rows_of(trace, 0)
    wrong = rows["phase"] == Phase.DRAFT
    assert wrong.sum() == job.draft_tokens - job.accepted_draft_tokens > 0
    text = [*job.prompt.tolist(), *(token.id for token in tokens)]
    assert rows["token_id"][~wrong].tolist() == text[:-1]
    assert trace.header.mtp_layers == (model.config.num_hidden_layers,)
    assert trace.draft.n_layers == 1
    # The module reads the token behind each position.
    assert trace.draft.column("token_id").tolist() == text[1 : trace.draft.tokens + 1]


def test_tokens_from_the_prefix_cache_are_marked_and_their_routes_are_not_guessed(model, tmp_path):
    prompt = [1 + place % 90 for place in range(2 * PAGE + 5)]
    with model.trace(tmp_path / "x.moetrace", margin=True) as recording:
        for _ in range(2):
            model.complete(prompt, max_tokens=1)
    trace = recording.trace()
    first, second = (rows_of(trace, number) for number in (0, 1))
    assert first["token_id"].tolist() == second["token_id"].tolist() == prompt
    assert set(first["valid"]) == {Valid.ROUTES}
    assert second["valid"].tolist() == [Valid.CACHED] * 2 * PAGE + [Valid.ROUTES] * 5
    cached = slice(trace.sequences[1].start, trace.sequences[1].start + 2 * PAGE)
    assert not trace.experts[cached].any()
    assert not trace.weights[cached].any()
    assert trace.counts.n.sum() == (len(prompt) + 5) * trace.n_layers * trace.header.top_k
    assert recording.tokens == trace.tokens == 2 * len(prompt)


def test_a_request_may_end_in_the_step_in_which_another_begins_behind_the_prefix_cache(model, tmp_path):
    prompt = [2 + place % 90 for place in range(2 * PAGE + 5)]
    model.complete(prompt, max_tokens=1)
    ending, begins = (model.prepare_text(ids, max_tokens=2).job for ids in ([1, 2, 3], prompt))
    with model.trace(tmp_path / "x.moetrace") as recording:
        model.engine.enter(ending)
        model.engine.step()
        model.engine.enter(begins)
        model.engine.step()
        assert ending.is_done
        assert begins.length == len(prompt)
        model.engine.step()
    trace = recording.trace()
    assert [rows.stop - rows.start for rows in trace.sequences] == [4, len(prompt) + 1]
    assert trace.column("position")[trace.sequences[0]].tolist() == [0, 1, 2, 3]
    assert (trace.column("valid") == Valid.CACHED).sum() == 2 * PAGE


def test_requests_side_by_side_have_their_own_sequences(model, tmp_path):
    prompts = [[5 + number, 6, 7, 8 + number] * (number + 1) for number in range(6)]
    with model.trace(tmp_path / "x.moetrace") as recording, ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda prompt: model.complete(prompt, max_tokens=20, seed=1), prompts))
    trace = recording.trace()
    assert len(trace.sequences) == len(prompts)
    found = sorted(rows_of(trace, number)["token_id"].tolist() for number in range(len(prompts)))
    assert [ids[: len(prompt)] for ids, prompt in zip(found, sorted(prompts), strict=True)] == sorted(prompts)
    lengths = sorted(
        len(prompt) + answer.usage["completion_tokens"] - 1
        for prompt, answer in zip(prompts, answers, strict=True)
    )
    assert sorted(map(len, found)) == lengths
    assert all(
        np.array_equal(rows_of(trace, n)["position"], np.arange(len(rows_of(trace, n)["position"])))
        for n in range(6)
    )


def test_a_trace_is_the_same_whatever_runs_beside(model, tmp_path):
    def routes(name, *prompts):
        with model.trace(tmp_path / name) as recording, ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda prompt: model.complete(prompt, max_tokens=12, seed=4), prompts))
        trace = recording.trace()
        return {
            tuple(trace.column("token_id")[rows]): trace.experts[rows].tolist() for rows in trace.sequences
        }

    alone = routes("alone.moetrace", [9, 8, 7])
    together = routes("together.moetrace", [9, 8, 7], [1, 2], [3, 4, 5, 6])
    assert len(together) == 3
    assert all(together[ids] == chosen for ids, chosen in alone.items())


def test_domains_are_those_of_the_block_that_a_request_begins_in(model, tmp_path):
    with model.trace(tmp_path / "x.moetrace") as recording:
        with recording.domain("logic"):
            model.complete([1, 2, 3], max_tokens=1)
        model.complete([4, 5], max_tokens=1)
        own = model.prepare_text([6], max_tokens=1)
        recording.assign(own, "language")
        list(model.engine.tokens(own.job))
    trace = recording.trace()
    assert trace.domains == ("logic", "all", "language")
    assert trace.column("domain").tolist() == [0, 0, 0, 1, 1, 2]
    assert recording.tokens_by_domain() == {"logic": 3, "all": 2, "language": 1}
    with pytest.raises(RequestError, match="does not run"), recording.domain("logic"):
        pass


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 65])
def test_a_domain_has_a_short_printable_name(model, tmp_path, name):
    with pytest.raises(RequestError, match="the domain is"):
        model.trace(tmp_path / "x.moetrace", domain=name)


def test_what_is_not_wanted_is_not_kept(model, tmp_path):
    last = model.config.moe_layers[-1]
    options = {"text": False, "weights": False, "layers": [last]}
    with model.trace(tmp_path / "x.moetrace", **options) as recording:
        model.complete([1, 2, 3], max_tokens=1)
    trace = recording.trace()
    assert not trace.header.has_text
    assert not trace.has("weights")
    assert trace.header.layers == (last,)
    ids, _ = model.route([1, 2, 3])
    assert np.array_equal(np.sort(trace.experts[:, 0]), np.sort(ids[:, -1]))


def test_a_margin_is_what_the_choice_was_ahead_by(model, tmp_path):
    scores = {}
    routers = {router.layer: router for router in model.network.routers}
    for layer in model.config.moe_layers:
        routers[layer].on_scores = scores.__setitem__
    with model.trace(tmp_path / "x.moetrace", margin=True) as recording:
        model.complete([1, 2, 3], max_tokens=1)
    trace = recording.trace()
    size = model.config.n_routed_experts // model.config.n_group
    for place, layer in enumerate(model.config.moe_layers):
        # Whoever was told before is told still.
        by_choice = (
            1 / (1 + np.exp(-scores[layer].astype(np.float64))) + routers[layer].e_score_correction_bias
        )
        for token in range(3):
            groups = by_choice[token].reshape(-1, size)
            best = np.argsort(-np.sort(groups)[:, -2:].sum(1))[: model.config.topk_group]
            ranked = -np.sort(-groups[best].ravel())
            expected = ranked[model.config.num_experts_per_tok - 1] - ranked[model.config.num_experts_per_tok]
            assert trace.column("margin")[token, place] == pytest.approx(expected, abs=2e-3)
    assert all(router.on_scores is None or router.layer in scores for router in model.network.routers)


@pytest.mark.parametrize("family", ["v2-lite", "v2", "v3"])
def test_a_margin_under_a_mask_is_among_what_the_mask_leaves(tmp_path, family):
    write_tiny_checkpoint(tmp_path / "tiny", family)
    model, scores = araio.load(tmp_path / "tiny", speculate="off"), {}
    config, k = model.config, model.config.num_experts_per_tok
    size = config.n_routed_experts // config.n_group
    keep = [group * size + place for group in range(config.n_group) for place in range(size) if place != 1]
    mask = profile_of(config, keep, model.fingerprint)
    routers = {router.layer: router for router in model.network.routers}
    for layer in config.moe_layers:
        routers[layer].on_scores = scores.__setitem__
    with model.trace(tmp_path / "x.moetrace", margin=True) as recording:
        model.complete([1, 2, 3], max_tokens=1, profile=mask)
    margins = recording.trace().column("margin")
    for place, layer in enumerate(config.moe_layers):
        hidden = np.setdiff1d(np.arange(config.n_routed_experts), keep)
        logits = scores[layer].astype(np.float64)
        bias = routers[layer].e_score_correction_bias
        if bias is None:
            logits[:, hidden] = -np.inf
            by_choice = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        else:
            by_choice = 1 / (1 + np.exp(-logits)) + bias
            by_choice[:, hidden] = -np.inf
        for token in range(3):
            groups = by_choice[token].reshape(-1, size)
            best = range(len(groups))
            if config.topk_method != "greedy":
                summed = 1 if bias is None else 2
                best = np.argsort(-np.sort(groups)[:, -summed:].sum(1))[: config.topk_group]
            ranked = -np.sort(-groups[list(best)].ravel())
            assert margins[token, place] == pytest.approx(ranked[k - 1] - ranked[k], abs=2e-3)


def test_a_recording_that_is_full_goes_no_further(model, tmp_path):
    with model.trace(tmp_path / "x.moetrace", max_tokens=10) as recording:
        model.complete([1, 2, 3], max_tokens=30)
        assert recording.is_full
    assert recording.trace().tokens == 10


def test_an_error_in_the_block_leaves_a_trace_that_can_be_read(model, tmp_path):
    recording = model.trace(tmp_path / "x.moetrace")

    def interrupted():
        with recording:
            model.complete([1, 2, 3], max_tokens=4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert Trace.open(tmp_path / "x.moetrace").tokens == 6
    assert model.recording is None
    with model.trace(tmp_path / "y.moetrace"):
        model.complete([1, 2, 3], max_tokens=1)
    assert recording.trace().tokens == 6


def test_an_error_before_the_first_token_leaves_nothing(model, tmp_path):
    with pytest.raises(ValueError, match="mine"), model.trace(tmp_path / "x.moetrace"):
        raise ValueError("mine")
    assert not list(tmp_path.iterdir())
    with pytest.raises(TraceError, match="nothing was recorded"), model.trace(tmp_path / "x.moetrace"):
        pass
    assert not list(tmp_path.iterdir())


def test_what_fails_in_the_recording_is_told_at_its_end_and_no_request_notices(model, tmp_path, monkeypatch):
    class FullError(Exception):
        pass

    def refuse(*_):
        raise FullError

    recording = model.trace(tmp_path / "x.moetrace")
    recording.start()
    model.complete([1, 2, 3], max_tokens=3)
    recording._recorder.flush()
    monkeypatch.setattr(recording._recorder, "_keep", refuse)
    assert model.complete([1, 2, 3], max_tokens=3).usage["completion_tokens"] == 3
    assert recording.is_full
    with pytest.raises(FullError):
        recording.close()
    assert recording.trace().tokens == 5


def test_a_path_that_is_taken_is_refused_and_replaced_only_when_asked_for(model, tmp_path):
    path = tmp_path / "x.moetrace"
    for tokens, options in ((3, {}), (5, {"overwrite": True})):
        with model.trace(path, **options) as recording:
            model.complete(list(range(1, tokens + 1)), max_tokens=1)
        assert recording.trace().tokens == tokens
    with pytest.raises(TraceError, match="exists already"), model.trace(path):
        pass
    with pytest.raises(ValueError, match="mine"), model.trace(path, overwrite=True):
        raise ValueError("mine")
    assert Trace.open(path).tokens == 5
    (tmp_path / "mine").mkdir()
    with pytest.raises(TraceError, match="is not a trace"), model.trace(tmp_path / "mine", overwrite=True):
        pass
    assert {entry.name for entry in tmp_path.iterdir()} == {"x.moetrace", "mine"}


def test_two_recordings_of_one_model_are_refused(model, tmp_path):
    with model.trace(tmp_path / "x.moetrace"):
        model.complete([1], max_tokens=1)
        with pytest.raises(RequestError, match="is being recorded into"):
            model.trace(tmp_path / "y.moetrace").start()
    assert not (tmp_path / "y.moetrace").exists()


def test_layers_that_do_not_route_and_models_without_experts_are_refused(model, tmp_path):
    for layers in ([0], [], [99]):
        with pytest.raises(RequestError, match="expected some of"):
            model.trace(tmp_path / "x.moetrace", layers=layers)
    write_tiny_checkpoint(tmp_path / "dense", "v2", n_routed_experts=None, n_shared_experts=None)
    with pytest.raises(RequestError, match="no routed experts"):
        araio.load(tmp_path / "dense").trace(tmp_path / "x.moetrace")
    with pytest.raises(RequestError, match="max_tokens is 0"):
        model.trace(tmp_path / "x.moetrace", max_tokens=0)


def test_an_approximation_is_recorded_as_it_is(folder, tmp_path):
    model = araio.load(folder, approximate="top-2", speculate="off")
    with model.trace(tmp_path / "x.moetrace") as recording:
        model.complete([1, 2, 3], max_tokens=2)
    trace = recording.trace()
    assert trace.header.top_k == trace.experts.shape[2] == 2
    assert "top-2" in trace.header.model
    trace.check()


def test_a_recording_may_begin_and_end_within_a_request(model, tmp_path):
    generation = model.prepare_text([1, 2, 3], max_tokens=9, temperature=0)
    tokens = model.engine.tokens(generation.job)
    taken = [next(tokens) for _ in range(3)]
    recording = model.trace(tmp_path / "x.moetrace")
    recording.start()
    taken += [next(tokens) for _ in range(4)]
    recording.close()
    taken += list(tokens)
    rows = rows_of(recording.trace(), 0)
    assert rows["position"].tolist() == [5, 6, 7, 8]
    assert rows["token_id"].tolist() == [token.id for token in taken[2:6]]
