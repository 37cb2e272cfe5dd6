"""Routing among some experts: by the model's own rule, never what is hidden, always as many as a token needs.

Every rule that a config accepts, every set that a profile accepts, on the reference and on the compiled
operations of every instruction set.
"""

import re
from dataclasses import dataclass, replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from araio.config import ModelConfig
from araio.expert_profile.group_rule import shortage
from araio.kernels import reference
from araio.kernels.native import CompiledOperations
from araio.kernels.ops import Route
from araio.nn.mask import ExpertMask, masks_of, route_among
from araio.tensors import Float32Array
from araio.testing.checkpoints import tiny_config
from araio.testing.profiles import profile_of

try:
    from araio.kernels import _native as compiled
except ImportError:
    compiled = None

NAMES = ["reference", *(compiled.isas() if compiled else [])]


def route_of(name: str) -> Route:
    """The reference, or the compiled operation of an instruction set."""
    return reference.route if name == "reference" else CompiledOperations(compiled, name).route


@dataclass(frozen=True)
class Case:
    """A rule, and which experts it is left with."""

    config: ModelConfig
    kept: np.ndarray

    @property
    def groups(self) -> np.ndarray:
        """(G, E / G) whether each is kept."""
        return self.kept.reshape(self.config.n_group, -1)

    @property
    def shortage(self) -> str | None:
        return shortage(self.groups.sum(1).tolist(), self.config)


@st.composite
def cases(draw: st.DrawFn, families=("v2-lite", "v2", "v3"), spare: int = 30, uniform: bool = False) -> Case:
    """Every way of choosing, and any set of as many experts as a token needs, or up to `spare` more.

    uniform  as many in every group
    """
    config = tiny_config(draw(st.sampled_from(families)))
    groups = 1 if config.topk_method == "greedy" else draw(st.integers(1, 5))
    size, wins = draw(st.integers(2, 6)), draw(st.integers(1, groups))
    needed = draw(st.integers(1, min(wins * size, 6)))
    config = replace(
        config,
        n_routed_experts=groups * size,
        n_group=groups,
        topk_group=wins,
        num_experts_per_tok=needed,
        norm_topk_prob=draw(st.booleans()),
    )
    count = groups * size
    if uniform:
        kept = draw(st.integers(2, size))  # a config of groups of one is refused
        ids = [size * group + place for group in range(groups) for place in draw(_some(size, kept, kept))]
    else:
        ids = draw(_some(count, needed, min(needed + spare, count)))
    return Case(config, np.isin(np.arange(count), ids))


def _some(count: int, least: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, count - 1), unique=True, min_size=least, max_size=most)


def bias_of(config: ModelConfig, rng: np.random.Generator) -> Float32Array | None:
    """At times all negative, where a mask of 0 would win."""
    if config.scoring_func == "softmax":
        return None
    level = rng.choice([-3, 0, 3])
    return (level + 0.013 * rng.permutation(config.n_routed_experts)).astype(np.float32)


def apart(config: ModelConfig, rng: np.random.Generator, tokens: int = 5) -> Float32Array:
    """Logits so far apart that no rounding decides."""
    levels = np.linspace(-2, 2, config.n_routed_experts) ** 3
    return rng.permuted(np.tile(levels, (tokens, 1)), axis=1).astype(np.float32)


def extreme(config: ModelConfig, rng: np.random.Generator, tokens: int = 5) -> Float32Array:
    """Logits that tie, and some so far behind others that a softmax gives them 0."""
    return rng.choice(np.array([-400, -200, 0, 0, 1], np.float32), (tokens, config.n_routed_experts))


@settings(max_examples=200)
@given(st.integers(0, 2**32), cases(), st.sampled_from([apart, extreme]))
def test_every_token_gets_as_many_as_it_needs_of_what_is_kept(seed, case: Case, logits_of) -> None:
    assume(case.shortage is None)
    rng = np.random.default_rng(seed)
    bias, logits = bias_of(case.config, rng), logits_of(case.config, rng)
    expected = route_among(case.kept, reference.route, logits, bias, case.config)
    for route in map(route_of, NAMES):
        ids, weights = route_among(case.kept, route, logits, bias, case.config)
        assert case.kept[ids].all()
        assert all(len(set(row)) == case.config.num_experts_per_tok for row in ids.tolist())
        assert np.isfinite(weights).all()
        assert (weights >= 0).all()
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_allclose(weights, expected[1], rtol=1e-5, atol=1e-7)
        assert (ids.dtype, weights.dtype) == (np.int32, np.float32)


@settings(max_examples=200)
@given(st.integers(0, 2**32), cases(families=("v2", "v3"), spare=2))
def test_what_a_profile_refuses_fails_some_token(seed, case: Case) -> None:
    assume(case.shortage is not None)
    config, rng = case.config, np.random.default_rng(seed)
    counts = case.groups.sum(1)
    least = 2 if config.scoring_func == "sigmoid" else 1
    able = np.flatnonzero(counts >= least)
    if len(able) < config.topk_group:
        return  # a group without a score would win, and which one is a rule of ties
    # A token that likes the groups best that have the fewest.
    worst = able[np.argsort(counts[able], kind="stable")[: config.topk_group]]
    liked = np.where(np.isin(np.arange(config.n_group), worst), 4, -4).repeat(case.groups.shape[1])
    logits = (liked[None] + 0.01 * rng.standard_normal((1, config.n_routed_experts))).astype(np.float32)
    bias = None if config.scoring_func == "softmax" else np.zeros(config.n_routed_experts, np.float32)
    hidden = np.float32(-np.inf)
    if bias is None:
        ids, weights = reference.route(np.where(case.kept, logits, hidden), None, config)
        assert (weights == 0).any()
    else:
        ids, _ = reference.route(logits, np.where(case.kept, bias, hidden), config)
        in_worst = np.isin(np.arange(config.n_group), worst).repeat(case.groups.shape[1])
        assert not (case.kept & in_worst)[ids].all()


