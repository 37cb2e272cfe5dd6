"""Which experts are kept: as many as asked, those that must stay, and always enough for the router."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.adapt.select import Target, select, smallest_covering
from araio.errors import ProfileError
from araio.expert_profile.group_rule import least_per_group
from araio.kernels.reference import route
from araio.testing.checkpoints import FAMILIES, tiny_config

CONFIGS = {name: tiny_config(name) for name in FAMILIES}


def scores_for(config, seed, layers=2):
    scores = np.random.default_rng(seed).gamma(0.3, size=(layers, config.n_routed_experts))
    return scores / scores.sum(axis=1, keepdims=True)


def group_counts(kept, config):
    size = config.n_routed_experts // config.n_group
    return np.bincount(np.asarray(kept) // size, minlength=config.n_group).tolist()


def routed_among(kept, config, seed):
    """What the routing rule chooses when all others are out of the question."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((64, config.n_routed_experts)).astype(np.float32) * 4
    gone = np.ones(config.n_routed_experts, bool)
    gone[list(kept)] = False
    bias = None
    if config.has_router_bias:
        bias = np.where(gone, -np.inf, rng.standard_normal(len(gone)) - 1.5).astype(np.float32)
    else:
        logits[:, gone] = -np.inf
    return route(logits, bias, config)


@given(
    name=st.sampled_from(sorted(CONFIGS)),
    seed=st.integers(0, 2**16),
    share=st.floats(0.01, 1.0),
    by_coverage=st.booleans(),
    equal_groups=st.booleans(),
)
def test_a_router_finds_all_it_needs_among_what_is_kept(name, seed, share, by_coverage, equal_groups):
    config = CONFIGS[name]
    least = least_per_group(config) * config.n_group / config.n_routed_experts
    target = Target(coverage=share) if by_coverage else Target(keep=max(share, least))
    scores = scores_for(config, seed)
    chosen = select(scores, (1, 2), config, target, equal_groups=equal_groups)
    assert list(chosen) == [1, 2]
    for kept in chosen.values():
        assert list(kept) == sorted(set(kept))
        ids, weights = routed_among(kept, config, seed)
        assert set(ids.ravel().tolist()) <= set(kept)
        assert np.isfinite(weights).all()
        assert all(len(set(row)) == config.num_experts_per_tok for row in ids.tolist())


@given(name=st.sampled_from(sorted(CONFIGS)), seed=st.integers(0, 2**16), share=st.floats(0.01, 1.0))
def test_equal_groups_are_equal_in_every_layer(name, seed, share):
    config = CONFIGS[name]
    chosen = select(scores_for(config, seed), (1, 2), config, Target(coverage=share), equal_groups=True)
    assert len({count for kept in chosen.values() for count in group_counts(kept, config)}) == 1


@given(
    name=st.sampled_from(sorted(CONFIGS)),
    seed=st.integers(0, 2**16),
    share=st.floats(0.01, 1.0),
    equal_groups=st.booleans(),
)
def test_coverage_is_reached_with_no_expert_to_spare(name, seed, share, equal_groups):
    config = CONFIGS[name]
    scores, least = scores_for(config, seed), least_per_group(config)
    chosen = select(scores, (1, 2), config, Target(coverage=share), equal_groups=equal_groups)
    held = [scores[place][list(kept)].sum() for place, kept in enumerate(chosen.values())]
    assert min(held) >= share - 1e-6
    for place, kept in enumerate(chosen.values()):
        if not equal_groups and max(group_counts(kept, config)) > least:
            # Without the least of the groups that have more than they need, it would be missed.
            counts = group_counts(kept, config)
            size = config.n_routed_experts // config.n_group
            spare = min(scores[place][expert] for expert in kept if counts[expert // size] > least)
            assert held[place] - spare < share


@given(name=st.sampled_from(sorted(CONFIGS)), seed=st.integers(0, 2**16), equal_groups=st.booleans())
def test_what_is_protected_stays(name, seed, equal_groups):
    config = CONFIGS[name]
    scores = scores_for(config, seed)
    protected = np.random.default_rng(seed).random(scores.shape) < 0.2
    chosen = select(scores, (1, 2), config, Target(coverage=0.5), protected, equal_groups=equal_groups)
    for place, kept in enumerate(chosen.values()):
        assert set(np.flatnonzero(protected[place])) <= set(kept)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_all_are_kept_when_all_are_asked_for(name):
    config = CONFIGS[name]
    for equal_groups in (True, False):
        chosen = select(scores_for(config, 0), (1, 2), config, Target(keep=1.0), equal_groups=equal_groups)
        assert chosen[1] == tuple(range(config.n_routed_experts))


def test_a_share_is_rounded_up_to_whole_experts_of_a_group():
    config = CONFIGS["v3"]  # 4 groups of 4
    chosen = select(scores_for(config, 0), (1, 2), config, Target(keep=0.6), equal_groups=True)
    assert group_counts(chosen[1], config) == [3, 3, 3, 3]
    freely = select(scores_for(config, 0), (1, 2), config, Target(keep=0.6), equal_groups=False)
    assert len(freely[1]) == 10


def test_the_best_are_kept_and_ties_go_to_the_lowest_id():
    config = CONFIGS["moonlight"]  # 16 experts, no groups
    scores = np.zeros((1, 16))
    scores[0, [3, 9]] = 0.5
    assert select(scores, (1,), config, Target(keep=0.25))[1] == (0, 1, 3, 9)


@pytest.mark.parametrize(
    ("equal_groups", "least"), [(True, "keep at least 0.5"), (False, "keep at least 0.5")]
)
def test_too_few_for_the_router_are_refused_with_what_works(equal_groups, least):
    config = CONFIGS["v3"]
    with pytest.raises(ProfileError, match=least) as caught:
        select(scores_for(config, 0), (7, 8), config, Target(keep=0.25), equal_groups=equal_groups)
    assert "layer 7" in str(caught.value)


def test_no_room_for_what_is_protected_is_refused_by_layer_and_group():
    config = CONFIGS["v3"]
    protected = np.zeros((2, 16), bool)
    protected[1, 8:11] = True
    with pytest.raises(ProfileError, match=r"layer 8 has 3 in group 2 .* keep at least 0.75"):
        select(scores_for(config, 0), (7, 8), config, Target(keep=0.5), protected, equal_groups=True)


@pytest.mark.parametrize(
    "shares", [{}, {"keep": 0.5, "coverage": 0.9}, {"keep": 0.0}, {"coverage": 1.5}, {"keep": float("nan")}]
)
def test_a_target_is_one_share(shares):
    with pytest.raises(ProfileError):
        Target(**shares)


def test_the_smallest_set_that_covers():
    scores = np.array([0.1, 0.4, 0.2, 0.3])
    assert np.flatnonzero(smallest_covering(scores, 0.7)).tolist() == [1, 3]
    assert np.flatnonzero(smallest_covering(scores, 0.71)).tolist() == [1, 2, 3]
    assert np.flatnonzero(smallest_covering(scores, 1.0)).tolist() == [0, 1, 2, 3]
    must = np.array([True, False, False, False])
    assert np.flatnonzero(smallest_covering(scores, 0.5, must)).tolist() == [0, 1]
