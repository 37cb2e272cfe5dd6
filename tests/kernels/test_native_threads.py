"""The thread pool: callers side by side, forks, changes of size, more threads than processors, failures."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from araio import kernels
from araio.kernels.ops import FeedForward

pytestmark = pytest.mark.native


@pytest.fixture
def work(on_threads):
    """An operation of several items of work, and what it gives on one thread."""
    rng = np.random.default_rng(0)
    ours = on_threads(1)
    x = rng.standard_normal((3, 300), dtype=np.float32)
    shapes = ((700, 300), (700, 300), (300, 700))
    layer = FeedForward(*(ours.hold(rng.standard_normal(shape, dtype=np.float32)) for shape in shapes))
    return lambda: ours.swiglu(x, layer), ours.swiglu(x, layer)


@pytest.mark.parametrize("threads", [2, 8])
def test_many_calls_one_after_the_other_are_all_right(on_threads, work, threads: int) -> None:
    run, expected = work
    on_threads(threads)
    for _ in range(100):
        np.testing.assert_array_equal(run(), expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_callers_side_by_side_get_their_own_answers(on_threads, work, threads: int) -> None:
    run, expected = work
    on_threads(threads)
    with ThreadPoolExecutor(4) as callers:
        for y in callers.map(lambda _: run(), range(40)):
            np.testing.assert_array_equal(y, expected)


def test_the_number_of_threads_may_change_between_and_during_calls(extension, on_threads, work) -> None:
    run, expected = work
    with ThreadPoolExecutor(2) as callers:
        answers = [callers.submit(run) for _ in range(40)]
        for threads in (1, 3, 2, 4, 1, 2):
            extension.set_threads(threads)
            np.testing.assert_array_equal(run(), expected)
        for answer in answers:
            np.testing.assert_array_equal(answer.result(), expected)


FORK = """
import os, sys
import numpy as np
from araio.kernels import native

isa, = sys.argv[1:]
os.environ["ARAIO_CPU_ISA"] = isa
operations = native.offer(3).operations
x, weight = np.ones((2, 500), np.float32), operations["hold"](np.ones((2000, 500), np.float32))

def is_right():
    return bool((operations["linear"](x, weight) == 500).all())

assert is_right()
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if is_right() and is_right() else 1)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
assert is_right()
native.offer(2)
print(statuses)
"""


def test_a_child_of_a_fork_computes_with_threads_of_its_own(extension) -> None:
    for isa in extension.isas():
        command = [sys.executable, "-c", FORK, isa]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        assert done.stdout.strip() == "[0, 0, 0]"


def test_the_process_ends_while_workers_watch(extension) -> None:
    program = FORK.split("children = []")[0]
    for _ in range(3):
        subprocess.run([sys.executable, "-c", program, extension.isas()[0]], timeout=300, check=True)


def test_items_that_throw_and_threads_that_cannot_be_started_are_survived(tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    csrc, program = Path(kernels.__file__).parent / "csrc", tmp_path / "failures"
    source = Path(__file__).with_name("thread_pool_failures.cpp")
    options = ["-std=c++17", "-O1", "-pthread", f"-I{csrc}", *os.environ.get("CXXFLAGS", "").split()]
    command = [compiler, *options, source, csrc / "thread_pool.cpp", "-o", program, "-ldl"]
    subprocess.run(command, check=True, timeout=300)
    subprocess.run([program], check=True, timeout=300)
