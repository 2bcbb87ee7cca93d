"""Every topic and every version of every event: what is created, published, read and documented comes from here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rappen_contracts.billing.v1 import (
    BalanceChanged,
    BalanceLow,
    InvoiceIssued,
    PublisherSilent,
    RechargeDisabled,
    RechargeRequested,
)
from rappen_contracts.directory.v1 import DirectoryChanged, DirectoryRequested
from rappen_contracts.payment.v1 import PaymentFailed, PaymentRefunded, PaymentSucceeded
from rappen_contracts.store.v1 import FeatureActivated
from rappen_contracts.stripe.v1 import (
    QuantityRequested,
    QuantitySettled,
    StripeObserved,
    StripeRequested,
    StripeSettled,
)
from rappen_contracts.subscription.v1 import SubscriptionChanged, TrialEnding
from rappen_contracts.types import Contract
from rappen_contracts.usage.v1 import UsageRecorded, UsageVoided

__all__ = ["EVENTS", "RECORD_BYTES_MAX", "SOURCES", "TOPICS", "EventVersion", "SourceTopic", "Topic", "source_topic"]

RECORD_BYTES_MAX: Final = 256 * 1024
# A dead letter carries the whole original record and its headers.
_DEAD_LETTER_BYTES_MAX: Final = 1024 * 1024
_DAY_MS: Final = 24 * 60 * 60 * 1000
# Retention counts from the time of a record: by a publisher's clock, one of last year would be deleted unread.
_BROKER_TIME: Final = {"message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True, slots=True)
class EventVersion:
    """One released major version of an event; `type` is the CloudEvents type.

    `upcast` turns its data into the data of the next major version; the newest version has none. Readers see the
    newest only, so two versions can be published at once while every handler knows one.
    """

    name: str
    major: int
    model: type[Contract]
    upcast: Callable[[Contract], Contract] | None = None

    @property
    def type(self) -> str:
        """The CloudEvents type, for example `ch.rappen.usage.recorded.v1`."""
        return f"ch.rappen.{self.name}.v{self.major}"

    @property
    def next_type(self) -> str:
        """The CloudEvents type that `upcast` leads to."""
        return f"ch.rappen.{self.name}.v{self.major + 1}"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is created: name, number of partitions, configuration."""

    name: str
    partitions: int
    config: dict[str, str]


@dataclass(frozen=True, slots=True)
class SourceTopic:
    """A topic that carries events, who reads it, and what its record key is."""

    name: str
    partitions: int
    key: str
    groups: tuple[str, ...]
    events: tuple[EventVersion, ...]
    description: str
    compacted: bool = False
    retention_ms: int = 14 * _DAY_MS

    def topic(self) -> Topic:
        """How the topic is created. Retention is longer than the longest outage a consumer may have."""
        config = {"max.message.bytes": str(_DEAD_LETTER_BYTES_MAX), **_BROKER_TIME}
        if self.compacted:
            config["cleanup.policy"] = "compact"
        else:
            config |= {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}
        return Topic(self.name, self.partitions, config)

    def dead_letters(self, group: str) -> Topic:
        """The dead-letter topic of one consumer group."""
        if group not in self.groups:
            raise ValueError(f"{group} does not read {self.name}")
        config = {
            "max.message.bytes": str(_DEAD_LETTER_BYTES_MAX),
            "cleanup.policy": "delete",
            "retention.ms": str(90 * _DAY_MS),
            **_BROKER_TIME,
        }
        return Topic(f"{self.name}.{group}.dlq", 1, config)


USAGE_RECORDED_V1: Final = EventVersion("usage.recorded", 1, UsageRecorded)
USAGE_VOIDED_V1: Final = EventVersion("usage.voided", 1, UsageVoided)
PAYMENT_SUCCEEDED_V1: Final = EventVersion("payment.succeeded", 1, PaymentSucceeded)
PAYMENT_FAILED_V1: Final = EventVersion("payment.failed", 1, PaymentFailed)
PAYMENT_REFUNDED_V1: Final = EventVersion("payment.refunded", 1, PaymentRefunded)
SUBSCRIPTION_CHANGED_V1: Final = EventVersion("subscription.changed", 1, SubscriptionChanged)
BALANCE_CHANGED_V1: Final = EventVersion("balance.changed", 1, BalanceChanged)
BALANCE_LOW_V1: Final = EventVersion("balance.low", 1, BalanceLow)
RECHARGE_REQUESTED_V1: Final = EventVersion("recharge.requested", 1, RechargeRequested)
RECHARGE_DISABLED_V1: Final = EventVersion("recharge.disabled", 1, RechargeDisabled)
INVOICE_ISSUED_V1: Final = EventVersion("invoice.issued", 1, InvoiceIssued)
PUBLISHER_SILENT_V1: Final = EventVersion("publisher.silent", 1, PublisherSilent)
DIRECTORY_CHANGED_V1: Final = EventVersion("directory.changed", 1, DirectoryChanged)
DIRECTORY_REQUESTED_V1: Final = EventVersion("directory.requested", 1, DirectoryRequested)
TRIAL_ENDING_V1: Final = EventVersion("trial.ending", 1, TrialEnding)
FEATURE_ACTIVATED_V1: Final = EventVersion("feature.activated", 1, FeatureActivated)
STRIPE_REQUESTED_V1: Final = EventVersion("stripe.requested", 1, StripeRequested)
STRIPE_SETTLED_V1: Final = EventVersion("stripe.settled", 1, StripeSettled)
STRIPE_OBSERVED_V1: Final = EventVersion("stripe.observed", 1, StripeObserved)
QUANTITY_REQUESTED_V1: Final = EventVersion("quantity.requested", 1, QuantityRequested)
QUANTITY_SETTLED_V1: Final = EventVersion("quantity.settled", 1, QuantitySettled)

