"""A model larger than its memory: araio reading experts from disk, and llama.cpp through its file's mapping.

    .venv/bin/python benchmarks/build_peer.py llama-cpp           once
    .venv/bin/python benchmarks/stream_models.py                  once; 18 GB of disk
    .venv/bin/python benchmarks/stream.py
    .venv/bin/python benchmarks/stream.py --share 0.5 --texts fitted --rounds 1 --json
    .venv/bin/python benchmarks/stream.py --alone --shm           a disk as fast as memory; araio alone
    .venv/bin/python benchmarks/stream.py --quick                 a small model, no limit, seconds

Both engines compute with the same numbers, are given the same tokens, and have the same memory: all of the
machine's is locked away while they run, but a share of the file and `NEEDS` on top. araio is told to take no
more than the share and what it has on top when all weights are in memory, which is less. In every round each
engine starts with nothing in the page cache, decodes the beginning of a text unmeasured and what follows
measured, text after text, and at last reads a prompt. How fast the disk gives records of experts at random is
measured right before and after araio's turn; the mean counts, for what serves the disk may cache.

What decoding could reach at most is the slower of two things: computing alone, as with all weights in memory,
and reading alone, at the disk's best speed, only what Belady's rule, which knows the future, would have to.
Needs Linux, root, and 20 GB of memory for the model with all of its weights.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
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
from stream_turns import Routes, Script, agreement, play, routing, script_of

import araio
from araio.formats.store import Store
from araio.formats.store_layout import EXPERTS_TENSOR, expert_file
from araio.testing.machine import describe_processor
from araio.weights.simulate import belady

NEEDS = 600_000_000  # of either process beside weights, and of the system
CEILING_S = 1.0  # for each number of threads


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
    whole, computed, chosen = _resident(store, script, arguments.threads)
    is_limited = not (arguments.quick or arguments.shm)
    limits = [_limit(share, _file_bytes(store), whole, is_limited) for share in arguments.share]
    told = {name: _told(weights, name, script, routes) for name, routes in chosen.items()}
    if gguf is not None:
        with LlamaCpp(gguf, arguments.threads, mapped=True) as peer:
            for name, routes in _watch(peer, script).items():
                told[name]["same as peer"] = agreement(routes, chosen[name])
    with _in_memory(store) if arguments.shm else nullcontext(store) as streamed:
        rounds = {
            limit.share: _measure(streamed, gguf, script, limit, arguments.rounds, arguments.threads)
            for limit in limits
        }
    experts = weights.config.n_routed_experts
    misses = {
        (share, name): least
        for share in arguments.share
        for name, least in _least_misses(chosen, script.warm, experts, rounds[share][0].slots).items()
    }
    rows = rows_of(rounds, computed, misses, _records(store)[0].size)
    return {
        "benchmark": "stream",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "model": model,
        "peer": None if gguf is None else "llama.cpp q4_0, mapped, not repacked",
        "file_bytes": _file_bytes(store),
        "disk": "/dev/shm" if arguments.shm else str(store.parent),
        "machine": describe_processor(),
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "tokens": arguments.tokens,
        "warm": arguments.warm,
        "limits": [
            asdict(limit)
            | {
                "slots": rounds[limit.share][0].slots,
                "memory": [
                    {name: asdict(turn.memory) for name, turn in one.turns.items()}
                    for one in rounds[limit.share]
                ],
                "counters": dict(rounds[limit.share][-1].turns["araio"].counters),
            }
            for limit in limits
        ],
        "routing": told,
        "rows": [asdict(row) for row in rows],
    }


# ---------------------------------------------------------------------- with all weights in memory


def _resident(store: Path, script: Script, threads: int) -> tuple[int, dict[str, float], dict[str, Routes]]:
    """Memory for everything, tokens per second where nothing is read, and the experts that were chosen."""
    speeds = {}
    with AraioProcess(store, threads) as engine:
        whole = engine.budget["whole"]
        assert whole is not None
        chosen = _watch(engine, script)
        for name, ids in script.texts.items():
            engine.play(ids[: script.warm], fresh=True)
            speeds[name] = len(ids[script.warm :]) / engine.play(ids[script.warm :], fresh=False).seconds
    return whole, speeds, chosen


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


def _least_misses(chosen: dict[str, Routes], warm: int, experts: int, slots: int) -> dict[str, float]:
    """Reads a token that no choice of experts to keep can avoid, in what is measured of each text.

    Text follows on text, and what is read for one may be there for the next. Every place may hold an expert
    between two layers, so whatever the engine does, it reads no less.
    """
    misses = belady(np.concatenate(list(chosen.values())), experts, slots).sum(axis=1)
    texts = np.split(misses, np.cumsum([len(routes) for routes in chosen.values()])[:-1])
    return {name: float(text[warm:].mean()) for name, text in zip(chosen, texts, strict=True)}


# ---------------------------------------------------------------------- with less memory


@dataclass(frozen=True)
class Limit:
    """What the engines may use.

    share            of the file
    ram              bytes that araio is told
    available_bytes  that the machine has left for each of them and itself; None where nothing is taken away
    """

    share: float
    ram: int
    available_bytes: int | None

    def hold(self) -> AbstractContextManager[MemoryLimit | None]:
        return nullcontext() if self.available_bytes is None else MemoryLimit(self.available_bytes)


def _limit(share: float, file_bytes: int, whole: int, is_limited: bool) -> Limit:
    """The limit of a share; `whole` is what araio takes with all weights in memory."""
    ram = whole - int((1 - share) * file_bytes)
    return Limit(share, ram, int(share * file_bytes) + NEEDS if is_limited else None)


def _measure(
    store: Path, gguf: Path | None, script: Script, limit: Limit, rounds: int, threads: int
) -> list[Round]:
    """The rounds of one share of memory."""
    records, files = _records(store), _files(store)
    done = []
    with limit.hold() as held:
        for turn in range(rounds):
            before = record_ceiling(records, CEILING_S, 2 * turn)
            drop_from_cache(files)
            with AraioProcess(store, threads, limit.ram) as engine:
                slots = engine.budget["slots"] or len(records) * records[0].count
                turns = {"araio": play(engine, script, files)}
            drop_from_cache(files)
            after = record_ceiling(records, CEILING_S, 2 * turn + 1)
            if gguf is not None:
                drop_from_cache([gguf])
                with LlamaCpp(gguf, threads, mapped=True) as peer:
                    turns["peer"] = play(peer, script, [gguf])
                drop_from_cache([gguf])
            done.append(Round(turns, (before + after) / 2, slots))
            if held is not None:
                held.check()
    return done


@contextmanager
def _in_memory(store: Path) -> Iterator[Path]:
    """A copy of a store in a file system that lies in memory."""
    with TemporaryDirectory(dir="/dev/shm", prefix="araio-stream-") as folder:
        yield Path(shutil.copytree(store, Path(folder) / store.name))


def _records(store: Path) -> list[Records]:
    config = araio.ModelConfig.from_file(store)
    with Store(store, config) as opened:
        files = {file.path.name: file for file in opened.files}
        return [
            Records(file.path, file[EXPERTS_TENSOR].begin, opened.record.bytes, config.n_routed_experts)
            for file in (files[expert_file(layer)] for layer in config.moe_layers)
        ]


def _files(store: Path) -> list[Path]:
    return sorted(store.glob("*.safetensors"))


def _file_bytes(store: Path) -> int:
    return sum(file.stat().st_size for file in _files(store))


# ---------------------------------------------------------------------- the report


def text(report: dict[str, Any]) -> str:
    size = report["file_bytes"] / 1e9
    lines = [
        f"{report['model']}, {size:.2f} GB on {report['disk']}, against {report['peer'] or 'nobody'}, "
        f"{report['date']}",
        f"{report['machine']['name']}, {report['threads']} threads; {report['tokens']} tokens decoded after "
        f"{report['warm']}, {report['rounds']} rounds",
    ]
    for limit in report["limits"]:
        lines += _limit_lines(limit)
    for name, told in report["routing"].items():
        shown = ", ".join(f"{what} {value:.3f}" for what, value in told.items())
        lines.append(f"{name}: {shown}")
    return "\n".join([*lines, table(report["rows"])])


def _limit_lines(limit: dict[str, Any]) -> list[str]:
    available = limit["available_bytes"]
    left = "all of the machine's memory" if available is None else f"{available / 1e9:.2f} GB for everything"
    lines = [
        f"{limit['share']:.0%}: {left}, araio within {limit['ram'] / 1e9:.2f} GB, "
        f"room for {limit['slots']} experts"
    ]
    for engine in limit["memory"][0]:
        own, cached, peak = (
            max(one[engine][part] for one in limit["memory"]) / 1e9 for part in ("own", "cached", "peak")
        )
        lines.append(
            f"  {engine}: {own:.2f} GB of its own, {cached:.2f} GB of its files cached, {peak:.2f} GB at its "
            "peak"
        )
    return lines


if __name__ == "__main__":
    main()
