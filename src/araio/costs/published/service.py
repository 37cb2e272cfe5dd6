"""Published figures of serving: DeepSeek's own service, its prices beside another's, measured energy."""

from __future__ import annotations

from collections.abc import Callable

from araio.config import ModelConfig
from araio.costs.energy_models import ecologits_energy, joules_per_token, service_joules
from araio.costs.grid import find_intensity
from araio.costs.prices import find_prices
from araio.costs.published.figure import COUNT, DOLLARS, JOULES, PERCENT, TIMES, Figure, Topic, Unit
from araio.costs.serving import ServiceDay, expert_exchange_s, experts_per_gpu, speculation_ceiling

__all__ = ["energy", "prices", "service"]

DAY_6 = "DeepSeek, open-infra-index, day 6"
INSIGHTS = "Insights into DeepSeek-V3, section 2.3"
ML_ENERGY = "ML.ENERGY leaderboard, DeepSeek-R1-0528"
V3_REPORT = "DeepSeek-V3 report"
MILLISECONDS = Unit(" ms", 1e-3, 3)
FEW = Unit("", 1, 2)
RENT = 2.0
DAY = ServiceDay(nodes=226.75, gpus_per_node=8, prompt=608 * 10**9, cached=342 * 10**9, output=168 * 10**9)
PROMPT_PER_S, OUTPUT_PER_S = 73.7e3, 14.8e3


def service(config_of: Callable[[str], ModelConfig]) -> Topic:
    """DeepSeek's service on the day it wrote about, and the bounds that its papers give."""
    config, list_prices = config_of("deepseek-v3"), find_prices("deepseek-r1")
    routed, chosen = config.n_routed_experts, config.num_experts_per_tok + config.n_shared_experts
    # The width is 7,168; the paper reckons with 7,000.
    slow, fast = (expert_exchange_s(config.num_hidden_layers, 7000, chosen, 32, b) for b in (50e9, 900e9))
    nodes = DAY.nodes_needed(PROMPT_PER_S, OUTPUT_PER_S)
    speeds = (
        "73.7 thousand prompt or 14.8 thousand output tokens a second and node: each node does one of them"
    )
    wire = "two micro-batches of 32 tokens, 9 experts of width 7,000, 61 layers"
    return Topic(
        "Serving",
        (
            Figure(
                "rent of a day", DAY.rent(RENT), 87_072, DOLLARS, "226.75 nodes, 2 USD a GPU hour", DAY_6, 0
            ),
            Figure(
                "revenue of the day",
                DAY.revenue(list_prices),
                562_027,
                DOLLARS,
                "as if every token were sold at R1's prices; most were not",
                DAY_6,
                5e-4,
            ),
            Figure(
                "margin",
                DAY.margin(RENT, list_prices),
                5.45,
                PERCENT,
                "of that revenue, over the rent",
                DAY_6,
            ),
            Figure("nodes needed", nodes, 226.75, FEW, speeds, DAY_6, 1e-3),
            Figure(
                "experts on a GPU, prompts", experts_per_gpu(routed, 32, 32), 9, COUNT, "32 copies", DAY_6, 0
            ),
            Figure(
                "experts on a GPU, decoding",
                experts_per_gpu(routed, 32, 144),
                2,
                COUNT,
                "32 copies",
                DAY_6,
                0,
            ),
            Figure("least time of a token, 50 GB/s", slow, 14.76e-3, MILLISECONDS, wire, INSIGHTS, 1e-3),
            Figure("least time of a token, 900 GB/s", fast, 0.82e-3, MILLISECONDS, wire, INSIGHTS, 1e-3),
            Figure(
                "ceiling of one drafted token",
                speculation_ceiling(0.85),
                1.8,
                TIMES,
                "1 + 0.85 accepted; drafting and checking take the rest",
                V3_REPORT,
                0.03,
            ),
        ),
    )


def prices(config_of: Callable[[str], ModelConfig]) -> Topic:
    """R1's list price below Claude 3.5 Sonnet's, column by column."""
    r1, sonnet = find_prices("deepseek-r1"), find_prices("claude-3.5-sonnet")
    columns = (("input", r1.input, sonnet.input), ("output", r1.output, sonnet.output))
    rows = [
        Figure(
            "cheaper than Claude 3.5 Sonnet",
            1 - r1.cached_input / sonnet.input,
            0.953,
            PERCENT,
            "R1's price of cached input against the other's price of input that is not cached",
            "a claim often repeated, without its arithmetic",
            verdict="other convention",
        )
    ]
    for name, ours, theirs in (*columns, ("cached input", r1.cached_input, sonnet.cached_input)):
        how = f"{ours:g} against {theirs:g} USD a million tokens"
        rows.append(Figure(f"{name} alone", 1 - ours / theirs, None, PERCENT, how, "", verdict="our own"))
    reasoned = r1.of(0, 0, 8_793 + 689)
    rows.append(
        Figure(
            "tokens of Sonnet that one reasoned answer buys",
            reasoned / sonnet.of(0, 0, 1),
            None,
            COUNT,
            "8,793 tokens of reasoning, a mean over 366 problems of competitions, and 689 of answer; a model "
            "that answers in fewer is the cheaper one",
            "",
            verdict="our own",
        )
    )
    return Topic("Prices of R1", tuple(rows))


def energy(config_of: Callable[[str], ModelConfig]) -> Topic:
    """Joules that were measured of R1 itself, and two models of them."""
    measured = "eight B200, GPUs alone, output tokens alone; power over speed"
    answer_j = joules_per_token(7126, 2999) * 11_287
    modelled = ecologits_energy(671e9, 37e9, bits=8)
    return Topic(
        "Energy of R1",
        (
            Figure(
                "a token, batch 8", joules_per_token(4278, 433.24), 9.874, JOULES, measured, ML_ENERGY, 1e-3
            ),
            Figure(
                "a token, batch 128", joules_per_token(7126, 2999), 2.376, JOULES, measured, ML_ENERGY, 1e-3
            ),
            Figure(
                "an answer to a GPQA question, batch 128",
                answer_j,
                26_820,
                Unit(" J", 1, 0),
                "11,287 tokens",
                ML_ENERGY,
                1e-3,
            ),
            Figure(
                "the same in Germany, CO2 equivalent",
                find_intensity("DEU").grams(answer_j),
                None,
                Unit(" g", 1, 2),
                "381 g/kWh, 2023; of the GPUs alone",
                "",
                verdict="our own",
            ),
            Figure(
                "a token, batch 64, modelled",
                modelled.gpu_joules,
                3.859,
                JOULES,
                "EcoLogits' fit, 16 GPUs, 8 bits, beside the measured number; "
                f"servers add {modelled.server_joules:.2f} J",
                ML_ENERGY,
                0.1,
                verdict="modelled",
            ),
            Figure(
                "a whole service over its accelerators",
                service_joules(1, accelerator_share=0.58),
                None,
                TIMES,
                "accelerators are 58 % of what Gemini's text prompts take (arXiv 2508.15734)",
                "",
                verdict="our own",
            ),
        ),
    )
