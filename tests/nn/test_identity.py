"""What changes a model's fingerprint, and what does not."""

import dataclasses
import shutil

import numpy as np
import pytest

import araio
from araio.formats.store_layout import StoreCodecs
from araio.kernels.select import select
from araio.nn.identity import router_fingerprint
from araio.testing.checkpoints import write_tiny_checkpoint
from araio.weights.convert import convert
from araio.weights.load import load_model


@pytest.fixture(scope="module", params=["v2", "v3"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity") / "tiny"
    write_tiny_checkpoint(folder, request.param)
    return folder


def test_a_copy_and_a_store_have_the_same_routers(folder, tmp_path):
    expected = router_fingerprint(load_model(folder))
    shutil.copytree(folder, tmp_path / "copy")
    convert(folder, tmp_path / "store", StoreCodecs("q8", "bf16", "bf16"))
    assert router_fingerprint(load_model(tmp_path / "copy")) == expected
    assert router_fingerprint(load_model(tmp_path / "store")) == expected
    assert len(expected) == 64


def test_every_backend_sees_the_same_routers(folder, monkeypatch):
    model = load_model(folder)
    monkeypatch.setenv("ARAIO_KERNELS", "reference")
    assert router_fingerprint(load_model(folder, select().ops)) == router_fingerprint(model)


def test_another_weight_or_bias_or_rule_is_another_model(folder):
    model = load_model(folder)
    before = router_fingerprint(model)
    router = next(r for r in model.routers if r.layer in model.config.moe_layers)
    weight = model.ops.embed(np.arange(model.config.n_routed_experts), router.weight)
    held, router.weight = router.weight, model.ops.hold(np.nextafter(weight, np.float32(9)))
    assert router_fingerprint(model) != before
    router.weight = held
    assert router_fingerprint(model) == before
    if router.e_score_correction_bias is not None:
        router.e_score_correction_bias = router.e_score_correction_bias + np.float32(0.5)
        assert router_fingerprint(model) != before
    other = dataclasses.replace(model, config=dataclasses.replace(model.config, routed_scaling_factor=1.25))
    assert router_fingerprint(other) != router_fingerprint(model)


def test_a_loaded_model_knows_its_fingerprint(folder):
    model = araio.load(folder)
    assert model.fingerprint == router_fingerprint(model.network)


def test_a_model_without_experts_has_one_too(tmp_path):
    write_tiny_checkpoint(tmp_path / "dense", "v2", n_routed_experts=None, n_shared_experts=None)
    assert len(router_fingerprint(load_model(tmp_path / "dense"))) == 64
