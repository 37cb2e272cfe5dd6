"""The file of a profile: what it holds, and what is refused with a reason."""

import json
from dataclasses import replace

import numpy as np
import pytest

from araio.errors import ProfileError
from araio.expert_profile import ExpertProfile, ProfiledModel
from araio.testing.checkpoints import tiny_config
from araio.testing.profiles import profile_of

V3 = tiny_config("v3")  # 16 experts in 4 groups, of which 2 win; 4 a token; layers 1 and 2
KEEP = [0, 1, 3, 4, 6, 8, 11, 12, 15]


def written(tmp_path, document):
    path = tmp_path / "math.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_file_gives_back_what_was_saved(tmp_path):
    profile = profile_of(
        V3,
        KEEP,
        mtp=[0, 1, 4, 5, 8, 9],
        method={"score": "easy", "keep": 0.5},
        calibration={"sequences": 3, "tokens": 900, "sources": ["task:chain"]},
        scores={1: [0.25] * 16, 2: [1.5] * 16},
        evaluation={"kl": {"mean": 0.01}},
    )
    profile.save(tmp_path / "math.json")
    assert ExpertProfile.from_file(tmp_path / "math.json") == profile
    assert profile.experts == 2 * len(KEEP)


def test_arrays_of_habits_come_back_to_the_last_bit(tmp_path):
    habits = {"rates": np.random.default_rng(0).random((2, 16), np.float32), "none": np.zeros((0, 3), "f4")}
    profile = replace(profile_of(V3, KEEP), habits=habits)
    profile.save(tmp_path / "math.json")
    read = ExpertProfile.from_file(tmp_path / "math.json").habits
    assert list(read) == list(habits)
    for name, array in habits.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([1.0], "habits"),
        ({"shape": [1]}, "habits.rates is no array"),
        ({"shape": [1], "float32": "?"}, "habits.rates.float32 is no base64"),
        (
            {"shape": [2], "float32": "AAAAAA=="},
            r"habits.rates has 4 bytes; expected 4 for each number of \[2\]",
        ),
        ({"shape": [-1], "float32": ""}, "shape"),
        ({"shape": [1], "float32": "AADAfw=="}, "habits.rates holds what is no number"),
    ],
)
def test_arrays_that_are_damaged_are_refused(tmp_path, entry, message):
    document = profile_of(V3, KEEP).to_json() | {"habits": {"rates": entry}}
    with pytest.raises(ProfileError, match=message):
        ExpertProfile.from_file(written(tmp_path, document))


def test_ids_of_numpy_are_saved_as_well(tmp_path):
    keep = {np.int64(layer): np.array(KEEP) for layer in V3.moe_layers}
    profile = replace(profile_of(V3, KEEP), keep=keep, scores={1: np.ones(16, np.float32)})
    profile.save(tmp_path / "math.json")
    read = ExpertProfile.from_file(tmp_path / "math.json")
    assert read.keep == profile_of(V3, KEEP).keep
    assert read.scores == {1: (1.0,) * 16}


def test_the_id_is_of_what_is_kept_and_of_nothing_else():
    profile = profile_of(V3, KEEP)
    assert profile.id == profile_of(V3, KEEP, name="other", mtp=range(16), method={"score": "reap"}).id
    assert profile.id != profile_of(V3, [*KEEP[:-1], 14]).id
    assert profile.id != profile_of(V3, {1: KEEP, 2: range(16)}).id
    assert len(profile.id) == 16


@pytest.mark.parametrize(
    ("keep", "mtp", "expected"),
    [
        ([0, 2, 4, 5, 9, 10, 12, 15], None, True),
        ([0, 2, 4, 5, 9, 10, 12, 15], [0, 1, 4, 5, 8, 9, 12, 13], True),
        ([0, 2, 4, 5, 9, 10, 12, 15], range(16), False),
        ([0, 2, 3, 4, 5, 9, 10, 12, 15], None, False),
        ({1: [0, 2, 4, 5, 9, 10, 12, 15], 2: range(16)}, None, False),
    ],
)
def test_uniform_is_as_many_in_every_group_of_every_layer(keep, mtp, expected):
    assert profile_of(V3, keep, mtp=mtp).is_uniform is expected


def test_its_own_model_is_not_refused():
    profile_of(V3, KEEP).check(V3, "f" * 64)
    profile_of(V3, KEEP).check(V3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_experts_per_tok": 2}, "num_experts_per_tok = 4; this model has 2"),
        ({"n_group": 2}, "n_group = 4; this model has 2"),
        ({"n_routed_experts": 32}, "n_routed_experts = 16; this model has 32"),
        ({"num_hidden_layers": 4}, r"layers = \(1, 2\); this model has \(1, 2, 3\)"),
    ],
)
def test_a_model_of_another_shape_is_refused(change, message):
    with pytest.raises(ProfileError, match=message):
        profile_of(V3, KEEP).check(tiny_config("v3", **change), "0" * 64)


