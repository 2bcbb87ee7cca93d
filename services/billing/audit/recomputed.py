"""The check of prices: what each charge cost is computed again, in the published way, from what its row keeps.

The rows are streamed, so that the check takes little memory whatever the size of the ledger.
"""

from decimal import Decimal
from typing import NamedTuple

import asyncpg

from services.billing.audit.usage import AS_WRITTEN_OLD
from services.billing.money import EXACT, from_micro
from services.billing.pricing import EARLIEST, PriceError, Rate, checked_rate, version_from_text
from services.billing.pricing.derivation import Derivation, KeptTariff, read_derivation, recomputed
from services.billing.pricing.sheet import PricedVersion

__all__ = ["RecomputedAccount", "read_kept_tariff", "recompute_prices"]

ROWS_AT_ONCE = 5_000

# Charges of releases before say in themselves what their price came from; the check of remainders looks at those.
_CHARGES = f"""
    SELECT t.mandate_no, t.posted_account_no, t.seq, t.amount, t.occurred_at, t.derivation, d.provider, d.model
      FROM transactions t
      LEFT JOIN dimensions d ON d.mandate_no = t.mandate_no AND d.no = t.dimension_no
     WHERE t.contra_account = 'REVENUE' AND t.transaction_type = 'DEBIT' AND {AS_WRITTEN_OLD} IS NOT TRUE
       AND NOT coalesce(t.derivation IS JSON OBJECT AND t.derivation::jsonb ? 'exact', false)
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
    async for row in connection.cursor(_CHARGES, prefetch=ROWS_AT_ONCE):
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
    versions: dict[str, PricedVersion] = {}
    rates: dict[str, Rate] = {}
    for number, text in await connection.fetch("SELECT id::text, version FROM prices"):
        try:
            versions[number] = PricedVersion(version_from_text(text, number))
        except (PriceError, ValueError):
            continue
    for number, currency, text in await connection.fetch("SELECT id::text, currency, rate::text FROM rates"):
        try:
            rates[number] = checked_rate(Rate(currency, EARLIEST, Decimal(text), number))
        except (PriceError, ArithmeticError):
            continue
    return KeptTariff(versions, rates)


def _fault(row: asyncpg.Record, tariff: KeptTariff) -> str | None:
    """What is wrong with a charge; None where its price is what it should be."""
    try:
        kept = read_derivation(row["derivation"] or "")
        model = row["provider"], row["model"]
        price = recomputed(kept, model=model, at=row["occurred_at"], tariff=tariff).exact
        charged = _charged(row["amount"], kept)
    except (ArithmeticError, ValueError) as error:
        return f"cannot be priced again: {error or type(error).__name__}"
    return None if price == charged else f"was priced at {charged:f}, its price is {price:f}"


def _charged(amount: int, kept: Derivation) -> Decimal:
    """The exact price that was charged: what was posted, and what it left of the remainder."""
    left = EXACT.subtract(Decimal(kept.carry_after), Decimal(kept.carry_before))
    return EXACT.add(from_micro(amount), left)
