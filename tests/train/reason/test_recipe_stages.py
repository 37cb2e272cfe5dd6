"""Stages that reinforce and sample, as a recipe has them: what is read, and what is refused by name."""

import pytest

from araio.errors import RecipeError
from araio.train.recipe import Recipe
from araio.train.stages import ReinforceStage, SampleStage, Stage

from .test_stages import LEARN, REINFORCE, SAMPLE, recipe_of

MISTAKES = {
    "a kind": ({"kind": "dream"}, "stages[0].kind is 'dream'; expected one of learn, reinforce, sample"),
    "a kind that is no text": ({"kind": ["learn"]}, "stages[0].kind is ['learn']; expected one of"),
    "a key of another kind": ({"balance_speed": 0.1}, "stages[0].balance_speed is not a key of a recipe"),
    "a missing key": ({"prompts": None}, "stages[0].prompts is missing"),
    "one answer": ({"samples": 1}, "stage 'reinforce': samples is 1; expected an integer above 1"),
    "an objective": ({"objective": "ppo"}, "objective is 'ppo'; expected one of grpo, dr_grpo, dapo, gspo"),
    "text for truth": ({"replay": "yes"}, "stages[0].replay is 'yes'; expected bool"),
    "a clip": ({"clip_high": 0.0}, "clip_high is 0.0; expected a number above 0"),
    "no room for a question": (
        {"max_tokens": 192},
        "max_tokens is 192; expected less than sequence_length = 192",
    ),
    "a margin": ({"overlong_tokens": 65}, "overlong_tokens is 65; expected at most max_tokens = 64"),
    "too many updates": ({"updates": 3}, "updates is 3; expected at most prompts = 2"),
    "a band": ({"learnable": [0.9, 0.1]}, "learnable is [0.9, 0.1]; expected two pass rates"),
    "prose": ({"mix": {"prose": 1.0}}, "mix is 'prose'; expected families among chain"),
    "prose beyond": ({"beyond": {"prose": 1.0}}, "beyond is 'prose'; expected families among chain"),
    "no problems": ({"mix": {}}, "mix is {}; expected at least one family above 0"),
    "a negative weight": ({"kl_weight": -1.0}, "kl_weight is -1.0; expected 0 to 10"),
    "not a number": ({"learning_rate": float("nan")}, "learning_rate is nan; expected above 0 and below 1"),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named(changes, message):
    stage = {key: value for key, value in (REINFORCE | changes).items() if value is not None}
    with pytest.raises(RecipeError) as caught:
        recipe_of(stage)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [LEARN | {"samples": "harvest"}, SAMPLE],
            "samples is 'harvest'; expected an earlier stage of the kind",
        ),
        ([SAMPLE, LEARN | {"samples": "other"}], "kind sample: harvest"),
        ([SAMPLE | {"name": "../up"}], "name of a stage that samples is '../up'"),
        ([SAMPLE, SAMPLE], "expected a name of its own"),
        ([SAMPLE | {"keep": 0}], "stage 'harvest': keep is 0"),
    ],
)
def test_stages_that_do_not_fit_together_are_refused(stages, message):
    with pytest.raises(RecipeError) as caught:
        recipe_of(*stages)
    assert message in str(caught.value)


def test_kinds_are_read_and_a_stage_without_one_learns():
    recipe = recipe_of(REINFORCE, SAMPLE, LEARN | {"samples": "harvest"})
    assert [type(stage) for stage in recipe.stages] == [ReinforceStage, SampleStage, Stage]
    assert recipe.steps == 6
    assert recipe.learning_rate_at(3) == 0, "nothing is learned while samples are drawn"
    assert recipe.families == ["implication"]


def test_families_beyond_count_for_the_tokenizer(tiny_document):
    tiny_document["stages"][0]["beyond"] = {"order": 1.0}
    assert "order" in Recipe.from_dict(tiny_document).families
