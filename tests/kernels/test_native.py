"""Which compiled operations are offered, and what is said when they are not."""

import importlib

import numpy as np
import pytest

from araio.errors import KernelError
from araio.kernels import native
from araio.kernels.ops import OPERATIONS

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("_threads_as_before")]


@pytest.fixture
def _threads_as_before(extension, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ARAIO_CPU_ISA", raising=False)
    monkeypatch.delenv("ARAIO_THREADS", raising=False)
    before = extension.threads()
    yield
    extension.set_threads(before)


def test_every_operation_is_offered() -> None:
    assert set(native.offer().operations) == {"hold", *OPERATIONS}


def test_the_widest_instruction_set_is_taken_unless_another_is_asked_for(extension, monkeypatch) -> None:
    assert extension.isas()[0] in native.offer().summary
    assert extension.isas()[-1] == "baseline"
    monkeypatch.setenv("ARAIO_CPU_ISA", "baseline")
    assert "baseline" in native.offer().summary


def test_an_unknown_instruction_set_is_refused(extension, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARAIO_CPU_ISA", "avx9000")
    with pytest.raises(KernelError, match=r"avx9000.*baseline"):
        native.offer()
    with pytest.raises(ValueError, match="avx9000"):
        extension.operations("avx9000")


def test_threads_come_from_the_caller_or_the_environment(extension, monkeypatch) -> None:
    monkeypatch.setenv("ARAIO_THREADS", "3")
    assert native.offer().summary.endswith("3 threads")
    assert native.offer(1).summary.endswith("1 thread")
    assert extension.threads() == 1


@pytest.mark.parametrize("text", ["0", "-1", "two", "1025", "1.5", "²"])
def test_a_number_of_threads_that_cannot_be_is_refused(text: str, monkeypatch) -> None:
    monkeypatch.setenv("ARAIO_THREADS", text)
    with pytest.raises(KernelError, match=r"ARAIO_THREADS is .*auto or a number"):
        native.offer()


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_the_module_itself_refuses_such_numbers(extension, threads: int) -> None:
    with pytest.raises(ValueError, match="threads must be"):
        extension.set_threads(threads)
    with pytest.raises(KernelError, match="threads is"):
        native.offer(threads)


def test_a_module_that_cannot_be_loaded_is_a_reason_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError("libstdc++.so.6: version not found")

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert not native.offer().operations
    assert "version not found" in native.offer().summary


@pytest.mark.parametrize("bad", ["float64", "transposed", "strided", "three"])
def test_arrays_of_another_type_or_layout_are_refused(extension, bad: str) -> None:
    x = np.ones((2, 8), np.float32)
    wrong = {"float64": x.astype(np.float64), "transposed": x.T, "strided": x[:, ::2], "three": x[None]}[bad]
    weight, y = np.ones(wrong.shape[-1], np.float32), np.ones(wrong.shape, np.float32)
    for isa in extension.isas():
        with pytest.raises(TypeError):
            extension.operations(isa).rms_norm(wrong, weight, 1e-6, y)
