"""Figures as cells of the page."""

from tests.bench.measure import Latency

__all__ = ["MISSED", "latency_text", "met"]

MISSED = "**missed**"


def latency_text(latency: Latency) -> str:
    """Percentiles and the number of latencies."""
    return (
        f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms, p99.9 {latency.p999_ms:.1f} ms"
        f" ({latency.count:,} measured)"
    )


def met(good: bool) -> str:
    """Whether a target is met."""
    return "met" if good else MISSED