def test_a_model_with_other_routers_is_refused():
    with pytest.raises(ProfileError, match="profile 'math': was made for tiny, whose fingerprint"):
        profile_of(V3, KEEP).check(V3, "0" * 64)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({1: KEEP}, r"keeps experts of layers \[1\]; the model routes in \[1, 2\]"),
        ({1: KEEP, 2: KEEP, 3: KEEP}, "keeps experts of layers"),
        ([0, 1, 2, 16], r"layer 1 keeps experts \[16\]; the model has 0 to 15"),
        ([-1, 0, 1, 2, 3], r"layer 1 keeps experts \[-1\]"),
        ({1: KEEP, 2: [3, 1, 0, 2]}, "layer 2 keeps .*; expected ascending ids, each once"),
        ({1: KEEP, 2: [0, 1, 1, 2, 3]}, "expected ascending ids, each once"),
        ({1: KEEP, 2: [0, 1, 2]}, "layer 2 keeps 3 experts; each token needs 4"),
    ],
)
def test_ids_that_cannot_be_are_refused(keep, message):
    with pytest.raises(ProfileError, match=message):
        profile_of(V3, keep)


def test_other_parts_that_do_not_fit_are_refused():
    with pytest.raises(ProfileError, match="mtp keeps 1 experts; each token needs 4"):
        profile_of(V3, KEEP, mtp=[3])
    with pytest.raises(ProfileError, match="layer 2 has 3 scores; expected 16"):
        profile_of(V3, KEEP, scores={2: [1.0, 2.0, 3.0]})
    with pytest.raises(ProfileError, match=r"name is 'a/b'; expected up to 64 letters"):
        profile_of(V3, KEEP, name="a/b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "araio-trace"}, "format is 'araio-trace'; expected araio-profile"),
        ({"version": 2}, "version is 2; expected an integer from 1 to 1"),
        ({"name": 7}, "name is 7; expected a text"),
        ({"model": []}, r"model is \[\]; expected an object"),
        ({"keep": {"1": "all", "2": KEEP}}, "keep.1 is 'all'; expected a list of numbers"),
        ({"keep": {"1": [True] * 4, "2": KEEP}}, "keep.1 is"),
        ({"keep": {"one": KEEP}}, "keep has the key 'one'; expected numbers of layers"),
        ({"keep": {"1": KEEP}}, "keeps experts of layers"),
        ({"mtp": "none"}, "mtp is 'none'; expected a list of numbers"),
        ({"scores": {"1": ["high"]}}, "scores.1 is"),
        ({"pruned": True}, "the key 'pruned'"),
        ({"model": None}, "model is None; expected an object"),
    ],
)
def test_a_malformed_file_is_refused_by_its_name_and_key(tmp_path, change, message):
    path = written(tmp_path, profile_of(V3, KEEP).to_json() | change)
    with pytest.raises(ProfileError, match=message) as refusal:
        ExpertProfile.from_file(path)
    assert str(refusal.value).startswith(f"{path}: ")


@pytest.mark.parametrize("key", ["name", "fingerprint", "n_routed_experts", "n_group", "layers"])
def test_a_file_whose_model_lacks_a_part_is_refused(tmp_path, key):
    document = profile_of(V3, KEEP).to_json()
    del document["model"][key]
    with pytest.raises(ProfileError):
        ExpertProfile.from_file(written(tmp_path, document))


def test_groups_that_do_not_divide_the_experts_are_refused(tmp_path):
    document = profile_of(V3, KEEP).to_json()
    document["model"]["n_group"] = 3
    with pytest.raises(
        ProfileError, match=r"model.n_group is 3; expected a divisor of n_routed_experts = 16"
    ):
        ExpertProfile.from_file(written(tmp_path, document))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": NaN}', "[" * 5000])
def test_what_is_no_profile_is_refused(tmp_path, content):
    with pytest.raises(ProfileError):
        ExpertProfile.from_file(written(tmp_path, content))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ProfileError, match="cannot be read"):
        ExpertProfile.from_file(tmp_path / "none.json")


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ProfileError, match="cannot be written"):
        profile_of(V3, KEEP).save(tmp_path / "none" / "math.json")


def test_the_model_of_a_config():
    model = ProfiledModel.of("tiny", V3, "f" * 64)
    assert (model.n_routed_experts, model.num_experts_per_tok, model.n_group, model.topk_group) == (
        16,
        4,
        4,
        2,
    )
    assert model.layers == (1, 2)
    assert model.group_counts(KEEP) == [3, 2, 2, 2]
