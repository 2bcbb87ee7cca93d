"""What charges say of themselves, and the prices that follow from it."""

from services.billing.audit.recomputed import read_kept_tariff
from services.billing.pricing.derivation import read_derivation, recomputed
from services.billing.pricing.rating import RatedUsage
from services.chassis.database import Database
from tests.support.databases import on_driver

__all__ = ["explained"]


async def explained(database: Database, mandate: str) -> list[RatedUsage]:
    """The prices of a mandate's charges, in the order in which they were recorded, computed again from their rows."""
    async with on_driver(database) as connection:
        tariff = await read_kept_tariff(connection)
        rows = await connection.fetch(
            "SELECT t.derivation, t.occurred_at, d.provider, d.model FROM transactions t"
            " JOIN mandates m ON m.no = t.mandate_no"
            " JOIN dimensions d ON d.mandate_no = t.mandate_no AND d.no = t.dimension_no"
            " WHERE m.id = $1 AND t.contra_account = 'REVENUE' AND t.transaction_type = 'DEBIT'"
            " ORDER BY t.posted_account_no, t.seq",
            mandate,
        )
    return [
        recomputed(
            read_derivation(row["derivation"]),
            model=(row["provider"], row["model"]),
            at=row["occurred_at"],
            tariff=tariff,
        )
        for row in rows
    ]
