"""Experts read a token, by what is kept in memory: every policy, and the optimum, on every kind of routes.

    .venv/bin/python benchmarks/cache.py
    .venv/bin/python benchmarks/cache.py --routes pocket-chain fitted --tokens 5000 --shares 0.1 0.3 --json

Nothing is read: routes are played to a simulated memory, one token a step. A share is that of all experts
that fits; the first quarter of the tokens fills it and is not counted. `pocket` solves problems of its own
tasks, recorded anew each time; the others are synthetic, and `fitted`, `domains` and `uniform` have the shape
of DeepSeek-V2-Lite, `pessimistic` and `optimistic` that of V3 (`testing/routes.py`). `belady` knows the
future: what it reads, no policy avoids, and none that cannot see ahead comes near where choices are random.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import run

import araio
from araio.testing import routes as synthetic
from araio.testing.routes import Recipe, gini, overlap, union
from araio.train.tasks import TASKS
from araio.weights.policies import LRU, Forecast, Policy, TwoRates
from araio.weights.regression import Regression
from araio.weights.simulate import belady, replay

RECIPES: dict[str, Recipe] = {
    "fitted": synthetic.FITTED,
    "domains": synthetic.DOMAINS,
    "uniform": synthetic.UNIFORM,
    "pessimistic": synthetic.PESSIMISTIC,
    "optimistic": synthetic.OPTIMISTIC,
}
RECORDED = {f"pocket-{task}": task for task in ("chain", "story", "knights")}

# A single rate that never forgets counts uses; one of a half-life between is LRFU of Lee et al. 2001.
POLICIES: dict[str, Callable[[int, int], Policy]] = {
    "lru": lambda keys, experts: LRU(keys),
    "lfu": lambda keys, experts: TwoRates(keys, experts, half_life=float("inf"), recent=0),
    "lrfu 16": lambda keys, experts: TwoRates(keys, experts, half_life=16, recent=0),
    "two rates": TwoRates,
    "forecast": Forecast,
    "regression": Regression,
}
MAX_ANSWER = 600  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    kinds = [*RECORDED, *RECIPES]
    small = [*RECORDED, "fitted", "domains", "uniform"]
    parser.add_argument("--routes", nargs="+", choices=kinds, default=small, metavar="KIND", help=str(kinds))
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--shares", type=float, nargs="+", default=[1 / 8, 1 / 4, 1 / 2, 3 / 4])
    parser.add_argument("--seed", type=int, default=2)
    run(parser, compare, text)


def compare(asked: argparse.Namespace) -> dict[str, Any]:
    """Play all routes to all policies, and describe the routes."""
    rows, traces = [], []
    for kind in asked.routes:
        routes, scores = make(kind, asked.tokens, asked.seed)
        traces.append(describe(kind, routes, scores.shape[2]))
        rows += [row(kind, routes, scores, share) for share in asked.shares]
    return {
        "benchmark": "cache",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "seed": asked.seed,
        "routes": traces,
        "rows": rows,
    }


def make(kind: str, tokens: int, seed: int) -> tuple[NDArray[np.integer], NDArray[np.float32]]:
    """Routes (T, L, K), and the scores (T, L, E) that they were chosen by."""
    if kind in RECORDED:
        return record(RECORDED[kind], tokens, seed)
    made = RECIPES[kind].make(tokens, seed)
    return made.routes, made.scores


def record(task: str, tokens: int, seed: int) -> tuple[NDArray[np.integer], NDArray[np.float32]]:
    """What `pocket` chooses as it answers one problem of a task after the other; prompts are left out."""
    model = araio.load("pocket", speculate="off")
    chosen: list[NDArray[np.int32]] = []
    scored: list[NDArray[np.float32]] = []

    def keep(layer: int, ids: NDArray[np.int32], weights: NDArray[np.float32]) -> None:
        if len(ids) == 1:  # a decoded token; no prompt is so short
            chosen.append(ids[0])

    def keep_scores(layer: int, scores: NDArray[np.float32]) -> None:
        if len(scores) == 1:
            scored.append(scores[0])

    config = model.network.config
    layers = len(config.moe_layers)
    model.network.on_route = keep
    for router in model.network.routers:
        router.on_scores = keep_scores
    random = Random(seed)
    while len(chosen) < tokens * layers:
        question = TASKS[task].generate(random, "test").prompt
        model.chat(question, temperature=0, max_tokens=MAX_ANSWER)
    model.network.on_route = None
    routes = np.stack(chosen[: tokens * layers]).reshape(tokens, layers, -1)
    return routes, np.stack(scored[: tokens * layers]).reshape(tokens, layers, -1)


def describe(kind: str, routes: NDArray[np.integer], experts: int) -> dict[str, Any]:
    """How local routes are."""
    tokens, layers, chosen = routes.shape
    return {
        "kind": kind,
        "tokens": tokens,
        "layers": layers,
        "experts": experts,
        "chosen": chosen,
        "gini": gini(routes, experts),
        "overlap": {str(lag): overlap(routes, lag) for lag in (1, 2, 8, 64)},
        "union": {str(several): union(routes, several) for several in (2, 8, 32)},
    }


def row(kind: str, routes: NDArray[np.integer], scores: NDArray[np.float32], share: float) -> dict[str, Any]:
    """Experts read a token when a share of all of them fits."""
    experts = scores.shape[2]
    keys = routes.shape[1] * experts
    capacity = int(keys * share)
    warm = len(routes) // 4

    def a_token(misses: NDArray[np.int64]) -> float:
        return float(misses[warm:].sum() / (len(routes) - warm))

    reads = {
        name: a_token(replay(routes, experts, capacity, new(keys, experts), scores))
        for name, new in POLICIES.items()
    }
    best = a_token(belady(routes, experts, capacity))
    return {"kind": kind, "share": share, "capacity": capacity, "reads": reads | {"belady": best}}


def text(report: dict[str, Any]) -> str:
    """The routes, then what each policy reads, with the share of it that nothing avoids."""
    lines = [f"{'routes':<16}{'shape':>18}{'Gini':>8}{'overlap 1, 2, 8, 64':>26}{'union 2, 8, 32':>22}"]
    for trace in report["routes"]:
        shape = f"{trace['layers']} x {trace['chosen']} of {trace['experts']}"
        overlaps = " ".join(f"{value:.3f}" for value in trace["overlap"].values())
        unions = " ".join(f"{value:.1f}" for value in trace["union"].values())
        lines.append(f"{trace['kind']:<16}{shape:>18}{trace['gini']:>8.3f}{overlaps:>26}{unions:>22}")
    names = list(report["rows"][0]["reads"])
    lines += ["", "experts read a token (share of them that Belady's optimum reads too)"]
    lines.append(f"{'':<16}{'kept':>8}" + "".join(f"{name:>16}" for name in names))
    for row in report["rows"]:
        best = row["reads"]["belady"]
        cells = "".join(f"{value:>10.2f} {_share(best, value):>5}" for value in row["reads"].values())
        lines.append(f"{row['kind']:<16}{row['share']:>8.1%}{cells}")
    return "\n".join(lines)


def _share(best: float, value: float) -> str:
    return f"{best / value:.2f}" if value else ""


if __name__ == "__main__":
    main()
