"""A model larger than its memory: araio reading experts from disk, and llama.cpp through its file's mapping.

    .venv/bin/python benchmarks/peers/llama_cpp.py build          once
    .venv/bin/python benchmarks/stream_models.py                  once; 18 GB of disk
    .venv/bin/python benchmarks/stream.py
    .venv/bin/python benchmarks/stream.py --share 0.5 --texts fitted --rounds 1 --json
    .venv/bin/python benchmarks/stream.py --alone --shm           a disk as fast as memory; araio alone
    .venv/bin/python benchmarks/stream.py --quick                 a small model, no limit, seconds

Both engines compute with the same numbers, are given the same tokens, and have the same memory: while they run,
all of the machine's is locked away but a share of the file and `NEEDS` on top. araio is told to stay within the
share and `OWN` on top. In every round each engine starts with nothing in the page cache, decodes the same tokens
unmeasured and as many measured, text after text, and at last reads a prompt. How fast the disk gives records of
experts at random is measured between the engines.

What decoding could reach at most is the slower of two things: computing alone, as with all weights in memory,
and reading alone, at the disk's best speed, only what Belady's rule, which knows the future, would have to.
Needs Linux, root, and 20 GB of memory for the model with all of its weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from disk_ceiling import Records, record_ceiling
from memory_limit import MemoryLimit
from peers.araio_process import AraioProcess
from peers.llama_cpp import LlamaCpp
from process_watch import drop_from_cache
from random_store import FOLDER
from report import run, table
from routed_weights import RoutedWeights
from stream_models import TEXTS, stream_gguf, stream_store, stream_weights
from stream_rows import Round, rows_of
from stream_turns import Routes, Script, Turn, agreement, play, routing, script_of

import araio
from araio.formats.store import Store
from araio.formats.store_layout import EXPERTS_TENSOR, expert_file
from araio.testing.machine import describe_processor
from araio.weights.simulate import belady

NEEDS = 600_000_000  # of either process beside weights, and of the system
OWN = 400_000_000  # of araio's process beside weights, within NEEDS
CEILING_S = 1.0  # for each number of threads
GB = 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--share", type=float, nargs="+", default=[0.5, 0.25], help="of the file, in memory")
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS), help="what is decoded")
    parser.add_argument("--warm", type=int, default=16, help="tokens before those that are measured")
    parser.add_argument("--tokens", type=int, default=32, help="decoded of each text")
    parser.add_argument("--prompt", type=int, default=512, help="tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help="araio without its peer")
    parser.add_argument("--shm", action="store_true", help="the store in /dev/shm, without a limit of memory")
    parser.add_argument("--quick", action="store_true", help="a small model without a limit of memory")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"of the models (default {FOLDER})")
    run(parser, compare, text)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and describe; raises AraioError where llama.cpp, disk or memory are missing."""
    model = "small" if arguments.quick else "lite"
    weights = stream_weights(model)
    store = stream_store(weights, model, arguments.folder)
    gguf = None if arguments.alone or arguments.shm else stream_gguf(store)
    script = script_of(weights, arguments.texts, arguments.warm, arguments.tokens, arguments.prompt)
    computed, chosen = _resident(store, script, arguments.threads)
    told = {name: _told(weights, name, script, routes) for name, routes in chosen.items()}
    if gguf is not None:
        with LlamaCpp(gguf, arguments.threads, mapped=True) as peer:
            for name, routes in _watch(peer, script).items():
                told[name]["same as peer"] = agreement(routes, chosen[name])
    is_limited = not (arguments.quick or arguments.shm)
    with _in_memory(store) if arguments.shm else nullcontext(store) as streamed:
        rounds = _measure(streamed, gguf, script, arguments, is_limited)
    misses = {
        (share, name): _least_misses(routes, script.warm, weights, rounds[share][0].slots)
        for share in arguments.share
        for name, routes in chosen.items()
    }
    rows = rows_of(rounds, computed, misses, _record_bytes(store))
    return {
        "benchmark": "stream",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "model": model,
        "peer": None if gguf is None else "llama.cpp q4_0, mapped, not repacked",
        "file_bytes": _file_bytes(store),
        "disk": "/dev/shm" if arguments.shm else str(store.parent),  # noqa: S108
        "machine": describe_processor(),
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "tokens": arguments.tokens,
        "warm": arguments.warm,
        "limits": [
            {
                "share": share,
                "available_bytes": _limits(store, share)[0] if is_limited else None,
                "ram": _limits(store, share)[1],
                "slots": rounds[share][0].slots,
                "memory": [
                    {name: asdict(turn.memory) for name, turn in one.turns.items()} for one in rounds[share]
                ],
                "counters": dict(rounds[share][-1].turns["araio"].counters),
            }
            for share in arguments.share
        ],
        "routing": told,
        "rows": [asdict(row) for row in rows],
    }


