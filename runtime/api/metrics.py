"""Prometheus metrics under frozen names: gauges and counters of the engine, times of requests.

No metric carries text or a per-request label. Every application has its own registry.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ramify.runtime.core import COMPILE_BUCKETS_S, EngineStats, GrammarStats

CONTENT_TYPE = CONTENT_TYPE_LATEST
_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0)

_GAUGES: tuple[tuple[str, str, Callable[[EngineStats], float]], ...] = (
    ("num_requests_running", "Requests being computed", lambda s: s.num_running),
    ("num_requests_waiting", "Requests accepted and not yet planned", lambda s: s.num_waiting),
    (
        "kv_cache_usage_perc",
        "Share of KV slots that cannot be evicted, 0 to 1",
        lambda s: (s.num_slots - s.num_free_slots - s.num_evictable_slots) / max(s.num_slots, 1),
    ),
    ("kv_leaked_tokens", "KV slots owned by nobody; must be 0", lambda s: s.num_leaked_slots),
    ("grammar_cache_bytes", "Compiled grammars kept, estimated", lambda s: s.grammars.cached_bytes),
)
_COUNTERS: tuple[tuple[str, str, Callable[[EngineStats], float]], ...] = (
    ("prompt_tokens", "Prompt tokens of admitted requests", lambda s: s.prompt_tokens),
    ("generation_tokens", "Tokens generated", lambda s: s.generated_tokens),
    ("prefix_cache_queries", "Prompt tokens looked up in the cache", lambda s: s.prompt_tokens),
    ("prefix_cache_hits", "Prompt tokens taken from the cache", lambda s: s.cached_tokens),
    ("num_preemptions", "Times a request was sent back to waiting", lambda s: s.num_retracted),
    ("num_aborted_requests", "Sequences aborted", lambda s: s.num_aborted),
    ("num_failed_requests", "Sequences that ended in an error", lambda s: s.num_failed),
    ("worker_restarts", "Times the worker process died", lambda s: s.num_restarts),
    (
        "forced_tokens",
        "Tokens a grammar forced, without a step of their own",
        lambda s: s.num_forced,
    ),
    ("grammar_cache_hits", "Requests whose grammar was compiled", lambda s: s.grammars.num_hits),
    ("grammars_refused", "Grammars that cannot be served", lambda s: s.grammars.num_refused),
)


class Metrics:
    """What `/metrics` reports."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.http_requests = Counter(
            "ramify:http_requests", "HTTP replies", ["route", "status"], registry=self.registry
        )
        self.success = Counter(
            "ramify:request_success",
            "Sequences that ended normally",
            ["finished_reason"],
            registry=self.registry,
        )
        self.first_token = self._times(
            "time_to_first_token_seconds", "Acceptance to the first token of a sequence", _LATENCY_S
        )
        self.inter_token = self._times(
            "inter_token_latency_seconds", "Time per token after the first", _TOKEN_S
        )
        self.end_to_end = self._times(
            "e2e_request_latency_seconds", "Acceptance to the end of a sequence", _LATENCY_S
        )
        self.queue_time = self._times(
            "request_queue_time_seconds", "Acceptance to the first step", _LATENCY_S
        )
        ProcessCollector(registry=self.registry)

    def watch(self, stats: Callable[[], EngineStats]) -> None:
        """Report the gauges and counters of the engine whose `stats` this is."""
        self.registry.register(_EngineCollector(stats))

    def render(self) -> bytes:
        """The reply to a scrape, in Prometheus' text format."""
        text: bytes = generate_latest(self.registry)
        return text

    def _times(self, name: str, help: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"ramify:{name}", help, buckets=buckets, registry=self.registry)


class _EngineCollector(Collector):  # type: ignore[misc]
    """Reads `stats()` once per scrape."""

    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        for name, help, read in _GAUGES:
            yield GaugeMetricFamily(f"ramify:{name}", help, value=read(stats))
        for name, help, read in _COUNTERS:
            yield CounterMetricFamily(f"ramify:{name}", help, value=read(stats))
        yield _compile_times(stats.grammars)


def _compile_times(stats: GrammarStats) -> HistogramMetricFamily:
    buckets, total = [], 0
    for bound, count in zip((*COMPILE_BUCKETS_S, "+Inf"), stats.compile_buckets, strict=False):
        total += count
        buckets.append((str(bound), total))
    return HistogramMetricFamily(
        "ramify:grammar_compile_seconds",
        "Time to compile a grammar, refused ones included",
        buckets=buckets or [("+Inf", 0)],
        sum_value=stats.compile_s,
    )
