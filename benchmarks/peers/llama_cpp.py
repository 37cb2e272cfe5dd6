"""llama.cpp as a peer: built for this machine, and driven from the process that measures araio.

    .venv/bin/python benchmarks/build_peer.py llama-cpp

builds a pinned llama-cpp-python from its source distribution into an environment of its own under ~/.cache,
with -march=native. It needs a C++ compiler and takes 10 to 40 minutes. Then

    with LlamaCpp(gguf, threads=2) as peer:
        seconds = peer.decode(tokens=32, context=0)

loads a model once, into a process that sleeps between the calls, so that two engines can take turns.
`gguf_models.py` writes the models, `llama_cpp_worker.py` is the process.
"""

from __future__ import annotations

import os
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from peers.json_process import JsonProcess, PeerError, Played

VERSION = "0.3.36"  # of llama-cpp-python; it contains llama.cpp 0.5.0-dev with ggml 0.25.3
ENVIRONMENT = Path.home() / ".cache" / "araio" / "peers" / f"llama-cpp-{VERSION}"
PYTHON = ENVIRONMENT / "bin" / "python"
COMPLETE = ENVIRONMENT / "complete"  # made last, so an interrupted build does not count
# Weight repacking, OpenMP and llamafile's kernels are on by default. The server's parts are left out.
CMAKE_ARGS = "-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF"
BUILD_COMMAND = "python benchmarks/build_peer.py llama-cpp"


def build() -> None:
    """Build and install llama.cpp for this machine, unless that is done; raises PeerError."""
    if COMPLETE.exists():
        print(f"llama-cpp-python {VERSION} is already in {ENVIRONMENT}")
        return
    venv.create(ENVIRONMENT, clear=True, with_pip=True)
    package = "llama-cpp-python"
    # Without its cache, since pip would take a wheel from there that was built with other CMAKE_ARGS.
    pip = [str(PYTHON), "-m", "pip", "install", "--verbose", "--no-cache-dir", "--no-binary", package]
    pip.append(f"{package}=={VERSION}")
    status = subprocess.run(pip, env=os.environ | {"CMAKE_ARGS": CMAKE_ARGS}, check=False).returncode
    if status:
        raise PeerError(
            f"building {package} {VERSION} failed with status {status}; pip says why above. It needs a "
            "C++17 compiler, CMake or a network to get it, and 1 GB of disk"
        )
    COMPLETE.touch()
    print(f"llama-cpp-python {VERSION} is in {ENVIRONMENT}")


class LlamaCpp:
    """A model in a llama.cpp process of its own, until `close` or the end of a `with` block.

    threads      of the next call; may be changed between calls
    mapped       the weights are computed with where the file is mapped, which may be larger than memory;
                 otherwise llama.cpp copies those of some types into an order that is faster
    pid          of the process
    vocabulary   tokens that the model knows
    model_bytes  of all tensors
    system       the instruction sets and features that llama.cpp was built with

    Every method raises PeerError when llama.cpp fails. The first call of a kind, and each call that differs
    from the one before in more than its threads, also runs once unmeasured.
    """

    def __init__(self, gguf: Path, threads: int, mapped: bool = False) -> None:
        if not COMPLETE.exists():
            raise PeerError(f"llama.cpp is not built ({ENVIRONMENT} is missing); run: {BUILD_COMMAND}")
        if not gguf.is_file():
            raise PeerError(f"{gguf} is missing; run: python benchmarks/peers/gguf_models.py")
        needed, free = gguf.stat().st_size, psutil.virtual_memory().available
        if needed > free and not mapped:
            raise PeerError(
                f"{gguf} needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; end other "
                "programs, or let the engines take turns at loading"
            )
        self.threads = threads
        # -P keeps this folder out of the worker's path: there `llama_cpp` must be the binding, not this file.
        worker = [str(PYTHON), "-P", str(Path(__file__).with_name("llama_cpp_worker.py"))]
        self._process = JsonProcess("llama.cpp", worker)
        self.pid = self._process.pid
        try:
            model = self._process.ask(gguf=str(gguf), **({"mapped": True} if mapped else {}))
        except BaseException:
            self.close()
            raise
        self.vocabulary: int = model["vocabulary"]
        self.model_bytes: int = model["model_bytes"]
        self.system: str = model["system"]

    def prefill(self, tokens: int) -> float:
        """Seconds for a prompt of `tokens`, up to the logits of its last."""
        return self._seconds(kind="prefill", tokens=tokens)

    def decode(self, tokens: int, context: int = 0) -> float:
        """Seconds for `tokens` tokens, one by one, with logits each, after `context` cached ones."""
        return self._seconds(kind="decode", tokens=tokens, filled=context)

    def decode_together(self, sequences: int, tokens: int) -> float:
        """Seconds for `tokens` steps in each of which `sequences` sequences are given a token."""
        return self._seconds(kind="decode", tokens=tokens, sequences=sequences)

    def experts(self, tokens: int) -> list[list[list[int]]]:
        """The experts that each of `tokens` decoded tokens chose, as [token][MoE layer][k]."""
        answer = self._process.ask(kind="experts", tokens=tokens, threads=self.threads)
        chosen: list[list[list[int]]] = answer["experts"]
        return chosen

    def play(self, ids: Sequence[int], fresh: bool, together: bool = False, watched: bool = False) -> Played:
        """Give the model tokens of one sequence.

        fresh     they begin it; otherwise they follow those of the last call
        together  as one prompt; otherwise one by one, with logits each
        watched   which experts are chosen; only one by one, and slower
        """
        answer = self._process.ask(
            kind="play",
            ids=list(map(int, ids)),
            fresh=fresh,
            together=together,
            watched=watched,
            threads=self.threads,
        )
        return Played(answer["seconds"], answer["experts"])

    def close(self) -> None:
        """End the process and free its memory."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _seconds(self, **plan: Any) -> float:
        seconds: float = self._process.ask(**plan, threads=self.threads)["seconds"]
        return seconds
