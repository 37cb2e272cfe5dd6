"""Installing where no compiler works: the package arrives all the same, computes, and says why it is slow."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Runs in the installed package: the choice of every operation, and one multiplication.
PROGRAM = """
import numpy as np
import araio.kernels.select
from araio.costs.grid import known_intensities
from araio.costs.prices import known_prices
from araio.disk.select import open_reader
selection = araio.kernels.select.select()
print(araio.kernels.select.__file__)
print({choice.backend for choice in selection.reasons.values()})
print(selection.reasons["experts"].reason)
print(selection.ops.linear(np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)).tolist())
print("DEU" in known_intensities(), "deepseek-r1" in known_prices())
print(type(open_reader()).__name__)
"""


@pytest.mark.slow
def test_the_package_installs_without_a_compiler_and_says_so(tmp_path: Path) -> None:
    pytest.importorskip("scikit_build_core")
    pytest.importorskip("nanobind")
    if shutil.which("cmake") is None:
        pytest.importorskip("cmake")  # a wheel, which the build backend finds without PATH
    target = tmp_path / "installed"
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    no_compiler = os.environ | {"CC": "/bin/false", "CXX": "/bin/false"}
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(ROOT)],
        env=no_compiler,
        check=True,
        timeout=300,
    )
    assert not list(target.rglob("*.so"))

    # -S: an editable install of this checkout hooks into imports by a .pth file, and would come first.
    path = os.pathsep.join((str(target), sysconfig.get_path("purelib")))
    environment = os.environ | {"PYTHONPATH": path, "ARAIO_KERNELS": "auto"}
    lines = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert lines[0].startswith(str(target))
    assert lines[1] == "{'reference'}"
    assert "install a C++17 compiler" in lines[2]
    assert lines[3] == "[[2.0, 2.0, 2.0]]"
    assert lines[4] == "True True"  # tables of data come along
    assert lines[5] == "PythonReader"