@settings(max_examples=200)
@given(st.integers(0, 2**32), cases(uniform=True), st.sampled_from([apart, extreme]))
def test_a_mask_chooses_and_weighs_as_a_router_without_the_others(seed, case: Case, logits_of) -> None:
    assume(case.shortage is None)
    config, rng = case.config, np.random.default_rng(seed)
    bias, logits = bias_of(config, rng), logits_of(config, rng)
    smaller = replace(config, n_routed_experts=int(case.kept.sum()))
    new_ids = np.cumsum(case.kept) - 1
    for route in map(route_of, NAMES):
        ids, weights = route_among(case.kept, route, logits, bias, config)
        own = route(logits[:, case.kept], None if bias is None else bias[case.kept], smaller)
        np.testing.assert_array_equal(new_ids[ids], own[0])
        np.testing.assert_allclose(weights, own[1], rtol=1e-6, atol=1e-12)


@settings(max_examples=100)
@given(st.integers(0, 2**32), cases(), st.sampled_from([apart, extreme]))
def test_keeping_every_expert_changes_no_bit(seed, case: Case, logits_of) -> None:
    config, rng = case.config, np.random.default_rng(seed)
    bias, logits = bias_of(config, rng), logits_of(config, rng)
    for route in map(route_of, NAMES):
        ids, weights = route_among(np.ones_like(case.kept), route, logits, bias, config)
        expected = route(logits, bias, config)
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_array_equal(weights.view(np.uint32), expected[1].view(np.uint32))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", ["v2-lite", "v2", "v3"])
def test_not_even_logits_that_are_no_numbers_choose_what_is_hidden(name: str, family: str) -> None:
    config = tiny_config(family)
    kept = np.arange(config.n_routed_experts) % 4 != 0
    bias = None if family != "v3" else np.zeros(config.n_routed_experts, np.float32)
    logits = np.full((2, config.n_routed_experts), np.nan, np.float32)
    logits[1, 5] = 1
    with np.errstate(all="ignore"):
        ids, _ = route_among(kept, route_of(name), logits, bias, config)
    assert kept[ids].all()
    assert all(len(set(row)) == config.num_experts_per_tok for row in ids.tolist())


def test_experts_that_underflow_come_before_those_that_are_hidden() -> None:
    config = tiny_config("v2-lite", n_routed_experts=6, num_experts_per_tok=3)
    kept = np.array([False, True, False, True, True, False])
    logits = np.array([[9, -300, 9, -400, 0, 9]], np.float32)
    ids, weights = route_among(kept, reference.route, logits, None, config)
    assert ids.tolist() == [[4, 1, 3]]
    np.testing.assert_array_equal(weights, [[1, 0, 0]])


def test_a_group_of_one_never_wins() -> None:
    """Its best two scores are one and nothing, however good the one is."""
    config = tiny_config("v3", n_routed_experts=6, n_group=3, topk_group=1, num_experts_per_tok=2)
    kept = np.array([True, False, True, True, True, True])
    logits = np.array([[9, 0, 0, 0, -1, -1]], np.float32)
    ids, _ = route_among(kept, reference.route, logits, np.full(6, -3, np.float32), config)
    assert ids.tolist() == [[2, 3]]


# ---------------------------------------------------------------------- feasibility by hand

V3 = {"n_routed_experts": 16, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 4}


@pytest.mark.parametrize(
    ("family", "counts", "message"),
    [
        ("v3", [2, 2, 2, 2], None),
        ("v3", [4, 4, 0, 0], None),
        ("v3", [4, 4, 1, 1], None),
        ("v3", [4, 1, 1, 1], r"groups \[1, 2, 3\] keep fewer than 2 experts.*needs 2 groups"),
        ("v3", [4, 4, 0, 2], None),
        ("v3", [3, 3, 1, 0], None),
        ("v2", [4, 4, 1, 1], r"groups \[2, 3\] keep 2 together, and a token that they win needs 4"),
        ("v2", [4, 0, 0, 0], None),
        ("v2", [4, 0, 0, 1], None),
        ("v2", [1, 2, 2, 2], r"groups \[0, 1\] keep 3 together"),
    ],
)
def test_what_groups_must_keep(family: str, counts: list[int], message: str | None) -> None:
    found = shortage(counts, tiny_config(family, **V3))
    assert (found is None) == (message is None)
    assert message is None or re.search(message, found)


# ---------------------------------------------------------------------- rows


def test_rows_go_by_their_masks() -> None:
    config = tiny_config("v3")
    one, other = (ExpertMask(profile_of(config, keep)) for keep in (range(12), range(4, 16)))
    alike = ExpertMask(profile_of(config, range(12), name="alike"))
    assert masks_of([None, None], [3, 1]) == ()
    ((mask, rows),) = masks_of([one, alike], [3, 1])
    assert (mask, rows) == (one, slice(None))
    parts = {
        mask and mask.id: rows.tolist() for mask, rows in masks_of([one, None, other, alike], [2, 1, 3, 1])
    }
    assert parts == {one.id: [0, 1, 6], None: [2], other.id: [3, 4, 5]}


def test_layers_that_a_profile_does_not_name_are_free() -> None:
    config = tiny_config("v3")
    mask = ExpertMask(profile_of(config, range(8)))
    assert mask.kept(1).tolist() == [True] * 8 + [False] * 8
    assert mask.kept(config.num_hidden_layers) is None
