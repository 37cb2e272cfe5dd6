"""What the best groups of experts cover, against trying all groups."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings

from araio.lens.routes import Routes
from araio.lens.segments import segments

from .made import random_routes, small_routes


def best(choices: list[int], experts: int, size: int) -> float:
    groups = combinations(range(experts), size)
    return max(sum(choice in group for choice in choices) for group in groups) / len(choices)


@settings(max_examples=30)
@given(small_routes())
def test_the_best_of_all_groups_is_found(routes: Routes) -> None:
    found = segments(routes, lengths=(4,))
    for layer in range(routes.depth):
        stretches = []
        for sequence in range(routes.sequences):
            rows = routes.experts[routes.seq == sequence, layer]
            stretches += [rows[at : at + 4].ravel().tolist() for at in range(0, len(rows) - 3, 4)]
        for place, size in enumerate(found.sizes.tolist()):
            each = [best(stretch, routes.n_experts, size) for stretch in stretches]
            expected = np.mean(each) if each else np.nan
            assert found.covered[layer, 0, place] == pytest.approx(expected, nan_ok=True)
            every = routes.experts[:, layer].ravel().tolist()
            assert found.whole[layer, place] == pytest.approx(best(every, routes.n_experts, size))


def test_groups_double_as_far_as_there_are_experts() -> None:
    found = segments(random_routes(1, experts=12, top_k=2, tokens=300))
    assert found.sizes.tolist() == [2, 4, 8]
    assert (np.diff(found.covered[:, 0], axis=1) > 0).all()
    # A group for each stretch covers more than one for all, and shorter stretches are covered better.
    assert (found.covered[:, 0] >= found.covered[:, 1]).all()
    assert (found.covered[:, 0] > found.whole).all()
