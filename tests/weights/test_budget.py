"""How memory is divided: never more than there is, never fewer places than two layers need."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from araio.codecs import codec
from araio.config import ModelConfig
from araio.costs.storage import Storage
from araio.costs.tiers import Load, place
from araio.errors import BudgetError
from araio.formats.layout import expected_tensors, expert_of
from araio.formats.store_layout import ExpertRecord, StoreCodecs
from araio.kernels.ops import PAGE
from araio.testing.checkpoints import tiny_config
from araio.weights.budget import LATER, Needs, check_room, split

MIB, GIB = 1 << 20, 1 << 30
PROCESS = 90 * MIB

# DeepSeek-V2-Lite's and DeepSeek-R1's own sizes.
V2_LITE = tiny_config(
    "v2-lite",
    vocab_size=102400,
    hidden_size=2048,
    intermediate_size=10944,
    moe_intermediate_size=1408,
    num_hidden_layers=27,
    num_attention_heads=16,
    num_key_value_heads=16,
    n_routed_experts=64,
    n_shared_experts=2,
    num_experts_per_tok=6,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    max_position_embeddings=163840,
)
R1 = tiny_config(
    "v3",
    vocab_size=129280,
    hidden_size=7168,
    intermediate_size=18432,
    moe_intermediate_size=2048,
    num_hidden_layers=61,
    num_attention_heads=128,
    num_key_value_heads=128,
    n_routed_experts=256,
    n_shared_experts=1,
    num_experts_per_tok=8,
    n_group=8,
    topk_group=4,
    first_k_dense_replace=3,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    max_position_embeddings=163840,
    num_nextn_predict_layers=0,
)


def needs_of(config: ModelConfig, codecs: StoreCodecs) -> Needs:
    """Of a store of the main model."""
    dense = routed = 0
    for name, shape in expected_tensors(config).items():
        size = codecs.of(name, shape, (128, 128)).bytes(shape)
        if expert_of(name) is None:
            dense += size
        else:
            routed += size
    record = ExpertRecord(config, codec(codecs.experts)).bytes
    token = config.num_hidden_layers * config.latent_dim * 2
    return Needs(dense, token, record, routed, len(config.moe_layers))


MODELS = {"v2-lite": V2_LITE, "r1": R1} | {
    f"tiny {family}": tiny_config(family) for family in ("v2-lite", "v3", "moonlight")
}
CODECS = {name: StoreCodecs(name, name, "bf16") for name in ("q4", "q8", "bf16")}
STORES = st.sampled_from([(model, name) for model in MODELS for name in CODECS])


@cache
def of_store(model: str, name: str) -> tuple[ModelConfig, Needs]:
    """A config and what its store needs; R1 has fifty thousand tensors to count."""
    return MODELS[model], needs_of(MODELS[model], CODECS[name])


TOKENS = st.none() | st.integers(1, 200_000)


@given(STORES, st.floats(0, 1.2), TOKENS, st.integers(0, 4 * GIB))
def test_the_parts_fit_together(
    store: tuple[str, str], share: float, tokens: int | None, process: int
) -> None:
    config, needs = of_store(*store)
    known = split(config, needs, 1 << 60, process, tokens)
    ram = round(known.smallest + share * (known.whole - known.smallest))
    budget = split(config, needs, ram, process, tokens)
    parts = (budget.process, budget.dense, budget.cache, budget.activations, budget.staging, budget.experts)
    assert min(parts) >= 0
    assert sum(parts) == budget.used <= ram
    assert budget.process == process + LATER
    assert (budget.smallest, budget.whole) == (known.smallest, known.whole)
    assert budget.cache_tokens % PAGE == 0
    assert budget.cache == budget.cache_tokens * needs.token
    if tokens is not None:
        assert tokens <= budget.cache_tokens < tokens + PAGE
    if ram >= budget.whole:
        assert (budget.slots, budget.staging, budget.experts) == (None, 0, needs.routed)
    else:
        assert budget.slots is not None
        assert budget.slots >= 2 * config.num_experts_per_tok
        assert budget.slots * needs.record == budget.staging + budget.experts


@given(STORES, TOKENS, st.integers(0, 4 * GIB))
def test_the_smallest_works_and_a_byte_less_does_not(
    store: tuple[str, str], tokens: int | None, process: int
) -> None:
    config, needs = of_store(*store)
    smallest = split(config, needs, 1 << 60, process, tokens).smallest
    assert split(config, needs, smallest, process, tokens).used <= smallest
    with pytest.raises(BudgetError) as refused:
        split(config, needs, smallest - 1, process, tokens)
    found = re.search(r"are too few: ([\d.]+) (MiB|GiB) are the least that works", str(refused.value))
    assert found is not None
    said = round(float(found[1]) * {"MiB": MIB, "GiB": GIB}[found[2]])
    assert smallest - 1 <= said <= smallest * 1.1 + MIB
    assert split(config, needs, said + 1, process, tokens).used <= said + 1  # what is named can be taken


@given(STORES, st.lists(st.floats(0, 1.1), min_size=2, max_size=6, unique=True))
def test_more_memory_is_never_worse(store: tuple[str, str], shares: list[float]) -> None:
    """Of two budgets with prompts in chunks of one length: longer chunks take their room from experts."""
    config, needs = of_store(*store)
    known = split(config, needs, 1 << 60, PROCESS)
    budgets = [
        split(config, needs, round(known.smallest + share * (known.whole - known.smallest)), PROCESS)
        for share in sorted(shares)
    ]
    for less, more in pairwise(budgets):
        assert more.cache_tokens >= less.cache_tokens or more.slots is None
        if less.slots is None:
            assert more.slots is None
        if more.slots is not None and more.chunk == less.chunk:
            assert more.slots >= (less.slots or 0)
        if more.slots is not None:
            assert more.chunk >= less.chunk


@pytest.mark.parametrize("model", ["v2-lite", "r1"])
@pytest.mark.parametrize("name", ["q4", "q8", "bf16"])
def test_the_plan_of_a_config_alone_says_nearly_the_same(model: str, name: str) -> None:
    """`araio plan` knows no process, and plans for one prompt at a time; what is left agrees within 2 %."""
    config, needs = of_store(model, name)
    budget = split(config, needs, 1 << 60, 0)
    planned = place(config, Load(context=2048, prompt=64), Storage(name, name, "bf16"))
    for ours, theirs in ((budget.smallest, planned.smallest), (budget.whole, planned.whole)):
        assert ours - LATER == pytest.approx(theirs, rel=0.02)


def test_without_experts_there_is_all_or_nothing() -> None:
    config = tiny_config("v2-lite", first_k_dense_replace=3)
    needs = Needs(dense=10 * MIB, token=240, record=0, routed=0, layers=0)
    budget = split(config, needs, 1 << 40, PROCESS)
    assert (budget.slots, budget.experts) == (None, 0)
    assert budget.smallest == budget.whole
    small = split(config, needs, budget.smallest, PROCESS)
    assert small.used <= budget.smallest
    with pytest.raises(BudgetError):
        split(config, needs, budget.smallest - 1, PROCESS)


def test_few_experts_that_are_fewer_than_two_layers_ask_for() -> None:
    """One layer whose tokens use most of its experts: all of them are less than is kept on the way."""
    config = tiny_config("v2-lite", first_k_dense_replace=2, n_routed_experts=8, num_experts_per_tok=6)
    needs = needs_of(config, StoreCodecs("q8", "q8", "bf16"))
    known = split(config, needs, 1 << 40, PROCESS)
    for ram in range(known.smallest, known.whole + 5000, 997):
        budget = split(config, needs, ram, PROCESS)
        assert budget.used <= ram
        assert min(budget.staging, budget.experts) >= 0
        assert budget.slots is None or budget.slots >= 2


@pytest.mark.parametrize("given", [0.3, 0.6])
@pytest.mark.parametrize("pinned", [300, 900, 1500])
def test_room_for_pinned_experts_is_there_or_it_is_said_how_much_would_be(given: float, pinned: int) -> None:
    _, needs = of_store("v2-lite", "q4")
    whole = split(V2_LITE, needs, 1 << 50, PROCESS).whole
    budget = split(V2_LITE, needs, int(given * whole), PROCESS)
    assert budget.slots is not None
    wanted = pinned + 2 * V2_LITE.num_experts_per_tok
    if wanted <= budget.slots:
        check_room(V2_LITE, needs, budget, pinned)
        return
    with pytest.raises(BudgetError, match=f"^{pinned} experts are to stay in memory") as refusal:
        check_room(V2_LITE, needs, budget, pinned)
    found = re.search(r"; ([0-9.]+) GiB are enough", str(refusal.value))
    assert found is not None
    enough = split(V2_LITE, needs, round(float(found[1]) * GIB) + 1, PROCESS)
    assert enough.slots is None or enough.slots >= wanted
    tenth = split(V2_LITE, needs, round((float(found[1]) - 0.2) * GIB), PROCESS)
    assert tenth.slots is not None
    assert tenth.slots < wanted


def test_no_pins_need_no_room() -> None:
    _, needs = of_store("v2-lite", "q4")
    least = split(V2_LITE, needs, 1 << 50, PROCESS).smallest
    check_room(V2_LITE, needs, split(V2_LITE, needs, least, PROCESS), 0)
