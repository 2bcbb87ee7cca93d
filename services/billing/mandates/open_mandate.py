"""Finding a mandate that is named in a request."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.billing.ledger.keys import ensure_mandates
from services.billing.mandates.errors import MandateUnknown
from services.billing.tables import directory_mandates, mandates

__all__ = ["open_mandate"]


async def open_mandate(connection: AsyncConnection, mandate_id: str) -> int:
    """The number of a mandate that the directory knows; its settings are made where they are missing.

    An id that only usage has named is not a mandate yet: its terms cannot be set, it gets no money, and it is listed as
    unknown.
    """
    known = sa.select(mandates.c.no).select_from(
        directory_mandates.outerjoin(mandates, mandates.c.id == directory_mandates.c.id)
    )
    row = (await connection.execute(known.where(directory_mandates.c.id == mandate_id))).first()
    if row is None:
        raise MandateUnknown
    if row.no is not None:
        return int(row.no)
    return (await ensure_mandates(connection, [mandate_id]))[mandate_id]
