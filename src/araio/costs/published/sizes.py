"""Published sizes: parameters, checkpoints and caches of DeepSeek's models and of those they compare with."""

from __future__ import annotations

from collections.abc import Callable

from araio.config import ModelConfig
from araio.costs.dense import find_dense_model
from araio.costs.parameters import cache_bytes_per_token, count_parameters, elements_by_type
from araio.costs.published.figure import BILLIONS, BYTES, COUNT, PERCENT, TIMES, Figure, Topic

__all__ = ["caches", "checkpoint", "parameters"]

V3_REPORT = "DeepSeek-V3 report"
V2_REPORT = "DeepSeek-V2 report"
INSIGHTS = "Insights into DeepSeek-V3, table 1"
WEIGHTS = "DeepSeek-V3, README_WEIGHTS"
TYPE_BYTES = {"F8_E4M3": 1, "F32": 4, "F16": 2, "BF16": 2}


def parameters(config_of: Callable[[str], ModelConfig]) -> Topic:
    """Totals, and what one token is multiplied with."""
    v3, v2, lite = (count_parameters(config_of(f"deepseek-{name}")).model for name in ("v3", "v2", "v2-lite"))
    counted = count_parameters(config_of("deepseek-v3"))
    active = "every parameter a token is multiplied with; the input embedding is looked up, not multiplied"
    return Topic(
        "Parameters",
        (
            Figure("V3 and R1, total", v3.total, 671e9, COUNT, "61 layers, both embeddings", V3_REPORT),
            Figure("V3 and R1, active", v3.active, 37e9, COUNT, active, V3_REPORT, 0.0137),
            Figure(
                "the same with the input embedding",
                counted.active_with_embedding,
                36.7e9,
                COUNT,
                "said to include both tables; 36.7B include the head alone, and with both it is 37.6B",
                WEIGHTS,
                verdict="slip",
            ),
            Figure("V3, active share", v3.active / v3.total, 0.055, PERCENT, "37 of 671", V3_REPORT, 0.01),
            Figure("V2, total", v2.total, 236e9, COUNT, "", V2_REPORT),
            Figure("V2, active", v2.active, 21e9, COUNT, "as for V3", V2_REPORT, 0.01),
            Figure("V2-Lite, total", lite.total, 15.7e9, COUNT, "", V2_REPORT),
            Figure("V2-Lite, active", lite.active, 2.4e9, COUNT, "cut off, not rounded", V2_REPORT, 0.022),
        ),
    )


def checkpoint(config_of: Callable[[str], ModelConfig]) -> Topic:
    """The FP8 release of DeepSeek-V3, with its MTP module."""
    config = config_of("deepseek-v3")
    counted, dim = count_parameters(config), config.hidden_size
    elements, projection = elements_by_type(config), 2 * dim * dim
    mtp_active = counted.mtp.active - projection + counted.embedding.total + counted.head.total
    return Topic(
        "The checkpoint of V3 and its MTP module",
        (
            Figure(
                "MTP module, parameters of its own",
                counted.mtp.total,
                11.5e9,
                BILLIONS,
                "the published number leaves out `eh_proj`, 0.10B",
                WEIGHTS,
                0.01,
            ),
            Figure(
                "MTP module, active",
                mtp_active,
                2.4e9,
                BILLIONS,
                "with the embedding and the head that it shares, without `eh_proj`",
                WEIGHTS,
                0.02,
            ),
            Figure(
                "numbers in all files",
                sum(elements.values()),
                685e9,
                BILLIONS,
                "the main model, the MTP module with copies of both tables, and the scales of FP8",
                "Hugging Face, model page",
            ),
            Figure(
                "bytes in all files",
                sum(TYPE_BYTES[stored_as] * count for stored_as, count in elements.items()),
                688_586_727_753,
                BYTES,
                "without the headers of the files, 12 MB",
                "Hugging Face, sum of file sizes",
                1e-4,
            ),
        ),
    )


def caches(config_of: Callable[[str], ModelConfig]) -> Topic:
    """Bytes of cache for each token, and how they compare."""
    v3, v2 = config_of("deepseek-v3"), config_of("deepseek-v2")
    qwen, llama, old = (
        find_dense_model(name).cache_bytes_per_token()
        for name in ("qwen2.5-72b", "llama-3.1-405b", "deepseek-67b")
    )
    latent = cache_bytes_per_token(v3)
    grouped = "2 x key heads x head size x layers, bfloat16"
    return Topic(
        "Cache per token",
        (
            Figure("V3 and R1", latent, 70_272, BYTES, "(512 + 64) x 61 layers, bfloat16", INSIGHTS, 0),
            Figure("Qwen2.5-72B", qwen, 327_680, BYTES, grouped, INSIGHTS, 0),
            Figure("Llama-3.1-405B", llama, 516_096, BYTES, grouped, INSIGHTS, 0),
            Figure("Qwen2.5-72B over V3", qwen / latent, 4.66, TIMES, "", INSIGHTS, 0.001),
            Figure(
                "Llama-3.1-405B over V3",
                llama / latent,
                7.28,
                TIMES,
                "the quotient of the two published numbers is 7.34",
                INSIGHTS,
                verdict="slip",
            ),
            Figure(
                "V2 below DeepSeek-67B",
                1 - cache_bytes_per_token(v2, bits=6) / old,
                0.933,
                PERCENT,
                "6 bits against 16: latent attention and quantisation together",
                V2_REPORT,
                verdict="other convention",
            ),
            Figure(
                "the same at equal precision",
                1 - cache_bytes_per_token(v2) / old,
                None,
                PERCENT,
                "both in bfloat16: latent attention alone",
                "",
                verdict="our own",
            ),
        ),
    )
