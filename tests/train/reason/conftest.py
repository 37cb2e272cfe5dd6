"""A tiny model with its tokenizer, as both trainer and engine have it, and problems to ask it."""

from dataclasses import replace

import pytest
import torch

from araio.kernels.select import select
from araio.meters.meter import choose_meter
from araio.train.data import Encoder
from araio.train.model import SparseModel
from araio.train.reason.problems import Problems


@pytest.fixture(params=["native", "reference"])
def ops(request):
    return select(request.param, threads=1).ops if request.param == "native" else select("reference").ops


@pytest.fixture(scope="session")
def meter():
    return choose_meter()


@pytest.fixture
def encoder(tokenizer):
    return Encoder(tokenizer)


@pytest.fixture
def model(tiny_recipe, tokenizer):
    """Random weights that are large enough for tokens to differ in what they choose."""
    made = SparseModel(replace(tiny_recipe.model, vocab_size=400))
    made.initialise(torch.Generator().manual_seed(1), std=0.25)
    with torch.no_grad():
        for router in made.routers():
            router.e_score_correction_bias.uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(2))
    return made


@pytest.fixture
def problems(encoder):
    return Problems(encoder, {"chain": 1.0, "letters": 1.0}, {"order": 1.0}, longest=300)
