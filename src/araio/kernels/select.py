"""`select`: the only place where a backend is chosen, once, at load, with a reason for every operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from araio import env
from araio.errors import KernelError
from araio.kernels import native, reference
from araio.kernels.ops import OPERATIONS, Ops

__all__ = ["BACKENDS", "Choice", "Selection", "select"]

BACKENDS = ("auto", "native", "reference")


@dataclass(frozen=True)
class Choice:
    """Which backend runs one operation, and why."""

    backend: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """The table of operations for a model, and the choice behind each, by the operation's name.

    threads  of the compiled operations; None where there are none, and NumPy uses its own
    """

    ops: Ops
    reasons: Mapping[str, Choice]
    threads: int | None


def select(backend: str | None = None, threads: int | None = None) -> Selection:
    """Bind every operation to the best backend on this machine.

    backend  `auto` takes the compiled operations where they exist; `native` insists on them; `reference`
             uses NumPy alone; None reads `ARAIO_KERNELS`
    threads  that the compiled operations work with from now on, in the whole process; None reads
             `ARAIO_THREADS`

    Raises:
        KernelError: an unknown backend, `native` where the compiled kernels cannot be loaded, or a number
            of threads that cannot be.
    """
    asked = backend if backend is not None else env.get("ARAIO_KERNELS")
    if asked not in BACKENDS:
        raise KernelError(f"kernel backend {asked!r} is unknown; choose one of {', '.join(BACKENDS)}")
    if asked == "reference":
        return _bind(native.Offer({}, "reference was asked for"))
    offer = native.offer(threads)
    if asked == "native" and not offer.operations:
        raise KernelError(f"kernel backend 'native' was asked for, but {offer.summary}")
    return _bind(offer)


def _bind(offer: native.Offer) -> Selection:
    """All operations of one backend: a matrix is of use only to the one that holds it."""
    if offer.operations:
        ops = Ops(wants_float32=False, fp8_columns=native.FP8_COLUMNS, **offer.operations)
        backend = "native"
    else:
        ops, backend = reference.OPS, "reference"
    return Selection(ops, dict.fromkeys(OPERATIONS, Choice(backend, offer.summary)), offer.threads)
