"""MODEL to folder or config, and what an error says when there is none."""

from __future__ import annotations

import shutil

import pytest

from araio.errors import ConfigError, ModelNotFoundError
from araio.weights.locate import BUNDLED, PRESETS, locate, locate_config


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_config(folder):
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PRESETS["deepseek-v2-lite"], folder / "config.json")
    return folder


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_a_config_and_no_folder(here, name):
    assert locate_config(name).num_hidden_layers > 0
    with pytest.raises(ModelNotFoundError, match=f"`araio show {name}`.*download"):
        locate(name)


def test_a_folder(here):
    folder = with_config(here / "mine")
    assert locate("mine").resolve() == folder
    assert locate_config("mine").hidden_size == 2048
    assert locate_config("mine/config.json").hidden_size == 2048


def test_a_folder_in_the_home(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    folder = with_config(here / "mine")
    assert locate("~/mine") == folder


def test_a_folder_comes_before_a_preset(here):
    with_config(here / "deepseek-r1")
    assert locate_config("deepseek-r1").hidden_size == 2048


def test_a_bundled_model_comes_before_a_folder(here, monkeypatch):
    bundled = with_config(here / "bundle")
    monkeypatch.setitem(BUNDLED, "pocket", bundled)
    mine = with_config(here / "pocket")
    assert locate("pocket") == bundled
    assert locate("./pocket").resolve() == mine


def test_a_bundled_model_that_is_missing(here, monkeypatch):
    monkeypatch.setitem(BUNDLED, "pocket", here / "nowhere")
    for find in (locate, locate_config):
        with pytest.raises(ModelNotFoundError, match=r"missing from this installation.*nowhere"):
            find("pocket")


@pytest.mark.parametrize("found", ["outer", "outer/inner/below", "outer/inner/snapshots/0123"])
def test_a_config_one_level_away(here, found):
    (here / "outer" / "inner").mkdir(parents=True)
    near = with_config(here / found)
    with pytest.raises(ModelNotFoundError, match=r"inner has no config\.json") as caught:
        locate("outer/inner")
    assert str(near.relative_to(here)) in str(caught.value)


def test_a_folder_without_any_config(here):
    (here / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"empty has no config\.json; a model's folder holds"):
        locate_config("empty")


def test_a_file(here):
    (here / "model.gguf").write_bytes(b"GGUF")
    for find in (locate, locate_config):
        with pytest.raises(ModelNotFoundError, match=r"model\.gguf is .*give the folder that holds"):
            find("model.gguf")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("pockett", "pocket"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-r1"),
        ("deepseek-v2-light", "deepseek-v2-lite"),
        ("moonshotai/Moonlight-16B-A3B", "moonlight-16b-a3b"),
    ],
)
def test_near_names(here, name, near):
    with pytest.raises(ModelNotFoundError, match=rf"did you mean {near}\?"):
        locate_config(name)


def test_a_name_near_nothing_lists_what_is_known(here):
    with pytest.raises(ModelNotFoundError, match=r"known: pocket, deepseek-r1, .*nothing is downloaded"):
        locate_config("zzz")


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000, "~nobody-has-this-name/x", "\ud800"])
def test_names_that_are_no_paths(here, name):
    for find in (locate, locate_config):
        with pytest.raises(ModelNotFoundError) as caught:
            find(name)
        assert len(str(caught.value)) < 400


def test_a_config_that_is_not_supported(here):
    (here / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match=r"config\.json: model_type is 'llama'"):
        locate_config(str(here))


def test_a_name_as_long_as_the_system_allows_is_only_unknown(here):
    for find in (locate, locate_config):
        with pytest.raises(ModelNotFoundError, match="is called 'nnn"):
            find("n" * 255)
