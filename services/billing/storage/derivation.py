"""What the row of a storage charge keeps of how its amount came about, and what is explained from it. Pure.

The price is that of the whole period. Where members pay in equal parts, each row is one of them.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final

import msgspec

from services.billing.money import exact, in_chf, post
from services.billing.pricing.derivation import posted_price
from services.billing.storage.domain import bytes_above, share_price, storage_price

__all__ = ["ExplainedStorage", "StorageTerms", "explain_storage", "storage_derivation"]


# More accounts than any mandate has members; a row that somebody changed must not cost more than one that nobody did.
SHARED_BY_MAX: Final = 1_000_000


class StorageTerms(msgspec.Struct, frozen=True):
    """The terms by which a period was charged, decimals as text. `included_mb` is null without a limit; `shared_by` is
    how many accounts pay, and null in rows of releases before."""

    period_start: datetime
    period_end: datetime
    months: str
    peak_bytes: int
    included_mb: int | None
    price_per_gb_month: str
    exact: str
    shared_by: Annotated[int, msgspec.Meta(ge=1, le=SHARED_BY_MAX)] | None = None


class _Derivation(msgspec.Struct):
    """As it is stored, in this order; it begins as that of every charge."""

    carry_before: str
    carry_after: str
    storage: StorageTerms


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Derivation).decode


def storage_derivation(terms: StorageTerms, remainder_before: str, remainder_after: str) -> bytes:
    """The derivation of an amount, as JSON; remainders are as `remainder_text` writes them."""
    return _encode(_Derivation(remainder_before, remainder_after, terms))


@dataclass(frozen=True, slots=True)
class ExplainedStorage:
    """From the peak to the exact price of the period and the part of it that a row charges, with its rounding. `fault`
    is why a row does not lead to its amount; what it does not say then is None."""

    terms: StorageTerms | None = None
    charged_bytes: int | None = None
    exact: Decimal | None = None
    carry_before: Decimal | None = None
    carry_after: Decimal | None = None
    fault: str | None = None


def explain_storage(text: str, amount: int) -> ExplainedStorage:
    """The derivation of a row of `amount` micro-CHF, computed again."""
    try:
        kept = _decode(text)
        terms = kept.storage
        above = bytes_above(terms.peak_bytes, terms.included_mb)
        price = storage_price(above, Decimal(terms.price_per_gb_month), Decimal(terms.months))
        part = in_chf(posted_price(kept, amount))
        before, after = Decimal(kept.carry_before), Decimal(kept.carry_after)
        rounded = post(exact(part), exact(before))
    except (ArithmeticError, ValueError, msgspec.MsgspecError) as error:
        return ExplainedStorage(fault=f"cannot be priced again: {error or type(error).__name__}")
    fault = None
    if price != Decimal(terms.exact):
        fault = f"was priced at {terms.exact}, its price is {price:f}"
    elif terms.shared_by is not None and part not in share_price(price, terms.shared_by):
        fault = f"is charged {part:f}, which is no part of {price:f} for {terms.shared_by}"
    elif rounded != (amount, exact(after)):
        fault = f"is charged {part:f}, which is not rounded to its amount"
    return ExplainedStorage(terms, above, part, before, after, fault)
