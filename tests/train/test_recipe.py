"""Recipes: what is read, what is refused and how the refusal names it, and the learning rate by hand."""

from pathlib import Path

import pytest

from araio.config import ModelConfig
from araio.errors import RecipeError
from araio.train.recipe import Recipe, Stage
from araio.weights.locate import locate

TINY = Path(__file__).with_name("tiny.toml")
SHIPPED = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))

MISTAKES = {
    "unknown key": ("seed = 3", "sead = 3", "sead is not a key of a recipe; known here: name, model"),
    "unknown key of a stage": ("rows = 2\nsequence_length = 192", "row = 2", r"stages[0].row is not a key"),
    "unknown key of the model": (
        "hidden_size = 32",
        "hidden_size = 8\nhidden_sise = 32",
        "the key 'hidden_sise'",
    ),
    "unknown key of the optimizer": ('name = "muon"', "speed = 1", "optimizer.speed is not a key"),
    "missing name": ('name = "tiny"', "", "name is missing"),
    "missing key of a stage": ("steps = 3\nrows", "rows", "stages[1].steps is missing"),
    "missing key of the model": ("kv_lora_rank = 16", "", "[model] kv_lora_rank"),
    "no model": ("[model]", "[models]", "[model] is missing"),
    "text for a number": ("seed = 3", 'seed = "3"', "seed is '3'; expected int"),
    "fraction for an integer": ("steps = 7", "steps = 7.5", "stages[0].steps is 7.5; expected int"),
    "truth for a number": ("steps = 7", "steps = true", "stages[0].steps is True"),
    "list for a table": ("mix = { chain = 1.0 }", "mix = [1]", "stages[0].mix is [1]; expected dict"),
    "table for a list": ('[optimizer]\nname = "muon"', "optimizer = 3", "optimizer"),
    "not a number": (
        "learning_rate = 3e-3\nmix",
        "learning_rate = nan\nmix",
        "learning_rate is nan; expected above 0 and below 1",
    ),
    "not a number at the end": (
        "= 3e-4",
        "= nan",
        "stage 'both': final_learning_rate is nan; expected 0 to below 1",
    ),
    "not a share": ("letters = 1.0", "letters = nan", "mix.letters is nan"),
    "true as a share": ("letters = 1.0", "letters = true", "mix.letters is True"),
    "infinite share": ("letters = 1.0", "letters = inf", "mix.letters is inf"),
    "negative share": ("letters = 1.0", "letters = -1", "mix.letters is -1"),
    "no share at all": ("mix = { chain = 1.0 }", "mix = {}", "at least one family above 0"),
    "not a number in the model": ("routed_scaling_factor = 1.0", "routed_scaling_factor = nan", "[model]"),
    "unknown family": ("letters = 1.0", "leters = 1.0", "mix is 'leters'; expected families among chain"),
    "negative seed": ("seed = 3", "seed = -3", "seed is -3"),
    "enormous seed": (
        "seed = 3",
        "seed = 9223372036854775808",
        "expected an integer from 0 to below 2 ** 63",
    ),
    "no steps": ("steps = 7", "steps = 0", "stage 'chain': steps is 0; expected an integer above 0"),
    "negative warm-up": ("warmup_steps = 3", "warmup_steps = -1", "warmup_steps is -1"),
    "no log": ("log_every = 2", "log_every = 0", "log_every is 0"),
    "a name that leaves its folder": ('"tiny"', '"../tiny"', "name is '../tiny'"),
    "a hidden name": ('"tiny"', '".."', "name is '..'"),
    "an unknown type of numbers": ("seed = 3", 'dtype = "float8"', "dtype is 'float8'; expected one of"),
    "an unknown optimizer": ('"muon"', '"lion"', "optimizer.name is 'lion'; expected one of adamw, muon"),
    "no clip": ('name = "muon"', "clip = 0", "optimizer.clip is 0"),
    "beta of one": ('name = "muon"', "beta2 = 1", "optimizer.beta2 is 1; expected 0 to below 1"),
    "rows beyond the context": ("= 224", "= 600", "sequence_length is 600; expected at most"),
    "a dense model": ("first_k_dense_replace = 1", "first_k_dense_replace = 2", "at least one layer"),
    "a size that does not align": (
        "moe_intermediate_size = 16",
        "moe_intermediate_size = 20",
        "multiple of 8",
    ),
    "two depths of prediction": ("nextn_predict_layers = 1", "nextn_predict_layers = 2", "expected 0 or 1"),
    "quantised weights": (
        "[optimizer]",
        '[model.quantization_config]\nquant_method = "fp8"\n[optimizer]',
        "model.quantization_config is",
    ),
    "a pool too small for a token": (
        "steps = 7",
        "steps = 7\nexpert_pool = [2, 8]\nbalance_weight = 0.0",
        "expert_pool is [2, 8]; expected the smallest and the largest size, 4 to 8 in steps of 2",
    ),
    "a pool that is no range": (
        "steps = 7",
        "steps = 7\nexpert_pool = [8, 4]\nbalance_weight = 0.0",
        "expert_pool is [8, 4]",
    ),
    "a pool of one number": (
        "steps = 7",
        "steps = 7\nexpert_pool = 8",
        "stages[0].expert_pool is 8; expected list",
    ),
    "a balance against pools": ("steps = 7", "steps = 7\nexpert_pool = [4, 8]", "balance_weight is 0.0001"),
    "lists longer than a row": (
        "steps = 7",
        "steps = 7\nlist_tokens = [100, 300]",
        "list_tokens is [100, 300]; expected the shortest and the longest list, 1 to sequence_length = 192",
    ),
    "a range of lists that is none": ("steps = 7", "steps = 7\nlist_tokens = [100]", "list_tokens is [100]"),
    "positions beyond the context": (
        "steps = 7",
        "steps = 7\nposition_span = 513",
        "position_span is 513; expected sequence_length = 192 to model.max_position_embeddings = 512",
    ),
    "positions within a row": ("steps = 7", "steps = 7\nposition_span = 64", "position_span is 64"),
    "two beginnings": ("seed = 3", 'start_from = "pocket"', "[model] and start_from exclude each other"),
    "no TOML": ("[model]", "[model", "is not valid TOML"),
}


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_error_that_names_file_and_key(tmp_path, old, new, message):
    text = TINY.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        Recipe.from_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_run_may_start_from_a_checkpoint(tiny_document):
    del tiny_document["model"]
    tiny_document["start_from"] = "pocket"
    assert Recipe.from_dict(tiny_document).model == ModelConfig.from_file(locate("pocket"))
    for start_from in ("nowhere", "", 3):
        with pytest.raises(RecipeError, match="start_from"):
            Recipe.from_dict(tiny_document | {"start_from": start_from})


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"\x00"])
def test_a_file_that_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"recipe\.toml: "):
        Recipe.from_file(path)


