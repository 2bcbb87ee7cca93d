"""Who calls which model when, as records for Kafka: mostly usage, sometimes twice, now and then spoiled."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

from deploy.simulator.calls import CALLS, NEW_MODEL, Call
from deploy.simulator.tenants import TENANTS, Member, Tenant
from rappen_contracts import Record, encode
from rappen_contracts.registry import USAGE_RECORDED_V1
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["Membership", "Traffic", "rate_at"]

# Of so many events one is like this.
_NEW_MODEL_OF = 300
_TWICE_OF = 250
_SPOILED_OF = 400

# A day of the demo: usage swells and ebbs once in this time.
_DAY_S = 180.0
_SWING = 0.35

_FEATURE_SOURCES = {feature: f"/ai/{feature}" for feature in CALLS}


class Membership(NamedTuple):
    """A member of a tenant, at work there."""

    tenant: Tenant
    member: Member


def rate_at(seconds: float, mean: float) -> float:
    """The events per second at a moment of the demo; over a whole day of it, their mean is the one given."""
    return mean * (1 + _SWING * math.sin(2 * math.pi * seconds / _DAY_S))


class Traffic:
    """Makes the records of simulated AI services."""

    def __init__(self, rng: Random, memberships: Sequence[Membership] | None = None) -> None:
        self._rng = rng
        self.memberships = memberships or [
            Membership(tenant, member) for tenant in TENANTS for member in tenant.members
        ]

    def records(self, count: int, now: datetime, *, waiting: Collection[tuple[str, str]] = ()) -> list[Record]:
        """The records of so many calls that end now; members in `waiting` (mandate and user id) make none."""
        active = [
            membership for membership in self.memberships if (membership.tenant.id, membership.member.id) not in waiting
        ]
        if not active:
            return []
        weights = [membership.member.activity for membership in active]
        made: list[Record] = []
        for membership in self._rng.choices(active, weights, k=count):
            record = self._record(membership, now)
            if self._one_of(_SPOILED_OF):
                record = self._rng.choice(_SPOILINGS)(record)
            made.append(record)
            # Publishers that saw no acknowledgement send again; that must change nothing.
            if self._one_of(_TWICE_OF):
                made.append(record)
        return made

    def _record(self, membership: Membership, now: datetime) -> Record:
        habits = membership.member.habits
        (feature,) = self._rng.choices(list(habits), list(habits.values()))
        call = NEW_MODEL if self._one_of(_NEW_MODEL_OF) else self._call(feature)
        event_id = self._id()
        data = UsageRecorded(
            mandate_id=membership.tenant.id,
            user_id=membership.member.id,
            provider=call.provider,
            model=call.model,
            feature_code=feature,
            feature_instance_id=membership.tenant.instance_of(feature),
            workflow_id=f"nightly-{self._rng.randint(1, 12)}" if feature == "automation" else None,
            response_id=f"resp_{event_id.hex[:20]}",
            **call.use(self._rng),
        )
        return encode(
            data,
            type=USAGE_RECORDED_V1.type,
            id=event_id,
            source=_FEATURE_SOURCES[feature],
            time=now,
            key=membership.tenant.id,
        )

    def _call(self, feature: str) -> Call:
        weights, calls = zip(*CALLS[feature], strict=True)
        chosen: Call = self._rng.choices(calls, weights)[0]
        return chosen

    def _id(self) -> UUID:
        return UUID(int=self._rng.getrandbits(128), version=4)

    def _one_of(self, number: int) -> bool:
        return self._rng.randrange(number) == 0


def _cut_off(record: Record) -> Record:
    """What a publisher that dies while writing leaves behind."""
    return Record(record.key, record.value[: len(record.value) // 2], record.headers)


def _number_for_money(record: Record) -> Record:
    """The commonest mistake: an amount as a JSON number, which a parser may have rounded already."""
    return _changed(record, lambda data: data.update(cost={"amount": 0.01, "currency": "USD"}))


def _total_off(record: Record) -> Record:
    """A total that counts cached tokens twice."""
    return _changed(record, lambda data: data.update(tokens={"input": 700, "cache_read": 500, "total": 1_700}))


def _points(record: Record) -> Record:
    """A currency that no rate can ever be had for."""
    return _changed(record, lambda data: data.update(cost={"amount": "12", "currency": "POINTS"}))


def _changed(record: Record, change: Callable[[dict[str, Any]], None]) -> Record:
    data = json.loads(record.value)
    change(data)
    return Record(record.key, json.dumps(data).encode(), record.headers)


_SPOILINGS: Sequence[Callable[[Record], Record]] = (_cut_off, _number_for_money, _total_off, _points)
