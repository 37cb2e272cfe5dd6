"""Random configs, small enough that every tensor can be listed and a model run."""

import pytest
from hypothesis import strategies as st

from araio.config import ModelConfig, QuantizationConfig
from araio.weights.locate import locate_config

SIZE = st.integers(1, 40)
SIZED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "v_head_dim",
)


@st.composite
def configs(draw) -> ModelConfig:
    groups, per_group = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    layers = draw(st.integers(1, 4))
    method, scoring = draw(st.sampled_from([("greedy", "softmax"), ("noaux_tc", "sigmoid")]))
    return ModelConfig(
        model_type="deepseek_v3",
        **{name: draw(SIZE) for name in SIZED},
        num_hidden_layers=layers,
        max_position_embeddings=64,
        q_lora_rank=draw(st.none() | SIZE),
        qk_rope_head_dim=2 * draw(SIZE),
        moe_intermediate_size=draw(SIZE),
        n_routed_experts=draw(st.sampled_from([0, groups * per_group])),
        n_shared_experts=draw(st.integers(0, 2)),
        num_experts_per_tok=draw(st.integers(1, per_group)),
        first_k_dense_replace=draw(st.integers(0, layers)),
        topk_method=method,
        scoring_func=scoring,
        n_group=groups,
        num_nextn_predict_layers=draw(st.integers(0, 2)),
        tie_word_embeddings=draw(st.booleans()),
        quantization_config=draw(
            st.none() | st.builds(QuantizationConfig, st.tuples(st.integers(1, 20), st.integers(1, 20)))
        ),
    )


@pytest.fixture(scope="session")
def r1() -> ModelConfig:
    return locate_config("deepseek-r1")
