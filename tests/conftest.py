"""Settings for every test.

Hypothesis draws the same examples each time, and never fails for being slow. Ctrl-C reaches the programs that
tests start, even where the tests themselves run in the background of a script, which ignores it. The log of
receipts and every cache lie in folders of the tests, for the programs that they start too.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import settings

from araio.costs.receipt import Joules, Receipt
from araio.costs.tariff import choose_tariff

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where state and caches go instead of the home of whoever runs the tests."""
    names = ("XDG_STATE_HOME", "XDG_CACHE_HOME")
    before = {name: os.environ.get(name) for name in names}
    for name in names:
        os.environ[name] = str(tmp_path_factory.mktemp(name.lower()))
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def make_receipt() -> Callable[..., Receipt]:
    """Makes a receipt of round numbers, some of them changed."""
    plain = Receipt(
        model="pocket",
        approximation=None,
        mask=None,
        prompt_tokens=20,
        cached_tokens=0,
        reasoning_tokens=9,
        answer_tokens=3,
        draft_tokens=0,
        accepted_draft_tokens=0,
        parameters_total=8_000_000,
        parameters_active=2_000_000,
        flops=128_000_000,
        dense_flops=512_000_000,
        memory_bytes=45_600_000,
        weight_bytes=45_000_000,
        streamed=None,
        queue_s=0.001,
        prefill_s=0.189,
        decode_s=0.11,
        joules=Joules(best=3.6, low=1.8, high=7.2, idle=1.0, method="model:tdp"),
        tariff=choose_tariff("pocket", "DEU", "none"),
    )
    return lambda **changes: replace(plain, **changes)
