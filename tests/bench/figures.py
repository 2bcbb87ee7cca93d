"""Figures as cells of the page."""

from collections.abc import Sequence
from typing import Protocol

from tests.bench.cpu import CpuUse
from tests.bench.measure import Latency

__all__ = ["MISSED", "Part", "latency_text", "met"]

MISSED = "**missed**"


class Part(Protocol):
    """What a run measured, as rows of the page."""

    def rows(self) -> Sequence[tuple[str, ...]]:
        """Row of the demands, what, target, figure, and whether the target is met."""

    def uses(self) -> Sequence[tuple[str, CpuUse, int]]:
        """CPU by run, with the number of what was done."""


def latency_text(latency: Latency) -> str:
    """Percentiles and the number of latencies."""
    return (
        f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms, p99.9 {latency.p999_ms:.1f} ms"
        f" ({latency.count:,} measured)"
    )


def met(good: bool) -> str:
    """Whether a target is met."""
    return "met" if good else MISSED
