"""A subscription as Stripe has it, and the observations that payments publishes of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from rappen_contracts.stripe.v1 import (
    StripeCheckout,
    StripeInvoice,
    StripeItem,
    StripeObserved,
    StripeSubscription,
    StripeSubscriptionStatus,
)
from services.subscriptions.lifecycle.periods import Period

__all__ = ["SubscriptionAtStripe"]

_KINDS: tuple[Literal["members", "feature_instances"], ...] = ("members", "feature_instances")


@dataclass(kw_only=True)
class SubscriptionAtStripe:
    """Tests change it and fetch it; each fetch is one observation, numbered, of it as it is then."""

    record: UUID
    period: Period
    at: datetime
    mandate_id: str = "m"
    status: StripeSubscriptionStatus = "active"
    ends_at: datetime | None = None
    ended_at: datetime | None = None
    trial_ends_at: datetime | None = None
    plan_key: str = "TEAM"
    members: int = 1
    feature_instances: int = 0
    fetches: int = 0

    def fetch(self, *, invoice: StripeInvoice | None = None, completed: bool = False) -> StripeObserved:
        """The next observation, with the invoice that was fetched with it; `completed` has its checkout too."""
        self.fetches += 1
        checkout = StripeCheckout(session_id="cs_1", state="completed", stripe_subscription_id="sub_1")
        return StripeObserved(
            mandate_id=self.mandate_id,
            subscription_id=self.record,
            version=self.fetches,
            checkout=checkout if completed else None,
            subscription=StripeSubscription(
                stripe_subscription_id="sub_1",
                status=self.status,
                plan_key=self.plan_key,
                items=[self._item(kind) for kind in _KINDS],
                trial_ends_at=self.trial_ends_at,
                ends_at=self.ends_at,
                ended_at=self.ended_at,
            ),
            invoice=invoice,
            observed_at=self.at,
            cause=f"evt_{self.fetches}",
        )

    def invoice(
        self,
        reason: str = "subscription_cycle",
        status: Literal["open", "paid"] = "paid",
        period: Period | None = None,
    ) -> StripeInvoice:
        """An invoice of its period, or of another."""
        period = period or self.period
        return StripeInvoice(
            stripe_invoice_id=f"in_{reason}_{period.start:%Y%m%d}",
            status=status,
            billing_reason=reason,
            period_start=period.start,
            period_end=period.end,
        )

    def begins(self) -> StripeObserved:
        """Its checkout is completed and its first invoice paid."""
        return self.fetch(invoice=self.invoice("subscription_create"), completed=True)

    def _item(self, kind: Literal["members", "feature_instances"]) -> StripeItem:
        return StripeItem(
            item_id=f"si_{kind}",
            kind=kind,
            quantity=self.members if kind == "members" else self.feature_instances,
            period_start=self.period.start,
            period_end=self.period.end,
        )
