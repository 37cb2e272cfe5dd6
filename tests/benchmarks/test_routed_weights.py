"""Weights that route as a text: the choices of a real model are those that the routes intend."""

from dataclasses import replace

import numpy as np
import pytest
from random_store import kept_store, write_store
from routed_weights import EMBEDDING_RMS, RoutedWeights, Text, fitted_to, random_q4
from stream_models import small, stream_weights
from stream_turns import agreement

from araio.codecs import codec
from araio.codecs.integers import unpack_rows
from araio.config import ModelConfig
from araio.errors import AraioError
from araio.formats.store import Store
from araio.formats.store_check import check_store
from araio.kernels.select import select
from araio.nn.batch import Routes, Segment
from araio.nn.kv_cache import LatentCache
from araio.nn.model import Model
from araio.testing.routes import FITTED, UNIFORM, overlap, union
from araio.weights.build import ModelBuilder

TOKENS = 128


@pytest.fixture(scope="module")
def weights() -> RoutedWeights:
    return stream_weights("small")


@pytest.fixture(scope="module")
def model(weights: RoutedWeights) -> Model:
    return ModelBuilder(weights, weights.config, select().ops, widens=False).model()


def chosen(model: Model, ids: np.ndarray) -> np.ndarray:
    routes = Routes()
    model.step([Segment(ids, LatentCache(model.new_pool(len(ids))), absorbed=False)], routes)
    return np.stack(routes.ids, axis=1)


@pytest.mark.parametrize("text", ["fitted", "uniform", "domains"])
def test_a_model_chooses_what_its_embeddings_intend(weights, model, text: str) -> None:
    routes = chosen(model, weights.ids(text)[:TOKENS])
    assert agreement(routes, weights.intended(text, slice(TOKENS))) > 0.9


@pytest.mark.parametrize("text", ["fitted", "domains"])
def test_and_what_the_recipe_says_up_to_its_noise(weights, model, text: str) -> None:
    routes = chosen(model, weights.ids(text)[:TOKENS])
    place = [one.name for one in weights.texts].index(text)
    wanted = weights.made[place].routes[:TOKENS].astype(np.int64)
    assert agreement(routes, wanted) > 0.8
    assert overlap(routes) == pytest.approx(overlap(wanted), abs=0.03)
    assert union(routes, 16) == pytest.approx(union(wanted, 16), abs=2)


def test_a_uniform_text_has_no_locality(weights, model) -> None:
    routes = chosen(model, weights.ids("uniform")[:TOKENS])
    assert overlap(routes) == pytest.approx(6 / 64, abs=0.02)
    assert union(routes, 16) == pytest.approx(64 * (1 - (1 - 6 / 64) ** 16), abs=1.5)


def test_texts_have_ids_of_their_own(weights) -> None:
    ids = np.concatenate([weights.ids(text.name) for text in weights.texts])
    assert ids.tolist() == list(range(len(ids)))


def test_embeddings_are_large_and_of_one_size(weights) -> None:
    table = codec("q4").decode(weights.read_weight("model.embed_tokens.weight"))
    assert np.sqrt(np.mean(table**2, axis=1)) == pytest.approx(EMBEDDING_RMS, rel=0.2)


def test_a_tensor_is_the_same_in_pieces(weights, monkeypatch) -> None:
    pieces = list(weights.pieces("lm_head.weight"))
    whole = weights.read_weight("lm_head.weight")
    assert np.array_equal(np.concatenate([piece[0] for piece in pieces]), whole.data)
    assert np.array_equal(whole.data, weights.read_weight("lm_head.weight").data)


def test_random_integers_have_no_mean_and_the_size_asked_for() -> None:
    weight = random_q4((256, 512), 0.02, np.random.Generator(np.random.SFC64(0)))
    values = codec("q4").decode(weight)
    assert np.sqrt(np.mean(values**2)) == pytest.approx(0.02, rel=0.02)
    assert abs(values.mean()) < 0.002
    _, scales = unpack_rows(weight, np.arange(256))
    bands = scales.reshape(8, 32, 16)
    assert (bands == bands[:, :1]).all()
    with pytest.raises(AraioError, match="10 x 32 has no whole tiles"):
        random_q4((10, 32), 1, np.random.default_rng(0))


def test_what_does_not_fit_is_refused() -> None:
    config = small()
    fitted = fitted_to(config, FITTED)
    with pytest.raises(
        AraioError, match=r"has \(layers, experts, chosen\) \(26, 64, 6\); the model has \(4, 64, 6\)"
    ):
        RoutedWeights(config, [Text("a", FITTED, 64, 0)])
    with pytest.raises(AraioError, match="has 65 tokens; take a multiple of 32"):
        RoutedWeights(config, [Text("a", fitted, 65, 0)])
    with pytest.raises(AraioError, match="more tokens than a vocabulary of 4096"):
        RoutedWeights(config, [Text("a", fitted, 4128, 0)])
    with pytest.raises(AraioError, match="share its noise"):
        RoutedWeights(config, [Text("a", fitted, 64, 0), Text("b", replace(fitted, noise=0), 64, 0)])
    narrow = replace(config, hidden_size=32)
    with pytest.raises(AraioError, match="latent numbers do not fit into a hidden size of 32"):
        RoutedWeights(narrow, [Text("a", fitted, 64, 0)]).read_weight("model.embed_tokens.weight")


# ---------------------------------------------------------------------- stores of them


@pytest.fixture
def tiny() -> RoutedWeights:
    config = replace(small(), vocab_size=256, n_routed_experts=8, num_experts_per_tok=2, num_hidden_layers=3)
    return RoutedWeights(config, [Text("uniform", fitted_to(config, UNIFORM), 64, 0)])


def test_a_store_is_whole_and_holds_the_weights(tmp_path, tiny) -> None:
    folder = kept_store(tiny, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    with Store(folder, ModelConfig.from_file(folder)) as store:
        check_store(store)
        for name in ("lm_head.weight", "model.layers.2.mlp.experts.3.down_proj.weight"):
            ours, theirs = tiny.read_weight(name), store.read_weight(name)
            assert np.array_equal(ours.data, theirs.data)
            assert np.array_equal(ours.scale, theirs.scale)


def test_layers_with_the_same_experts_share_the_disk(tmp_path, tiny) -> None:
    write_store(tiny, tmp_path / "store", same_experts=True)
    with Store(tmp_path / "store", tiny.config) as store:
        check_store(store)
    files = sorted(tmp_path.glob("store/experts-*"))
    assert len(files) == 2
    assert len({file.stat().st_ino for file in files}) == 1


def test_a_store_of_other_weights_is_refused(tmp_path, tiny) -> None:
    kept_store(tiny, tmp_path / "store")
    other = RoutedWeights(tiny.config, tiny.texts, seed=1)
    with pytest.raises(AraioError, match="holds other weights than are wanted now; delete it"):
        kept_store(other, tmp_path / "store")


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path, tiny, monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with pytest.raises(AraioError, match=r"store needs 0\.0 GB, and its disk has 0\.0 GB left"):
        kept_store(tiny, tmp_path / "store")
    assert not list(tmp_path.iterdir())
