"""llama.cpp as a peer: built for this machine, and driven from the process that measures araio.

    .venv/bin/python benchmarks/peers/llama_cpp.py build

builds a pinned llama-cpp-python from its source distribution into an environment of its own under ~/.cache,
with -march=native. It needs a C++ compiler and takes 10 to 40 minutes. Then

    with LlamaCpp(gguf, threads=2) as peer:
        seconds = peer.decode(tokens=32, context=0)

loads a model once, into a process that sleeps between the calls, so that two engines can take turns.
`gguf_models.py` writes the models, `llama_cpp_worker.py` is the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import venv
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from araio.errors import AraioError

VERSION = "0.3.36"  # of llama-cpp-python; it contains llama.cpp 0.5.0-dev with ggml 0.25.3
ENVIRONMENT = Path.home() / ".cache" / "araio" / "peers" / f"llama-cpp-{VERSION}"
PYTHON = ENVIRONMENT / "bin" / "python"
COMPLETE = ENVIRONMENT / "complete"  # made last, so an interrupted build does not count
# Weight repacking, OpenMP and llamafile's kernels are on by default. The server's parts are left out.
CMAKE_ARGS = "-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF"
BUILD_COMMAND = "python benchmarks/peers/llama_cpp.py build"
LAST_WORDS = 2000  # characters of the worker's stderr that an error repeats


class PeerError(AraioError):
    """llama.cpp that is not built, cannot load a model, or cannot do what it was asked."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["build"])
    parser.parse_args()
    try:
        build()
    except PeerError as error:
        parser.error(str(error))


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
    vocabulary   tokens that the model knows
    model_bytes  of all tensors
    system       the instruction sets and features that llama.cpp was built with

    Every method raises PeerError when llama.cpp fails. The first call of a kind, and each call that differs
    from the one before in more than its threads, also runs once unmeasured.
    """

    def __init__(self, gguf: Path, threads: int) -> None:
        if not COMPLETE.exists():
            raise PeerError(f"llama.cpp is not built ({ENVIRONMENT} is missing); run: {BUILD_COMMAND}")
        if not gguf.is_file():
            raise PeerError(f"{gguf} is missing; run: python benchmarks/peers/gguf_models.py")
        needed, free = gguf.stat().st_size, psutil.virtual_memory().available
        if needed > free:
            raise PeerError(
                f"{gguf} needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; end other "
                "programs, or let the engines take turns at loading"
            )
        self.threads = threads
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        # -P keeps this folder out of the worker's path: there `llama_cpp` must be the binding, not this file.
        worker = [str(PYTHON), "-P", str(Path(__file__).with_name("llama_cpp_worker.py"))]
        self._process = subprocess.Popen(
            worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True
        )
        try:
            model = self._ask(gguf=str(gguf))
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
        chosen: list[list[list[int]]] = self._ask(kind="experts", tokens=tokens, threads=self.threads)[
            "experts"
        ]
        return chosen

    def close(self) -> None:
        """End the process and free its memory."""
        self._process.kill()  # it has nothing to lose, and may be in the middle of loading
        self._process.communicate()
        self._stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _seconds(self, **plan: Any) -> float:
        seconds: float = self._ask(**plan, threads=self.threads)["seconds"]
        return seconds

    def _ask(self, **command: Any) -> dict[str, Any]:
        """Send one line and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"llama.cpp ended with status {self._process.wait()}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{answer['error']} {self._last_words()}".strip())
        return answer

    def _last_words(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - LAST_WORDS))
        return self._stderr.read().decode(errors="replace").strip()


if __name__ == "__main__":
    main()
