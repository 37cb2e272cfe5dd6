"""The choice of backends, with and without compiled kernels."""

import pytest

from araio.errors import KernelError
from araio.kernels import native, reference
from araio.kernels.ops import OPERATIONS
from araio.kernels.select import Choice, select

ABSENT = native.Offer({}, "the compiled kernels are missing; install a compiler")


PRESENT = native.Offer(
    {name: getattr(native.CompiledOperations, name) for name in ("hold", *OPERATIONS)},
    "compiled for something",
)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARAIO_KERNELS", raising=False)


def test_auto_takes_every_operation_that_is_offered(monkeypatch) -> None:
    monkeypatch.setattr(native, "offer", lambda threads: PRESENT)
    selection = select()
    assert {name: getattr(selection.ops, name) for name in PRESENT.operations} == PRESENT.operations
    assert not selection.ops.wants_float32
    assert set(selection.reasons.values()) == {Choice("native", PRESENT.summary)}


def test_backends_are_never_mixed(monkeypatch) -> None:
    """A matrix that one of them holds would be of no use to another's operations."""
    part = native.Offer({"rms_norm": reference.rms_norm}, "half of a build")
    monkeypatch.setattr(native, "offer", lambda threads: part)
    with pytest.raises(TypeError, match="linear"):
        select()


def test_auto_without_a_compiled_module_says_why(monkeypatch) -> None:
    monkeypatch.setattr(native, "offer", lambda threads: ABSENT)
    selection = select("auto")
    assert selection.ops == reference.OPS
    assert {choice.reason for choice in selection.reasons.values()} == {ABSENT.summary}


def test_native_without_a_compiled_module_is_refused_with_the_reason(monkeypatch) -> None:
    monkeypatch.setattr(native, "offer", lambda threads: ABSENT)
    with pytest.raises(KernelError, match="install a compiler"):
        select("native")


def test_reference_never_looks_for_a_compiled_module(monkeypatch) -> None:
    monkeypatch.delattr(native, "offer")
    assert select("reference").ops == reference.OPS


def test_every_operation_has_a_reason() -> None:
    assert set(select().reasons) == set(OPERATIONS)


def test_the_environment_chooses_where_the_caller_does_not(monkeypatch) -> None:
    monkeypatch.setattr(native, "offer", lambda threads: PRESENT)
    monkeypatch.setenv("ARAIO_KERNELS", "reference")
    assert select().ops == reference.OPS
    assert select("auto").ops.rms_norm is PRESENT.operations["rms_norm"]


def test_the_number_of_threads_reaches_the_compiled_operations(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(native, "offer", lambda threads: asked.append(threads) or PRESENT)
    select()
    select("native", 3)
    assert asked == [None, 3]


def test_an_unknown_backend_is_refused_with_the_known_ones(monkeypatch) -> None:
    monkeypatch.setenv("ARAIO_KERNELS", "natve")
    with pytest.raises(KernelError, match=r"'natve'.*auto, native, reference"):
        select()
