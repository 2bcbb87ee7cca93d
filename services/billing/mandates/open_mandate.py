"""Finding a mandate that is named in a request."""

from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.keys import ensure_mandates
from services.billing.mandates.errors import MandateUnknown
from services.billing.mandates.queries import find_mandate

__all__ = ["open_mandate"]


async def open_mandate(connection: AsyncConnection, mandate_id: str) -> int:
    """The number of a mandate that the directory knows; its settings are made where they are missing.

    An id that only usage has named is not a mandate yet: its terms cannot be set, it gets no money, and it is listed as
    unknown.
    """
    known, number = await find_mandate(connection, mandate_id)
    if not known:
        raise MandateUnknown
    if number is not None:
        return number
    return (await ensure_mandates(connection, [mandate_id]))[mandate_id]
