"""`Metrics`: what Prometheus reads at `/metrics`.

    araio:...   names and meanings of vLLM's metrics, so that dashboards made for it work with another prefix
    araio_...   what vLLM has no word for: joules, grams, money, operations, bytes, experts and their layers

Experts are never told one by one: R1 has 14,848, and each would be a series. A layer tells how uneven its
load is; `/v1/experts` has the counts. Labels come from fixed sets, never from a request. Everything but
`Metrics.step` is called on the event loop. Read `service.py` for who calls,
`costs/receipt.py` for what the sums mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from araio.costs.receipt import Receipt
from araio.engine.answer import Answer
from araio.engine.watch import EngineState
from araio.kernels.ops import PAGE
from araio.weights.counters import StreamCounters

__all__ = ["Metrics"]

MODEL = "model_name"

SECONDS = tuple(digit * 10.0**power for power in range(-3, 3) for digit in (1, 2, 5))
TOKENS = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))
COUNTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)

HITS = Callable[[], tuple[Sequence[int], npt.NDArray[np.int64], npt.NDArray[np.int64]]]
"""Gives the numbers of the MoE layers that are read from disk, the experts that each asked for (M,), and how
many of those were not there (M,)."""

LAYERS = Callable[[], tuple[Sequence[int], npt.NDArray[np.int64]]]
"""Gives the numbers of the MoE layers, and how many tokens each expert (M, E) was given so far."""


class Metrics:
    """Those of one server.

    model    name that every line carries
    state    of the engine, at the time of reading
    streamed what became of experts that are read from disk; None where all are in memory
    layers   how often experts were chosen; None where nobody counts
    hits     how often they were in memory; None where all are
    """

    def __init__(
        self,
        model: str,
        state: Callable[[], EngineState],
        streamed: Callable[[], StreamCounters] | None = None,
        layers: LAYERS | None = None,
        hits: HITS | None = None,
    ) -> None:
        self._registry = registry = CollectorRegistry()
        self._model = model

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, (MODEL, *labels), registry=registry)

        def seconds(name: str, text: str) -> Histogram:
            return histogram(f"{name}_seconds", text, SECONDS)

        def histogram(name: str, text: str, buckets: Sequence[float] = TOKENS) -> Histogram:
            made = Histogram(f"araio:{name}", text, (MODEL,), buckets=buckets, registry=registry)
            return made.labels(model)

        self._prompt_tokens = counter("araio:prompt_tokens", "Tokens of prompts.").labels(model)
        self._tokens = counter("araio:generation_tokens", "Tokens that were generated.").labels(model)
        self._step_size = histogram("iteration_tokens_total", "Tokens that ran in one step of the engine.")
        self._success = counter("araio:request_success", "Requests that ended well.", "finished_reason")
        self._rejected = counter("araio:admission_rejections", "Requests that were refused.", "reason")
        self._aborted = counter(
            "araio:num_aborted_requests", "Requests that nobody waited for, or that failed."
        )
        self._first = seconds("time_to_first_token", "From the request to its first token.")
        self._between = seconds("inter_token_latency", "Between two tokens of a request.")
        self._per_token = seconds("request_time_per_output_token", "The mean of that, request by request.")
        self._whole = seconds("e2e_request_latency", "From the request to its last token.")
        self._queue = seconds("request_queue_time", "In line.")
        self._prefill = seconds("request_prefill_time", "From the line's end to the first token.")
        self._decode = seconds("request_decode_time", "From the first token to the last.")
        self._inference = seconds("request_inference_time", "Prefill and decode together.")
        self._prompt_size = histogram("request_prompt_tokens", "Tokens of a prompt.")
        self._answer_size = histogram("request_generation_tokens", "Tokens generated for a request.")
        self._asked_tokens = histogram("request_params_max_tokens", "Tokens that a request allows.")
        self._asked_choices = histogram("request_params_n", "Choices that a request asks for.", COUNTS)
        self._joules = counter(
            "araio_joules", "Energy of requests; `method` tells measured from modelled.", "method"
        )
        self._grams = counter("araio_co2e_grams", "Of that energy, by the grid's intensity.").labels(model)
        self._money = counter("araio_cost", "What the tokens cost by the price list.", "currency")
        self._flops = counter("araio_flops", "Operations that were run.").labels(model)
        self._dense_flops = counter(
            "araio_dense_flops", "Those of a model of the same size without experts to choose from."
        ).labels(model)
        self._memory_bytes = counter("araio_memory_read_bytes", "Read of weights and cache.").labels(model)
        self._disk_bytes = counter("araio_disk_read_bytes", "Read from disk for requests.").labels(model)
        registry.register(_AtReading(model, state, streamed, layers, hits))

    def step(self, tokens: int) -> None:
        """The engine ran so many tokens at once; called in its thread."""
        self._step_size.observe(tokens)

    def started(self, prompt_tokens: int, max_tokens: int, choices: int) -> None:
        """A request was let in; each choice is counted as a request of its own from here on."""
        self._asked_choices.observe(choices)
        self._prompt_size.observe(prompt_tokens)
        self._prompt_tokens.inc(prompt_tokens)
        self._asked_tokens.observe(max_tokens)

    def token(self, seconds: float, is_first: bool) -> None:
        """A token came, so long after its request, or else after the token before."""
        self._tokens.inc()
        (self._first if is_first else self._between).observe(seconds)

    def finished(self, answer: Answer, seconds: float) -> None:
        """An answer is complete, so long after its request."""
        receipt = answer.receipt
        self._success.labels(self._model, answer.finish_reason).inc()
        self._whole.observe(seconds)
        self._queue.observe(receipt.queue_s)
        self._prefill.observe(receipt.prefill_s)
        self._decode.observe(receipt.decode_s)
        self._inference.observe(receipt.prefill_s + receipt.decode_s)
        self._answer_size.observe(receipt.completion_tokens)
        if receipt.completion_tokens > 1:
            self._per_token.observe(receipt.decode_s / (receipt.completion_tokens - 1))
        self._add(receipt)

    def aborted(self) -> None:
        """A request ended without an answer."""
        self._aborted.labels(self._model).inc()

    def rejected(self, reason: str) -> None:
        """A request was refused; the reason is a word of a fixed set."""
        self._rejected.labels(self._model, reason).inc()

    def render(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _add(self, receipt: Receipt) -> None:
        joules, prices = receipt.joules, receipt.tariff.prices
        self._joules.labels(self._model, joules.method).inc(joules.best)
        self._grams.inc(receipt.grams_co2e)
        if prices is not None and receipt.money is not None:
            self._money.labels(self._model, prices.currency).inc(receipt.money)
        self._flops.inc(receipt.flops)
        self._dense_flops.inc(receipt.dense_flops)
        self._memory_bytes.inc(receipt.memory_bytes)
        self._disk_bytes.inc(receipt.disk_bytes)


class _AtReading(Collector):
    """What is not counted here but looked up whenever somebody reads."""

    def __init__(
        self,
        model: str,
        state: Callable[[], EngineState],
        streamed: Callable[[], StreamCounters] | None,
        layers: LAYERS | None,
        hits: HITS | None,
    ) -> None:
        self._model, self._state, self._streamed = model, state, streamed
        self._layers, self._hits = layers, hits

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        used = 1 - state.free_pages / state.total_pages if state.total_pages else 0.0
        yield self._gauge("araio:num_requests_running", "Requests in the batch.", state.running)
        yield self._gauge("araio:num_requests_waiting", "Requests in line.", state.waiting)
        yield self._gauge("araio:kv_cache_usage_perc", "Share of the cache that requests hold, 0 to 1.", used)
        # Whoever is let in has all the pages that it may ever need.
        yield self._counter("araio:num_preemptions", "Requests that lost their place; none ever does.", 0)
        sizes = {"block_size": str(PAGE), "num_blocks": str(state.total_pages)}
        yield InfoMetricFamily("araio:cache_config", "The cache in pages.", {MODEL: self._model, **sizes})
        yield self._counter(
            "araio:prefix_cache_queries", "Tokens of prompts looked up.", state.prefix_queries
        )
        yield self._counter("araio:prefix_cache_hits", "Tokens of prompts found.", state.prefix_hits)
        if self._streamed is not None:
            yield from self._of_experts(self._streamed())
        if self._layers is not None:
            yield self._imbalance(*self._layers())
        if self._hits is not None:
            yield self._by_layer(*self._hits())

    def _of_experts(self, counters: StreamCounters) -> Iterator[Metric]:
        uses = CounterMetricFamily(
            "araio_experts", "Uses of experts by where they were.", labels=(MODEL, "outcome")
        )
        for name, count in counters.outcomes().items():
            uses.add_metric((self._model, name), count)
        yield uses
        for name, value in counters.samples().items():
            if "{" not in name:
                yield self._counter(name, "See `weights/counters.py`.", value)

    def _by_layer(
        self, numbers: Sequence[int], asked: npt.NDArray[np.int64], missed: npt.NDArray[np.int64]
    ) -> Metric:
        family = CounterMetricFamily(
            "araio_layer_experts",
            "Experts that a layer asked for: `hit` were there or on their way, for `missed` a read began.",
            labels=(MODEL, "layer", "outcome"),
        )
        for number, all_of_it, misses in zip(numbers, asked.tolist(), missed.tolist(), strict=True):
            family.add_metric((self._model, str(number), "hit"), all_of_it - misses)
            family.add_metric((self._model, str(number), "missed"), misses)
        return family

    def _imbalance(self, numbers: Sequence[int], counts: npt.NDArray[np.int64]) -> Metric:
        family = GaugeMetricFamily(
            "araio_layer_load_imbalance",
            "Tokens of a layer's busiest expert over the mean of all; 1 is even.",
            labels=(MODEL, "layer"),
        )
        for number, of_experts in zip(numbers, counts, strict=True):
            if of_experts.any():
                family.add_metric((self._model, str(number)), float(of_experts.max() / of_experts.mean()))
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=(MODEL,))
        family.add_metric((self._model,), value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=(MODEL,))
        family.add_metric((self._model,), value)
        return family
