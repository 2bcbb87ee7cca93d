"""Limits inside a mandate: how much a member, a feature instance, a provider or a model may cost in a day or a month.
Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, NamedTuple

__all__ = ["Limit", "LimitKind", "LimitPeriod", "LimitUse", "Spending", "Subject", "month_of"]

LimitKind = Literal["member", "feature", "provider", "model"]
LimitPeriod = Literal["day", "month"]


class Limit(NamedTuple):
    """A limit in micro-CHF; the key is the user id, the feature instance id, or the name of the provider or model."""

    kind: LimitKind
    key: str
    period: LimitPeriod
    amount: int


class Subject(NamedTuple):
    """What may be limited, in one mandate; the key is that of `Limit`."""

    mandate_no: int
    kind: LimitKind
    key: str


@dataclass(frozen=True, slots=True)
class Spending:
    """Who is to spend, what for as far as that was said, and on which day of the mandate."""

    mandate_no: int
    user_id: str
    feature_instance_id: str | None
    provider: str | None
    model: str | None
    today: date

    def subjects(self) -> Iterator[Subject]:
        """What limits can be about; what was not said is no subject, so limits of it are passed over."""
        yield Subject(self.mandate_no, "member", self.user_id)
        named: tuple[tuple[LimitKind, str | None], ...] = (
            ("feature", self.feature_instance_id),
            ("provider", self.provider),
            ("model", self.model),
        )
        for kind, key in named:
            if key is not None:
                yield Subject(self.mandate_no, kind, key)


@dataclass(slots=True)
class LimitUse:
    """A limit, and how much of it is used: what was spent in the period and what is held, in micro-CHF."""

    limit: Limit
    used: int

    def exceeded_by(self, required: int) -> bool:
        """Whether the limit refuses so much more: because it is more than is left, or because nothing is left, which
        refuses even an amount of 0."""
        return self.used >= self.limit.amount or self.used + required > self.limit.amount


def month_of(day: date) -> tuple[date, date]:
    """The first and the last day of the month of a day."""
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
