"""Differences between what Stripe has, what payments has recorded, and what other services made of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from math import ceil

__all__ = ["SAFE", "Difference", "Kind", "Others", "Window"]


class Kind(StrEnum):
    """What differs."""

    # Stripe has money of ours that is not recorded, or that went back and is not told of.
    PAYMENT_MISSING = "PAYMENT_MISSING"
    INVOICE_PAYMENT_MISSING = "INVOICE_PAYMENT_MISSING"
    REFUND_MISSING = "REFUND_MISSING"
    # What is recorded is not so at Stripe.
    PAYMENT_AMOUNT_DIFFERS = "PAYMENT_AMOUNT_DIFFERS"
    PAYMENT_NOT_AT_STRIPE = "PAYMENT_NOT_AT_STRIPE"
    # A subscription of ours at Stripe without a record, one that was last told of in another status, one that the
    # subscriptions service has in another, and one that Stripe does not have.
    SUBSCRIPTION_MISSING = "SUBSCRIPTION_MISSING"
    SUBSCRIPTION_STALE = "SUBSCRIPTION_STALE"
    SUBSCRIPTION_NOT_FOLLOWED = "SUBSCRIPTION_NOT_FOLLOWED"
    SUBSCRIPTION_NOT_AT_STRIPE = "SUBSCRIPTION_NOT_AT_STRIPE"
    # The ledger has not credited a payment or taken back a refund, has another amount, or a credit of no payment.
    LEDGER_CREDIT_MISSING = "LEDGER_CREDIT_MISSING"
    LEDGER_REFUND_MISSING = "LEDGER_REFUND_MISSING"
    LEDGER_AMOUNT_DIFFERS = "LEDGER_AMOUNT_DIFFERS"
    LEDGER_CREDIT_UNKNOWN = "LEDGER_CREDIT_UNKNOWN"


# What is healed by doing once more what an event would have done, or by telling once more what was told: repeats of
# both change nothing. The others need somebody who decides.
SAFE = frozenset(
    (
        Kind.PAYMENT_MISSING,
        Kind.INVOICE_PAYMENT_MISSING,
        Kind.REFUND_MISSING,
        Kind.SUBSCRIPTION_MISSING,
        Kind.SUBSCRIPTION_STALE,
        Kind.SUBSCRIPTION_NOT_FOLLOWED,
        Kind.LEDGER_CREDIT_MISSING,
        Kind.LEDGER_REFUND_MISSING,
    )
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One of them; `stripe_id` is that of the object at Stripe, or the reference where there is none."""

    kind: Kind
    stripe_id: str
    mandate_id: str | None
    detail: str

    @property
    def is_safe(self) -> bool:
        """Whether it can be healed without a decision."""
        return self.kind in SAFE


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is compared: [start, end)."""

    start: datetime
    end: datetime

    @property
    def created(self) -> dict[str, int]:
        """As Stripe's lists take it."""
        return {"gte": int(self.start.timestamp()), "lt": ceil(self.end.timestamp())}


@dataclass(frozen=True, slots=True)
class Others:
    """What the other services say: credits by the reference of the payment, of which an invoice may have several, and
    refunds by their id, all in CHF, and the status in which the subscriptions service last saw each subscription at
    Stripe, by our id. None where nobody was asked."""

    credits: Mapping[str, Sequence[Decimal]] | None = None
    refunds: Mapping[str, Decimal] | None = None
    statuses: Mapping[str, str] | None = None
