"""The compiled operations for tests: at every vector width this CPU has, on any number of threads."""

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from araio.kernels.native import CompiledOperations

try:
    from araio.kernels import _native as compiled
except ImportError:
    compiled = None

ISAS = compiled.isas() if compiled else []


@pytest.fixture(scope="session")
def extension() -> ModuleType:
    """The compiled module; tests that need it are skipped where it was not built."""
    if compiled is None:
        pytest.skip("the compiled kernels are not built")
    return compiled


@pytest.fixture(scope="module", params=ISAS)
def on_threads(request: pytest.FixtureRequest) -> Iterator[Callable[[int], CompiledOperations]]:
    """The operations of one vector width, on as many threads as a test asks for."""
    before, operations = compiled.threads(), CompiledOperations(compiled, request.param)

    def chosen(threads: int) -> CompiledOperations:
        if threads != compiled.threads():
            compiled.set_threads(threads, worth_sharing=0)
        return operations

    yield chosen
    compiled.set_threads(before)


@pytest.fixture
def ours(on_threads: Callable[[int], CompiledOperations]) -> CompiledOperations:
    """The operations of one vector width, on two threads."""
    return on_threads(2)
