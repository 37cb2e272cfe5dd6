"""llama.cpp's `llama-server` as a peer of `araio serve`: built for this machine, and run on a free port.

    .venv/bin/python benchmarks/build_peer.py llama-server

builds it from the llama.cpp that the pinned source distribution of llama-cpp-python contains, with
-march=native and the options of `llama_cpp.py`. The distribution is all that is fetched: no web page for the
server, no TLS, no curl. It needs a C++ compiler and CMake, and takes 10 to 40 minutes. Then

    with LlamaServer(gguf, threads=2, slots=16, context=256) as peer:
        httpx2.post(f"{peer.url}/v1/completions", ...)

`server_process.py` has what servers share.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from peers.json_process import PeerError
from peers.llama_cpp import VERSION
from peers.server_process import ServerProcess

__all__ = ["PROGRAM", "LlamaServer"]

PROGRAM = Path.home() / ".cache" / "araio" / "peers" / f"llama-server-{VERSION}" / "llama-server"
BUILD_COMMAND = "python benchmarks/build_peer.py llama-server"
PACKAGE = "llama-cpp-python"
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",  # one file, which can be moved
    "GGML_NATIVE": "ON",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    # What the build would fetch otherwise.
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_CURL": "OFF",
    "FETCHCONTENT_FULLY_DISCONNECTED": "ON",
}


def build() -> None:
    """Build llama-server for this machine, unless that is done; raises PeerError."""
    if PROGRAM.exists():
        print(f"llama-server of {PACKAGE} {VERSION} is already at {PROGRAM}")
        return
    started = time.monotonic()
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    # Beside the program, for what is built takes a gigabyte, which /tmp may not have.
    with TemporaryDirectory(dir=PROGRAM.parent, prefix="building-") as name:
        folder = Path(name)
        _compile(_source(folder), folder / "build")
        built = folder / "build" / "bin" / PROGRAM.name
        if not built.exists():
            raise PeerError(f"the build ended without {built.name}; CMake says why above")
        shutil.move(built, PROGRAM)
    print(f"llama-server is at {PROGRAM}, after {time.monotonic() - started:.0f} s")


def _source(folder: Path) -> Path:
    """The source of llama.cpp, fetched by pip and unpacked into a folder."""
    fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--no-binary", PACKAGE]
    _run([*fetch, "--dest", str(folder), f"{PACKAGE}=={VERSION}"], "fetching the source distribution")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"


def _compile(source: Path, folder: Path) -> None:
    options = [f"-D{name}={value}" for name, value in OPTIONS.items()]
    _run(["cmake", "-S", str(source), "-B", str(folder), *options], "configuring llama.cpp")
    parallel = str(psutil.cpu_count() or 1)
    build = ["cmake", "--build", str(folder), "--target", PROGRAM.name, "--parallel", parallel]
    _run(build, "compiling llama.cpp")


def _run(command: Sequence[str], doing: str) -> None:
    try:
        status = subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise PeerError(f"{doing} needs {command[0]}, which is not installed") from None
    if status:
        raise PeerError(
            f"{doing} failed with status {status}, which the lines above explain; it needs a C++17 compiler, "
            "CMake, a network to fetch the source, and 2 GB of disk"
        )


class LlamaServer(ServerProcess):
    """A model behind llama-server.

    slots    requests at a time, batched as they come
    context  tokens of each, prompt and answer

    Raises PeerError where it is not built, or does not start.
    """

    def __init__(self, gguf: Path, threads: int, slots: int, context: int) -> None:
        if not PROGRAM.exists():
            raise PeerError(f"llama-server is not built ({PROGRAM} is missing); run: {BUILD_COMMAND}")
        if not gguf.is_file():
            raise PeerError(f"{gguf} is missing; benchmarks/serve.py writes it")
        count = str(threads)
        command = [str(PROGRAM), "--model", str(gguf), "--host", "127.0.0.1"]
        command += ["--threads", count, "--threads-batch", count]
        command += ["--parallel", str(slots), "--ctx-size", str(slots * context)]
        # Prompts that nobody sends again need not be kept, nor a page that nobody looks at.
        command += ["--cache-ram", "0", "--no-webui", "--offline"]
        super().__init__("llama-server", lambda port: [*command, "--port", str(port)])
