"""What the store asks of the directory, and what it tells of activations, as outbox rows."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from rappen_contracts.directory.v1 import DirectoryRequested, FeatureAccess, FeatureInstance, Mandate, Membership
from rappen_contracts.registry import DIRECTORY_REQUESTED_V1, FEATURE_ACTIVATED_V1
from rappen_contracts.store.v1 import FeatureActivated
from rappen_contracts.types import NonNegativeMoney
from services.chassis.outbox import OutboxRow, outbox_row
from services.subscriptions.store.domain import Activation, instance_request

__all__ = ["ENTRIES_MAX", "directory_requested", "feature_activated"]

# What one request holds, by its contract.
ENTRIES_MAX = 20

Entry = Mandate | Membership | FeatureInstance | FeatureAccess


def directory_requested(
    entries: Sequence[Entry], *, request_id: UUID, mandate_id: str, user_id: str, cause: str, now: datetime
) -> OutboxRow:
    """A request of somebody's; the directory applies it once for its id."""
    data = DirectoryRequested(
        mandate_id=mandate_id, request_id=request_id, entries=list(entries), requested_by=user_id, cause=cause
    )
    return outbox_row(DIRECTORY_REQUESTED_V1, data, event_id=request_id, occurred_at=now, key=mandate_id)


def feature_activated(activation: Activation, *, now: datetime) -> OutboxRow:
    """An instance that may be used from now on; its price only where it has one."""
    priced = activation.price > 0
    data = FeatureActivated(
        mandate_id=activation.mandate_id,
        instance_id=str(activation.instance_id),
        feature_code=activation.feature_code,
        label_de=activation.label_de,
        label_en=activation.label_en,
        user_id=activation.user_id,
        price=NonNegativeMoney(amount=activation.price, currency="CHF") if priced else None,
        billing_period=activation.billing_period if priced else None,
        activated_at=now,
        cause=activation.cause,
    )
    event_id = instance_request(activation.instance_id, "activated")
    return outbox_row(FEATURE_ACTIVATED_V1, data, event_id=event_id, occurred_at=now, key=activation.mandate_id)
