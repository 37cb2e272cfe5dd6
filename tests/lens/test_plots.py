"""Figures: what they draw on, and what is on them."""

from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure

from araio.errors import TraceError
from araio.lens import plots
from araio.lens.summary import Summary, summarise
from araio.traces import Trace, TraceHeader


def small_trace(domains: tuple[str, ...]) -> Trace:
    random = np.random.default_rng(0)
    tokens = 240
    seq = np.arange(tokens) // 20
    header = TraceHeader(
        layers=(3, 4, 5), n_routed_experts=8, top_k=2, n_group=2, topk_group=2, domains=domains
    )
    experts = np.argsort(random.random((tokens, 3, 8)), axis=2)[..., :2]
    return Trace.from_arrays(header, expert_ids=experts, seq=seq, domain=seq % len(domains))


@cache
def summary() -> Summary:
    return summarise(small_trace(("code", "law")))


@pytest.mark.parametrize(
    "draw", [plots.heat_map, plots.load_curve, plots.specialisation, plots.cache_curves, plots.co_activation]
)
def test_a_figure_draws_on_the_axes_it_is_given_or_on_its_own(draw) -> None:
    figure = Figure()
    axes = figure.subplots()
    assert draw(summary(), axes) is axes
    own = draw(summary())
    assert own.figure is not figure
    own.figure.canvas.draw()


def test_a_trace_will_do() -> None:
    axes = plots.load_curve(small_trace(("code", "law")))
    drawn = axes.get_lines()[2].get_ydata()
    assert drawn == pytest.approx(summary().load.effective_experts)
    assert [line.get_label() for line in axes.get_lines()] == ["code", "law", "all", "all 8"]


def test_the_map_has_uniform_in_its_middle_and_names_layers() -> None:
    axes = plots.heat_map(summary(), domain="law")
    image = axes.get_images()[0]
    assert image.get_clim() == (-1, 1)
    expected = np.log2(np.maximum(summary().load_by_domain.relative[1], plots.LEAST_RATIO)) / 2
    assert np.allclose(image.get_array(), expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["3", "4", "5"]


def test_a_layer_is_asked_for_by_its_number() -> None:
    axes = plots.co_activation(summary(), layer=4)
    assert axes.get_title() == "layer 4"
    with pytest.raises(TraceError, match="no layer 7; expected one of 3, 4, 5"):
        plots.co_activation(summary(), layer=7)


def test_what_is_not_in_the_trace_is_told() -> None:
    with pytest.raises(TraceError, match="no domain 'cod'; expected one of code, law"):
        plots.heat_map(summary(), domain="cod")
    alone = summarise(small_trace(("code",)))
    with pytest.raises(TraceError, match="one domain"):
        plots.specialisation(alone)
    assert plots.specialisation not in plots.main_figures(alone)
    assert plots.specialisation in plots.main_figures(summary())