@pytest.mark.parametrize("table", ["stages = 3\n", "stages = [3]\n"])
def test_stages_that_are_no_tables_are_refused(tmp_path, table):
    path = tmp_path / "recipe.toml"
    path.write_text(table + TINY.read_text(encoding="utf-8").split("[[stages]]")[0], encoding="utf-8")
    with pytest.raises(RecipeError, match=r"stages(\[0\])? is 3"):
        Recipe.from_file(path)


def test_no_stages_are_refused(tiny_document):
    del tiny_document["stages"]
    with pytest.raises(RecipeError, match=r"at least one \[\[stages\]\]"):
        Recipe.from_dict(tiny_document)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_are_sound(path):
    recipe = Recipe.from_file(path)
    assert recipe.name == path.stem
    assert recipe.steps > 0


def test_a_recipe_is_read_as_it_stands(tiny_recipe):
    assert tiny_recipe.optimizer.name == "muon"
    assert tiny_recipe.optimizer.clip == 1.0
    assert (tiny_recipe.steps, tiny_recipe.families) == (10, ["chain", "letters"])
    assert [tiny_recipe.stage_at(step) for step in (0, 6, 7, 9)] == [(0, 0), (0, 6), (1, 0), (1, 2)]


def make_stage(steps, learning_rate, final=None):
    return Stage("s", steps, 1, 8, learning_rate, {"chain": 1.0}, final)


def test_the_learning_rate_of_a_stage_is_half_a_cosine():
    stage = make_stage(5, 0.4, 0.2)
    eighth = 0.2 * 0.5 * (1 + 2**-0.5)  # cos 45 degrees
    expected = [0.4, 0.2 + eighth, 0.3, 0.4 - eighth, 0.2]
    assert [stage.learning_rate_at(step) for step in range(5)] == pytest.approx(expected)


def test_the_learning_rate_is_constant_without_a_final_one():
    assert [make_stage(3, 0.4).learning_rate_at(step) for step in range(3)] == pytest.approx([0.4] * 3)
    assert make_stage(1, 0.4, 0.1).learning_rate_at(0) == pytest.approx(0.4)


def test_warm_up_is_linear_and_reaches_across_stages(tiny_document):
    first, second = tiny_document["stages"]
    first |= {"steps": 2, "learning_rate": 0.4}
    second |= {"steps": 3, "learning_rate": 0.8, "final_learning_rate": 0.2}
    recipe = Recipe.from_dict(tiny_document | {"warmup_steps": 4})
    rates = [recipe.learning_rate_at(step) for step in range(5)]
    assert rates == pytest.approx([0.1, 0.2, 0.75 * 0.8, 0.5, 0.2])
    no_warmup = Recipe.from_dict(tiny_document | {"warmup_steps": 0})
    assert no_warmup.learning_rate_at(0) == pytest.approx(0.4)
