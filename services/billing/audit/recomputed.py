"""The check of prices: what each charge cost is computed again, in the published way, from what its row keeps.

The rows are streamed, so that the check takes little memory whatever the size of the ledger.
"""

from typing import NamedTuple

import asyncpg

from services.billing.audit.usage import SAYS_ITS_PRICE
from services.billing.pricing import EARLIEST, LATEST, OUT_OF_TIME
from services.billing.pricing.derivation import KeptTariff, charged_price, read_derivation, recomputed
from services.billing.pricing.kept_tariff import StoredPrice, StoredRate, kept_tariff

__all__ = ["RecomputedAccount", "read_kept_tariff", "recompute_prices"]

ROWS_AT_ONCE = 5_000

# Charges of releases before say in themselves what their price came from; the check of remainders looks at those.
_CHARGES = f"""
    SELECT t.mandate_no, t.posted_account_no, t.seq, t.amount, t.derivation, d.provider, d.model,
           CASE WHEN t.occurred_at >= $1 AND t.occurred_at < $2 THEN t.occurred_at END AS occurred_at
      FROM transactions t
      LEFT JOIN dimensions d ON d.mandate_no = t.mandate_no AND d.no = t.dimension_no
     WHERE t.contra_account = 'REVENUE' AND t.transaction_type = 'DEBIT' AND NOT {SAYS_ITS_PRICE}
"""


class RecomputedAccount(NamedTuple):
    """An account with charges, and what is wrong with the first of those that were priced otherwise."""

    mandate_no: int
    account_no: int
    detail: str | None


async def recompute_prices(connection: asyncpg.Connection) -> list[RecomputedAccount]:
    """Every account that usage was charged to, in the caller's snapshot."""
    tariff = await read_kept_tariff(connection)
    accounts: dict[tuple[int, int], tuple[int, str] | None] = {}
    # The cursor is read to its end, so the plan for all rows is the best.
    await connection.execute("SET LOCAL cursor_tuple_fraction = 1")
    async for row in connection.cursor(_CHARGES, EARLIEST, LATEST, prefetch=ROWS_AT_ONCE):
        account = row["mandate_no"], row["posted_account_no"]
        fault = _fault(row, tariff)
        known = accounts.setdefault(account, None)
        if fault is not None and (known is None or row["seq"] < known[0]):
            accounts[account] = row["seq"], fault
    return [
        RecomputedAccount(*account, None if fault is None else f"row {fault[0]} {fault[1]}")
        for account, fault in accounts.items()
    ]


async def read_kept_tariff(connection: asyncpg.Connection) -> KeptTariff:
    """Every price version and rate that can be read, whether or not anything is priced by it now."""
    prices = await connection.fetch("SELECT id::text, version, set_aside IS NULL FROM prices ORDER BY id")
    rates = await connection.fetch(
        "SELECT id::text, currency, CASE WHEN valid_from >= $1 AND valid_from < $2 THEN valid_from END, rate::text,"
        " set_aside IS NULL FROM rates ORDER BY id",
        EARLIEST,
        LATEST,
    )
    return kept_tariff((StoredPrice(*row) for row in prices), (StoredRate(*row) for row in rates))


def _fault(row: asyncpg.Record, tariff: KeptTariff) -> str | None:
    """What is wrong with a charge; None where its price is what it should be."""
    try:
        kept = read_derivation(row["derivation"] or "")
        if row["occurred_at"] is None:
            raise ValueError(OUT_OF_TIME)
        model = row["provider"], row["model"]
        price = recomputed(kept, model=model, at=row["occurred_at"], tariff=tariff).exact
        charged = charged_price(row["amount"], kept)
    except (ArithmeticError, ValueError) as error:
        return f"cannot be priced again: {error or type(error).__name__}"
    return None if price == charged else f"was priced at {charged:f}, its price is {price:f}"