SOURCES: Final[tuple[SourceTopic, ...]] = (
    SourceTopic(
        name="usage.recorded",
        partitions=12,
        key="mandate id",
        groups=("billing",),
        # A cancellation travels with the usage of its mandate, in one order.
        events=(USAGE_RECORDED_V1, USAGE_VOIDED_V1),
        description="AI and storage usage that happened, and cancellations of it, from AI services and the gateway.",
    ),
    SourceTopic(
        name="payment.succeeded",
        partitions=6,
        key="mandate id",
        groups=("billing",),
        events=(PAYMENT_SUCCEEDED_V1,),
        description="Money that arrived at Stripe, from payments.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="payment.failed",
        partitions=6,
        key="mandate id",
        groups=("billing",),
        events=(PAYMENT_FAILED_V1,),
        description="Payments that were declined or wait for somebody to confirm them, from payments.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="payment.refunded",
        partitions=6,
        key="mandate id",
        groups=("billing",),
        events=(PAYMENT_REFUNDED_V1,),
        description="Money of payments that went back by a refund or a lost dispute, and disputes that were won.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="subscription.changed",
        partitions=6,
        key="mandate id",
        groups=("billing",),
        events=(SUBSCRIPTION_CHANGED_V1,),
        description="Every transition and renewal of a subscription, from subscriptions.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="balance.changed",
        partitions=6,
        key="mandate id / account id",
        groups=(),
        events=(BALANCE_CHANGED_V1,),
        description="The newest balance of every account, compacted, from billing.",
        compacted=True,
    ),
    SourceTopic(
        name="balance.low",
        partitions=6,
        key="mandate id",
        groups=("gateway",),
        events=(BALANCE_LOW_V1,),
        description="Balances that have fallen to or under their warning threshold, from billing.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="recharge.requested",
        partitions=6,
        key="mandate id",
        groups=("payments",),
        events=(RECHARGE_REQUESTED_V1,),
        description="Accounts to be filled by charging the stored payment method, from billing.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="recharge.disabled",
        partitions=6,
        key="mandate id",
        groups=("gateway",),
        events=(RECHARGE_DISABLED_V1,),
        description="Mandates whose automatic recharges were turned off after declined payments, from billing.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="invoice.issued",
        partitions=6,
        key="mandate id",
        groups=("payments", "gateway"),
        events=(INVOICE_ISSUED_V1,),
        description="Monthly invoices of mandates that pay afterwards, from billing.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="publisher.silent",
        partitions=6,
        key="mandate id",
        groups=("gateway",),
        events=(PUBLISHER_SILENT_V1,),
        description="Mandates whose usage used to arrive and does not any more, from billing.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="trial.ending",
        partitions=6,
        key="mandate id",
        groups=("gateway",),
        events=(TRIAL_ENDING_V1,),
        description="Trials that end soon, from subscriptions.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="feature.activated",
        partitions=6,
        key="mandate id",
        groups=("gateway",),
        events=(FEATURE_ACTIVATED_V1,),
        description="Feature instances that were activated in the store, from subscriptions.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="stripe.requested",
        partitions=6,
        key="mandate id",
        groups=("payments",),
        events=(STRIPE_REQUESTED_V1,),
        description="What is to be done with subscriptions at Stripe, from subscriptions.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="stripe.settled",
        partitions=6,
        key="mandate id",
        groups=("subscriptions",),
        events=(STRIPE_SETTLED_V1,),
        description="What became of it, from payments.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="stripe.observed",
        partitions=6,
        key="mandate id",
        groups=("subscriptions",),
        events=(STRIPE_OBSERVED_V1,),
        description="Subscriptions, their checkouts and invoices as payments fetched them from Stripe.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="quantity.requested",
        partitions=6,
        key="mandate id",
        groups=("payments",),
        events=(QUANTITY_REQUESTED_V1,),
        description="Members and feature instances that subscriptions are to be charged for, from subscriptions.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="quantity.settled",
        partitions=6,
        key="mandate id",
        groups=("subscriptions",),
        events=(QUANTITY_SETTLED_V1,),
        description="What became of them at Stripe, from payments.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="directory.requested",
        partitions=6,
        key="mandate id",
        groups=("gateway",),
        events=(DIRECTORY_REQUESTED_V1,),
        description="Entries that the store asks the directory to have, from subscriptions.",
        retention_ms=30 * _DAY_MS,
    ),
    SourceTopic(
        name="directory.changed",
        partitions=6,
        key="mandate id (user id for users)",
        groups=("billing", "subscriptions"),
        events=(DIRECTORY_CHANGED_V1,),
        description="Mandates, users, memberships, accesses and permissions as they are now, from the gateway.",
        # Kept for ever: a new reader builds its directory from the beginning of the topic.
        retention_ms=-1,
    ),
)

EVENTS: Final[dict[str, EventVersion]] = {event.type: event for source in SOURCES for event in source.events}

TOPICS: Final[tuple[Topic, ...]] = tuple(
    topic for source in SOURCES for topic in (source.topic(), *(source.dead_letters(group) for group in source.groups))
)


def source_topic(name: str) -> SourceTopic:
    """The topic of that name; an unknown one is a programming error."""
    return next(source for source in SOURCES if source.name == name)
