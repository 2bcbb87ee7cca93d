"""The check of prices: what each charge cost is computed again, in the published way, from what its row keeps, and so
is what it costs after each correction.

The rows are streamed, so that the check takes little memory whatever the size of the ledger.
"""

from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from services.billing.audit.usage import SAYS_ITS_PRICE
from services.billing.money import Exact, exact, exact_sum, in_chf
from services.billing.pricing import EARLIEST, LATEST, OUT_OF_TIME
from services.billing.pricing.derivation import Derivation, KeptTariff, posted_price, read_derivation, recomputed
from services.billing.pricing.kept_tariff import StoredPrice, StoredRate, kept_tariff

__all__ = ["RecomputedAccount", "read_kept_tariff", "recompute_prices"]

ROWS_AT_ONCE = 5_000

# Charges of releases before say in themselves what their price came from; the check of remainders looks at those. Those
# of storage are of a period and have a check of their own.
_CHARGES = f"""
    SELECT t.mandate_no, t.posted_account_no, t.seq, t.amount, t.derivation, d.provider, d.model,
           CASE WHEN t.occurred_at >= $1 AND t.occurred_at < $2 THEN t.occurred_at END AS occurred_at
      FROM transactions t
      LEFT JOIN dimensions d ON d.mandate_no = t.mandate_no AND d.no = t.dimension_no
     WHERE t.contra_account = 'REVENUE' AND t.transaction_type = 'DEBIT' AND NOT t.own AND NOT {SAYS_ITS_PRICE}
"""


# Each correction with its charge, in their order: how much more the charge costs is the difference between what it cost
# before, after the corrections before, and the price that is computed from what the correction's row keeps.
_CORRECTIONS = """
    SELECT k.mandate_no, k.event_id, k.number, k.price::text, t.posted_account_no, t.seq, t.amount, t.derivation,
           c.amount AS charged, c.derivation AS of_charge, d.provider, d.model,
           CASE WHEN c.occurred_at >= $1 AND c.occurred_at < $2 THEN c.occurred_at END AS occurred_at
      FROM price_corrections k
      JOIN transactions t ON t.mandate_no = k.mandate_no AND t.event_id = k.correction_id AND t.own
      JOIN transactions c ON c.mandate_no = k.mandate_no AND c.event_id = k.event_id AND NOT c.own
      LEFT JOIN dimensions d ON d.mandate_no = c.mandate_no AND d.no = c.dimension_no
     ORDER BY k.mandate_no, k.event_id, k.number
"""
# What of a derivation may differ between a charge and its correction.
_OF_EACH_ROW = {"carry_before": "", "carry_after": "", "rate": None, "price": None}


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
        _note(accounts, row, _fault(row, tariff))
    before: tuple[tuple[int, UUID] | None, Exact] = (None, 0)
    async for row in connection.cursor(_CORRECTIONS, EARLIEST, LATEST, prefetch=ROWS_AT_ONCE):
        charge = row["mandate_no"], row["event_id"]
        fault = _fault_of_correction(row, tariff, before[1] if before[0] == charge else None)
        _note(accounts, row, fault)
        before = charge, _readable(row["price"])
    return [
        RecomputedAccount(*account, None if fault is None else f"row {fault[0]} {fault[1]}")
        for account, fault in accounts.items()
    ]


def _note(accounts: dict[tuple[int, int], tuple[int, str] | None], row: asyncpg.Record, fault: str | None) -> None:
    account = row["mandate_no"], row["posted_account_no"]
    known = accounts.setdefault(account, None)
    if fault is not None and (known is None or row["seq"] < known[0]):
        accounts[account] = row["seq"], fault


async def read_kept_tariff(connection: asyncpg.Connection) -> KeptTariff:
    """Every price version and rate that can be read, whether or not anything is priced by it now."""
    # By the number, whose text would have 10 before 9.
    prices = await connection.fetch("SELECT id::text, version, set_aside IS NULL FROM prices ORDER BY prices.id")
    rates = await connection.fetch(
        "SELECT id::text, currency, CASE WHEN valid_from >= $1 AND valid_from < $2 THEN valid_from END, rate::text,"
        " set_aside IS NULL FROM rates ORDER BY rates.id",
        EARLIEST,
        LATEST,
    )
    return kept_tariff((StoredPrice(*row) for row in prices), (StoredRate(*row) for row in rates))


def _fault(row: asyncpg.Record, tariff: KeptTariff) -> str | None:
    """What is wrong with a charge; None where its price is what it should be."""
    try:
        kept = read_derivation(row["derivation"] or "")
        price = in_chf(_priced(kept, row, tariff))
        charged = in_chf(posted_price(kept, row["amount"]))
    except (ArithmeticError, ValueError) as error:
        return _unpriced(error)
    return None if price == charged else f"was priced at {charged:f}, its price is {price:f}"


def _fault_of_correction(row: asyncpg.Record, tariff: KeptTariff, before: Exact | None) -> str | None:
    """What is wrong with a correction, given what the charge cost after the one before it."""
    try:
        kept, of_charge = read_derivation(row["derivation"] or ""), read_derivation(row["of_charge"] or "")
        if replace(kept, **_OF_EACH_ROW) != replace(of_charge, **_OF_EACH_ROW):
            return "keeps other usage than its charge"
        if before is None:
            before = posted_price(of_charge, row["charged"])
        price = in_chf(_priced(kept, row, tariff))
        after = in_chf(exact_sum(before, posted_price(kept, -row["amount"])))
        recorded = in_chf(_readable(row["price"]))
    except (ArithmeticError, ValueError) as error:
        return _unpriced(error)
    if price != after:
        return f"was corrected to {after:f}, its price is {price:f}"
    return None if recorded == after else f"was corrected to {after:f}, recorded is {row['price']}"


def _priced(kept: Derivation, row: asyncpg.Record, tariff: KeptTariff) -> Exact:
    if row["occurred_at"] is None:
        raise ValueError(OUT_OF_TIME)
    model = row["provider"], row["model"]
    return exact(recomputed(kept, model=model, at=row["occurred_at"], tariff=tariff).exact)


def _readable(number: str) -> Exact:
    """An amount as the database writes it; zero for what is none."""
    try:
        return exact(Decimal(number))
    except (ArithmeticError, ValueError):
        return 0


def _unpriced(error: Exception) -> str:
    return f"cannot be priced again: {error or type(error).__name__}"
