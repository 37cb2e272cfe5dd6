"""Published training figures: operations per token by two formulas, GPU hours, utilisation, money."""

from __future__ import annotations

from collections.abc import Callable

from araio.config import ModelConfig
from araio.costs.dense import find_dense_model, standard_training_flops
from araio.costs.flops import training_flops
from araio.costs.published.figure import DOLLARS, GIGAFLOPS, PERCENT, TERAFLOPS, Figure, Topic, Unit
from araio.costs.training import TrainingSpeed, gpu_hours_of_flops

__all__ = ["operations", "other_runs", "v3_run"]

INSIGHTS = "Insights into DeepSeek-V3, table 2"
INSIGHTS_4 = "Insights into DeepSeek-V3, table 4"
V3_TABLE_1 = "DeepSeek-V3 report, table 1"
MOE = "DeepSeekMoE, sections 5.1 and 5.2"
R1_NATURE = "DeepSeek-R1 in Nature, supplement"
LENGTH = 4096
HOURS = Unit(" thousand hours", 1e3, 1)
SPEED = TrainingSpeed.of_steps(gpus=2048, sequences=15_360, length=LENGTH, step_s=19.926)
H800_PEAK_FLOPS = 989.4e12
RENT = 2.0  # USD per GPU hour, in all of DeepSeek's figures


def operations(config_of: Callable[[str], ModelConfig]) -> Topic:
    """Operations of a training token, and of 4,096 of them."""
    v3, v2 = config_of("deepseek-v3"), config_of("deepseek-v2")
    ours = "3 x (2 x active + expanded attention over half of 4,096)"
    rows = [
        Figure("V3, a token", training_flops(v3, LENGTH).total, 250e9, GIGAFLOPS, ours, INSIGHTS),
        Figure("V2, a token", training_flops(v2, LENGTH).total, 155e9, GIGAFLOPS, ours, INSIGHTS),
    ]
    for name, title, published in (
        ("qwen2.5-72b", "Qwen2.5-72B", 394e9),
        ("llama-3.1-405b", "Llama-3.1-405B", 2448e9),
    ):
        model = find_dense_model(name)
        standard = standard_training_flops(model.num_hidden_layers, model.hidden_size, model.vocab_size)
        why = "72 L d^2 + 6 V d, without attention between positions: not the formula of the rows above"
        rows.append(
            Figure(
                f"{title}, a token", standard, published, GIGAFLOPS, why, INSIGHTS, verdict="other convention"
            )
        )
        alike = model.training_flops(LENGTH).total
        rows.append(Figure(f"{title} as V3 is counted", alike, None, GIGAFLOPS, ours, "", verdict="our own"))
    standard_formula = "72 L d^2 + 12 L d S + 6 V d; experts as the feed-forward networks that a token uses"
    for title, tera, published in (
        ("DeepSeek-7B, 4,096 tokens", _per_4k(30, 4096), 183.5e12),
        ("DeepSeek-67B, 4,096 tokens", _per_4k(95, 8192), 2057.5e12),
        ("DeepSeekMoE-16B, 4,096 tokens", _per_4k(28, 2048, feed_forwards=(2 + 6) / 4), 74.4e12),
    ):
        rows.append(Figure(title, tera, published, TERAFLOPS, standard_formula, MOE, 0.001))
    rows.append(
        Figure(
            "DeepSeekMoE-145B, 4,096 tokens",
            _per_4k(62, 4096, feed_forwards=(4 + 12) / 8),
            585.6e12,
            TERAFLOPS,
            "2.2 % less by the formula of the rows above",
            MOE,
            verdict="not explained",
        )
    )
    return Topic("Operations of training", tuple(rows))


def v3_run(config_of: Callable[[str], ModelConfig]) -> Topic:
    """What training V3 took."""
    config = config_of("deepseek-v3")
    per_token = training_flops(config, LENGTH).total
    all_pairs = training_flops(config, LENGTH, causal=False).total
    hours = gpu_hours_of_flops(per_token * 14.8e12, 385e12)
    step = "15,360 sequences of 4,096 tokens in 19.926 s"
    return Topic(
        "Training of V3",
        (
            Figure("tokens a day", SPEED.tokens_per_day, 272.80e9, Unit("B", 1e9, 2), step, INSIGHTS_4),
            Figure("a trillion tokens", SPEED.gpu_hours(1e12), 180e3, HOURS, "2,048 GPUs", V3_TABLE_1),
            Figure(
                "operations a second and GPU",
                SPEED.flops_per_gpu(per_token),
                385e12,
                TERAFLOPS,
                "causal",
                INSIGHTS_4,
            ),
            Figure(
                "utilisation",
                SPEED.utilization(per_token, H800_PEAK_FLOPS),
                0.3894,
                PERCENT,
                "of 989.4 TFLOP/s, bfloat16",
                INSIGHTS_4,
            ),
            Figure(
                "utilisation, all pairs counted",
                SPEED.utilization(all_pairs, H800_PEAK_FLOPS),
                0.4373,
                PERCENT,
                "not causal",
                INSIGHTS_4,
            ),
            Figure("pre-training", hours, 2_664e3, HOURS, "14.8T tokens at 385 TFLOP/s", V3_TABLE_1),
            Figure(
                "all of its training",
                (2_664e3 + 119e3 + 5e3) * RENT,
                5.576e6,
                DOLLARS,
                "2,788 thousand hours at 2 USD: the final run, no research, no failed runs",
                V3_TABLE_1,
                0,
            ),
        ),
    )


def other_runs(config_of: Callable[[str], ModelConfig]) -> Topic:
    """What training V2 and R1 took."""
    sparse = training_flops(config_of("deepseek-v2"), LENGTH).total
    fewer = 1 - sparse / find_dense_model("deepseek-67b").training_flops(LENGTH).total
    rl_hours = 64 * 8 * 198 + 5_000 + 64 * 8 * 80
    return Topic(
        "Training of V2 and R1",
        (
            Figure(
                "V2 below DeepSeek-67B, GPU hours",
                1 - 172.8 / 300.6,
                0.425,
                PERCENT,
                f"a trillion tokens; operations are {fewer:.0%} fewer",
                "DeepSeek-V2 report, section 3.2.3",
            ),
            Figure(
                "R1, reinforcement learning",
                rl_hours * RENT,
                294e3,
                DOLLARS,
                "512 GPUs for 198 and for 80 hours, 5 thousand hours for data",
                R1_NATURE,
            ),
        ),
    )


def _per_4k(layers: int, hidden_size: int, feed_forwards: float = 1.0) -> float:
    """Operations of 4,096 tokens with DeepSeek's vocabulary of 102,400."""
    return LENGTH * standard_training_flops(layers, hidden_size, 102_400, LENGTH, feed_forwards)
