"""A mandate's limits: shown, and replaced as a whole by its administrator, audited."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from rappen_contracts.types import NonNegativeMoney
from services.billing.checks.limits import Limit, LimitKind, LimitPeriod, month_of
from services.billing.checks.repository import read_limits, replace_limits
from services.billing.errors import InvalidField
from services.billing.http import TakeTime, micro_chf
from services.billing.mandates.audit_log import record_change
from services.billing.mandates.errors import MandateUnknown
from services.billing.mandates.open_mandate import open_mandate
from services.billing.mandates.queries import find_mandate
from services.billing.mandates.repository import lock_mandate
from services.billing.money import money_json
from services.chassis.caller import Caller
from services.chassis.clock import Clock
from services.chassis.database import Database

__all__ = ["LIMITS_MAX", "GivenLimit", "set_limits", "show_limits"]

LIMITS_MAX = 2_000
_IN_CHF = {"en": "a limit is in CHF", "de": "ein Limit ist in CHF"}


class GivenLimit(NamedTuple):
    """A limit as it was asked for."""

    kind: LimitKind
    key: str
    period: LimitPeriod
    limit: NonNegativeMoney


async def show_limits(database: Database, mandate_id: str) -> list[dict[str, Any]]:
    """The limits of a mandate that the directory knows, by kind, key and period."""
    async with database.reading() as connection:
        known, number = await find_mandate(connection, mandate_id)
        if not known:
            raise MandateUnknown
        return [] if number is None else _shown(await read_limits(connection, number))


async def set_limits(
    database: Database,
    mandate_id: str,
    given: Sequence[GivenLimit],
    *,
    caller: Caller,
    allow_long_answer: TakeTime,
    clock: Clock,
) -> list[dict[str, Any]]:
    """Puts these limits in place of all that there were, and answers them as they are shown. What was spent in the day
    and month that have begun counts towards them at once."""
    wanted = sorted(_limits(given))
    async with database.transaction() as connection:
        await allow_long_answer(connection)
        mandate_no = await open_mandate(connection, mandate_id)
        mandate = await lock_mandate(connection, mandate_no)
        now = clock()
        before = await read_limits(connection, mandate_no)
        # A clock that is somewhat behind this one may still be in the day before, and in the month of that.
        since, _ = month_of(mandate.calendar.day(now - timedelta(days=1)))
        await replace_limits(connection, mandate_no, wanted, since=since)
        await record_change(
            connection,
            mandate_no=mandate_no,
            actor=caller.user_id,
            action="limits",
            before={"limits": _shown(before)},
            after={"limits": _shown(wanted)},
            now=now,
        )
    return _shown(wanted)


def _limits(given: Sequence[GivenLimit]) -> Iterable[Limit]:
    """The limits in micro-CHF, each of them once."""
    seen: set[tuple[str, ...]] = set()
    for number, each in enumerate(given):
        if each[:3] in seen:
            raise InvalidField(
                f"{number}",
                en="there is a limit of this kind, key and period before it",
                de="ein Limit mit dieser Art, diesem Schlüssel und dieser Periode steht schon davor",
            )
        seen.add(each[:3])
        yield Limit(each.kind, each.key, each.period, micro_chf(each.limit, f"{number}.limit", currency=_IN_CHF))


def _shown(limits: Iterable[Limit]) -> list[dict[str, Any]]:
    return [
        {"kind": each.kind, "key": each.key, "period": each.period, "limit": money_json(each.amount)} for each in limits
    ]