# ---------------------------------------------------------------------- with all weights in memory


def _resident(store: Path, script: Script, threads: int) -> tuple[dict[str, float], dict[str, Routes]]:
    """Tokens per second of each text where nothing is read, and the experts that its tokens chose."""
    speeds = {}
    with AraioProcess(store, threads) as engine:
        chosen = _watch(engine, script)
        for name, ids in script.texts.items():
            engine.play(ids[: script.warm], fresh=True)
            speeds[name] = len(ids[script.warm :]) / engine.play(ids[script.warm :], fresh=False).seconds
    return speeds, chosen


def _watch(engine: AraioProcess | LlamaCpp, script: Script) -> dict[str, Routes]:
    """The experts (T, L, K) that the tokens of each text choose, unmeasured ones among them."""
    return {
        name: np.array(engine.play(ids, fresh=True, watched=True).experts)
        for name, ids in script.texts.items()
    }


def _told(weights: RoutedWeights, name: str, script: Script, routes: Routes) -> dict[str, float]:
    intended = weights.intended(name, script.positions)
    recipe = next(made for one, made in zip(weights.texts, weights.made, strict=True) if one.name == name)
    experts = weights.config.n_routed_experts
    measured = slice(script.warm, None)
    wanted = routing(recipe.routes[script.positions].astype(np.int64)[measured], intended[measured], experts)
    found = routing(routes[measured], intended[measured], experts)
    return {
        "coverage": found.coverage,
        "overlap": found.overlap,
        "union of 16": found.union,
        "as intended": found.intended,
        "coverage of the recipe": wanted.coverage,
        "overlap of the recipe": wanted.overlap,
        "union of 16 of the recipe": wanted.union,
    }


def _least_misses(routes: Routes, warm: int, weights: RoutedWeights, slots: int) -> float:
    """Reads a token that no choice of experts to keep can avoid, when the unmeasured tokens are over."""
    capacity = slots - routes.shape[2]  # the experts of a layer are there before others leave
    return float(belady(routes, weights.config.n_routed_experts, capacity)[warm:].sum(axis=1).mean())


# ---------------------------------------------------------------------- with less memory


def _measure(
    store: Path, gguf: Path | None, script: Script, arguments: argparse.Namespace, is_limited: bool
) -> dict[float, list[Round]]:
    """The rounds of each share of memory."""
    rounds: dict[float, list[Round]] = {}
    records = _records(store)
    for share in arguments.share:
        available, ram = _limits(store, share)
        limit: AbstractContextManager[MemoryLimit | None] = (
            MemoryLimit(available) if is_limited else nullcontext()
        )
        with limit as held:
            rounds[share] = []
            for turn in range(arguments.rounds):
                slots = 0
                turns: dict[str, Turn] = {}
                ceilings = [record_ceiling(records, CEILING_S, 2 * turn)]
                drop_from_cache(_files(store))
                with AraioProcess(store, arguments.threads, ram) as engine:
                    slots = engine.budget["slots"] or len(records) * records[0].count
                    turns["araio"] = play(engine, script, _files(store))
                drop_from_cache(_files(store))
                if gguf is not None:
                    drop_from_cache([gguf])
                    with LlamaCpp(gguf, arguments.threads, mapped=True) as peer:
                        turns["peer"] = play(peer, script, [gguf])
                    drop_from_cache([gguf])
                ceilings.append(record_ceiling(records, CEILING_S, 2 * turn + 1))
                rounds[share].append(Round(turns, max(ceilings), slots))
                if held is not None:
                    held.check()
    return rounds


def _limits(store: Path, share: float) -> tuple[int, int]:
    """Memory that the machine has left, and that araio is told to stay within."""
    weights = int(share * _file_bytes(store))
    return weights + NEEDS, weights + OWN


def _records(store: Path) -> list[Records]:
    config = araio.ModelConfig.from_file(store)
    with Store(store, config) as opened:
        files = {file.path.name: file for file in opened.files}
        return [
            Records(
                file.path, file[EXPERTS_TENSOR].begin, opened.record.bytes, config.n_routed_experts
            )
            for file in (files[expert_file(layer)] for layer in config.moe_layers)
        ]


def _record_bytes(store: Path) -> int:
    return _records(store)[0].size


def _files(store: Path) -> list[Path]:
    return sorted(store.glob("*.safetensors"))


def _file_bytes(store: Path) -> int:
    return sum(file.stat().st_size for file in _files(store))
