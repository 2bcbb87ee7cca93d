"""Ratios out of turns that two checkouts took alternately: this one's figure through the other's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, NamedTuple, Self

__all__ = ["CheckTurn", "Row", "Turn", "charged_rows", "checked_rows", "render"]

# Of the processes that have a part in an event, in the order in which an event meets them.
_CHARGING = ("load", "kafka", "worker", "postgres")
_CHECKING = ("checks", "api", "postgres")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one side: events committed or checks asked, in how many seconds, with how much CPU by process."""

    count: int
    seconds: float
    cpu_s: Mapping[str, float]
    # Of the machine, by processes that are not this side's.
    others_percent: float

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """From the answer of a side, which may say more."""
        return cls(**{name: answer[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class CheckTurn(Turn):
    """A turn of checks, with the latencies (milliseconds) of those that were measured."""

    p50_ms: float
    p99_ms: float


class Row(NamedTuple):
    """A figure of both sides and its ratio, this side's through the other's; none of what there is not."""

    name: str
    this: float | None
    other: float | None
    ratio: float | None

    @classmethod
    def of(cls, name: str, this: float | None, other: float | None) -> Self:
        """The ratio is that of the figures."""
        return cls(name, this, other, this / other if this is not None and other else None)


def charged_rows(this: Sequence[Turn], other: Sequence[Turn], batches: tuple[float, float]) -> list[Row]:
    """Rate, CPU and batches of charging. `batches` are events each, of this side and of the other."""
    return [
        Row.of("events/s", _rate(this), _rate(other)),
        Row("events/s, median of rounds", None, None, _median_ratio(this, other)),
        *_cpu_rows("event", _CHARGING, this, other),
        Row.of("events in a batch", *batches),
        _others(this, other),
    ]


def checked_rows(this: Sequence[CheckTurn], other: Sequence[CheckTurn]) -> list[Row]:
    """Latencies, each the median of the turns, and CPU of checks."""
    return [
        Row.of("p50 ms", median(turn.p50_ms for turn in this), median(turn.p50_ms for turn in other)),
        Row.of("p99 ms", median(turn.p99_ms for turn in this), median(turn.p99_ms for turn in other)),
        *_cpu_rows("check", _CHECKING, this, other),
        _others(this, other),
    ]


def render(title: str, rows: Sequence[Row]) -> str:
    """A table under its title: each figure of this side, of the other, and the ratio."""
    lines = [f"{title:<28}{'this':>12}{'other':>12}{'this/other':>12}"]
    for row in rows:
        figures = "".join(f"{_figure(value):>12}" for value in (row.this, row.other))
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        lines.append(f"{row.name:<28}{figures}{ratio:>12}".rstrip())
    return "\n".join(lines)


def _rate(turns: Sequence[Turn]) -> float:
    return sum(turn.count for turn in turns) / sum(turn.seconds for turn in turns)


def _median_ratio(this: Sequence[Turn], other: Sequence[Turn]) -> float | None:
    """Of neighbours in time, whose machine was the same; a round in which a side committed nothing says nothing."""
    pairs = zip(this, other, strict=True)
    ratios = [_rate([mine]) / _rate([theirs]) for mine, theirs in pairs if mine.count and theirs.count]
    return median(ratios) if ratios else None


def _cpu_rows(unit: str, names: Sequence[str], this: Sequence[Turn], other: Sequence[Turn]) -> list[Row]:
    """CPU microseconds by process and of all of them together."""
    named = [name for name in names if any(name in turn.cpu_s for turn in (*this, *other))]
    rows = [Row.of(f"{name}, CPU us/{unit}", _cpu_us(this, [name]), _cpu_us(other, [name])) for name in named]
    return [*rows, Row.of(f"all, CPU us/{unit}", _cpu_us(this, named), _cpu_us(other, named))]


def _cpu_us(turns: Sequence[Turn], names: Sequence[str]) -> float | None:
    count = sum(turn.count for turn in turns)
    return 1e6 * sum(turn.cpu_s.get(name, 0.0) for turn in turns for name in names) / count if count else None


def _others(this: Sequence[Turn], other: Sequence[Turn]) -> Row:
    mine, theirs = (mean(turn.others_percent for turn in side) for side in (this, other))
    return Row("machine used by others, %", mine, theirs, None)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"
