"""Reading parked events again, and setting aside those that cannot be read: shared by settling usage and payments."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import orjson
import sqlalchemy as sa
from asyncpg.exceptions import CheckViolationError, DataError
from sqlalchemy.ext.asyncio import AsyncConnection

from rappen_contracts import ContractError, Event, decode_structured
from services.billing.ledger.domain import BEYOND_BALANCE_MAX
from services.billing.ledger.errors import BalanceOutOfRange, RowsRefused
from services.billing.pricing.rating import Parked
from services.billing.pricing.unposted import UnpostedEvent, insert_unposted
from services.chassis.logging import get_logger
from services.chassis.metrics import SET_ASIDE

__all__ = ["CONTRADICTS", "FAULTS_OF_DATA", "TOO_LARGE", "ParkedEvent", "fault_of_data", "read_parked", "set_aside"]

CONTRADICTS = Parked("CONFLICT", "the event was recorded with other data", None)
TOO_LARGE = Parked("AMOUNT_TOO_LARGE", BEYOND_BALANCE_MAX, None)

# An amount or a balance that the ledger cannot hold, or text that the database refuses.
FAULTS_OF_DATA = (ArithmeticError, ValueError, DataError, CheckViolationError, BalanceOutOfRange)

_log = get_logger(__name__)


class ParkedEvent(NamedTuple):
    """A parked event that was taken to be settled, with its row."""

    row: sa.RowMapping
    event: Event

    @property
    def identity(self) -> tuple[int, bytes]:
        """The mandate and the event's id."""
        return self.row["mandate_no"], self.row["event_id"].bytes


async def read_parked(
    connection: AsyncConnection, taken: Sequence[sa.RowMapping], revision: int, now: datetime
) -> list[ParkedEvent]:
    """The events of taken rows that can be read. The others were valid once; they are set aside one by one, until the
    price book changes again: by then the row or the code may be mended."""
    parked = []
    for row in taken:
        try:
            event = decode_structured(orjson.loads(row["event"]), now=now)
        except ValueError as error:
            code = error.code if isinstance(error, ContractError) else type(error).__name__
            await set_aside(connection, row, Parked("UNREADABLE", code, None), revision)
        else:
            parked.append(ParkedEvent(row, event))
    return parked


def fault_of_data(error: Exception) -> Parked:
    """Why an event that raised one of `FAULTS_OF_DATA` is set aside."""
    if isinstance(error, BalanceOutOfRange):
        return TOO_LARGE
    refused_by = error.__cause__ if isinstance(error, RowsRefused) else error
    return Parked("UNPROCESSABLE", type(refused_by).__name__, None)


async def set_aside(connection: AsyncConnection, row: sa.RowMapping, why: Parked, revision: int) -> None:
    """Parks a taken row again as one that cannot be settled as it is; it is logged and counted."""
    SET_ASIDE.labels("parked event").inc()
    _log.error("parked event set aside", event_id=str(row["event_id"]), code=why.reason, error=why.detail)
    await insert_unposted(connection, [UnpostedEvent.kept(row, why, revision)])
