"""`araio serve` and llama.cpp's `llama-server` in turns: many clients at a time, over HTTP, in streams.

    .venv/bin/python benchmarks/build_peer.py llama-server        once
    .venv/bin/python benchmarks/serve.py                          a small model; minutes
    .venv/bin/python benchmarks/serve.py --model lite --rounds 2  V2-Lite; 18 GB of disk, 20 of memory
    .venv/bin/python benchmarks/serve.py --alone --clients 16 --json

Both servers compute with the same numbers in q4, and get the same requests: prompts of random token ids, of
which no two begin alike, so that no cache of prompts helps, and answers of a fixed length. What would end an
answer early is banned by `logit_bias`, and an answer of another length stops the benchmark. Tokens are chosen
greedily. Both have the same threads, and room for all clients at a time; llama-server runs with its defaults
but for that. Both are loaded throughout; one rests while the other is asked, and who begins changes from
round to round. A first round only warms up.

`serve_clients.py` says what is measured. A ratio above 1 is better for araio, in speeds and in waits. How
often both give the same first token tells whether they are the same model; behind it they part, since each
rounds activations in its own way.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from peers.araio_server import AraioServer
from peers.llama_server import LlamaServer
from peers.server_process import ServerProcess
from random_store import FOLDER
from report import run, table
from serve_clients import Answered, Load, drive
from serve_models import MODELS, serve_gguf, serve_store
from serve_rows import figures_of, rows_of
from serve_vocabulary import Vocabulary

import araio
from araio.config import ModelConfig
from araio.testing.machine import describe_processor
from araio.testing.turns import Row

SPARE = 64  # tokens of room beside a prompt and its answer

# What araio is to reach: a row's name, and the ratio.
GOALS = {"16 clients: total tokens, tok/s": 1.3, "1 client: TTFT, ms": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="small")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--requests", type=int, default=2, help="of each client, one after the other")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help="araio without its peer")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"of the models (default {FOLDER})")
    run(parser, compare, text)


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and describe; raises AraioError where a server is missing, refuses or answers wrong."""
    store = serve_store(arguments.model, arguments.folder)
    vocabulary = Vocabulary(ModelConfig.from_file(store))
    gguf = None if arguments.alone else serve_gguf(store)
    rows: list[Row] = []
    same: dict[str, float] = {}
    with ExitStack() as stack:
        room, most = arguments.prompt + arguments.tokens + SPARE, max(arguments.clients)
        options = ["--cache-tokens", str(most * room)]
        servers: dict[str, ServerProcess] = {
            "araio": stack.enter_context(AraioServer(store, arguments.threads, options))
        }
        if gguf is not None:
            servers["peer"] = stack.enter_context(LlamaServer(gguf, arguments.threads, most, room))
        for clients in arguments.clients:
            rounds = _take_turns(servers, arguments, clients, vocabulary)
            measured = {name: [figures_of(one[name]) for one in rounds] for name in servers}
            rows += rows_of(clients, measured["araio"], measured.get("peer", []))
            if gguf is not None:
                same[str(clients)] = _same_first(rounds)
    named = {row.name: row for row in rows}
    return {
        "benchmark": "serve",
        "araio": araio.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "model": arguments.model,
        "peer": None if gguf is None else "llama-server q4_0",
        "machine": describe_processor(),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "prompt": arguments.prompt,
        "tokens": arguments.tokens,
        "requests": arguments.requests,
        "same_first_token": same,
        "goals": {
            name: {"ratio": named[name].ratio, "wanted": wanted}
            for name, wanted in GOALS.items()
            if name in named and named[name].ratio is not None
        },
        "rows": [asdict(row) for row in rows],
    }


def _take_turns(
    servers: dict[str, ServerProcess], arguments: argparse.Namespace, clients: int, vocabulary: Vocabulary
) -> list[dict[str, list[Answered]]]:
    """What every client saw of every engine, round after round."""
    rounds = []
    for turn in range(arguments.rounds + 1):
        load = _load(arguments, clients, turn, vocabulary)
        order = list(servers)[:: -1 if turn % 2 else 1]
        answers = {name: drive(servers[name].url, load) for name in order}
        if turn:
            rounds.append(answers)
    return rounds


def _load(arguments: argparse.Namespace, clients: int, turn: int, vocabulary: Vocabulary) -> Load:
    """The prompts of a round, which nobody has sent before."""
    rng = np.random.default_rng([clients, turn])
    shape = (clients, arguments.requests, arguments.prompt - 1)
    drawn = rng.choice(np.array(vocabulary.ordinary), shape)
    prompts = [[[vocabulary.begin, *one] for one in turns] for turns in drawn]
    return Load(prompts, arguments.tokens, [vocabulary.end])


def _same_first(rounds: list[dict[str, list[Answered]]]) -> float:
    """The share of all requests whose answers begin alike."""
    pairs = [pair for one in rounds for pair in zip(one["araio"], one["peer"], strict=True)]
    return sum(ours.first == theirs.first for ours, theirs in pairs) / len(pairs)


def text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['model']} q4 against {report['peer'] or 'nobody'}, {report['date']}",
        f"{report['machine']['name']}, {report['threads']} threads; {report['requests']} requests a client, "
        f"{report['prompt']} tokens of prompt, {report['tokens']} of answer, {report['rounds']} rounds",
        table(report["rows"]),
    ]
    for clients, share in report["same_first_token"].items():
        lines.append(f"{clients} at a time: the same first token {share:.0%} of the time")
    for name, goal in report["goals"].items():
        told = "reached" if goal["ratio"] >= goal["wanted"] else "missed"
        lines.append(f"goal {told}: {name}: {goal['ratio']:.2f}x, {goal['wanted']:.1f}x wanted")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
