"""Published figures beside what araio computes: what holds, what is a slip, what compares unlike things.

Every number is computed when it is asked for, from configs and the functions of `araio.costs`; the page
`docs/published-figures.md` is generated from it. Read `figure.py` for what a figure is.
"""

from __future__ import annotations

from collections.abc import Callable

from araio.config import ModelConfig
from araio.costs.published.batches import BatchRow, sparsity_by_batch
from araio.costs.published.deployments import Deployment, published_deployments
from araio.costs.published.figure import Figure, Topic
from araio.costs.published.service import energy, prices, service
from araio.costs.published.sizes import caches, checkpoint, parameters
from araio.costs.published.training import operations, other_runs, v3_run

__all__ = [
    "BatchRow",
    "Deployment",
    "Figure",
    "Topic",
    "published_deployments",
    "published_figures",
    "sparsity_by_batch",
]

_TOPICS = (parameters, checkpoint, caches, operations, v3_run, other_runs, service, prices, energy)


def published_figures(config_of: Callable[[str], ModelConfig]) -> tuple[Topic, ...]:
    """Every figure, by topic.

    config_of  gives the config of a preset, as `weights.locate.locate_config` does
    """
    return tuple(topic(config_of) for topic in _TOPICS)
