"""What the store knows and decides; pure, so that each rule and each step of an activation can be tested without
I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Literal, NamedTuple
from uuid import UUID, uuid5

__all__ = [
    "ACTIVE",
    "OPEN",
    "Activation",
    "ActivationState",
    "Failure",
    "Feature",
    "OpenRemoval",
    "Plight",
    "Reason",
    "Step",
    "instance_request",
    "is_applied",
    "next_step",
    "personal_ids",
    "reason_against",
    "removal_request",
]

ActivationState = Literal["PROVISIONING", "BILLING", "ACTIVE", "ROLLING_BACK", "ROLLED_BACK"]
Failure = Literal["DECLINED", "UNAVAILABLE", "TIMED_OUT"]
Reason = Literal["NO_ADMIN", "NO_SUBSCRIPTION", "STRIPE_INCOMPLETE", "LIMIT_REACHED"]

# On the way, forwards or back.
OPEN: tuple[ActivationState, ...] = ("PROVISIONING", "BILLING", "ROLLING_BACK")
# Begun and not given up: for these a key stands.
ACTIVE: tuple[ActivationState, ...] = ("PROVISIONING", "BILLING", "ACTIVE")

_PERSONAL = UUID("0b0c5f4e-64a7-4d0a-8a43-6a3b7f1b9d02")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A feature that the platform has; texts by language."""

    code: str
    shown: bool
    label: Mapping[str, str]
    description: Mapping[str, str]
    icon: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A feature instance on its way to be active. `price` is CHF for one instance and period; where it is above zero
    and the plan is charged at Stripe, it is `paid_at_once`."""

    instance_id: UUID
    mandate_id: str
    user_id: str
    feature_code: str
    label_de: str
    label_en: str
    subscription_id: UUID
    price: Decimal
    billing_period: Literal["month", "year"]
    paid_at_once: bool
    state: ActivationState
    failure: Failure | None
    quantity_version: int | None
    language: str
    cause: str
    deadline_at: datetime

    @property
    def label(self) -> str:
        """The instance's label, in the language of who activates it."""
        return self.label_de if self.language == "de" else self.label_en


@dataclass(frozen=True, slots=True)
class Plight:
    """What the directory has of an instance: `provisioned` with its first access, or `gone` with all of them. Where the
    instance is gone and accesses are not, `left` is the version of the newest of them."""

    provisioned: bool
    gone: bool
    left: int | None = None


class Step(Enum):
    """What is to be done with an activation."""

    WAIT = "wait"
    PAY = "pay"
    FINISH = "finish"
    ROLL_BACK = "roll back"
    RELEASE = "release"
    CLOSE = "close"


def next_step(activation: Activation, plight: Plight, *, now: datetime) -> Step:
    """The one thing that an activation on its way is ready for. Whoever asked has stopped waiting at the deadline, so
    what is not done by then is undone."""
    if activation.state == "ROLLING_BACK":
        if plight.gone:
            return Step.CLOSE
        return Step.WAIT if plight.left is None else Step.RELEASE
    if activation.state not in ("PROVISIONING", "BILLING"):
        return Step.WAIT
    if activation.deadline_at <= now:
        return Step.ROLL_BACK
    if activation.state == "BILLING" or not plight.provisioned:
        return Step.WAIT
    return Step.PAY if activation.paid_at_once else Step.FINISH


class OpenRemoval(NamedTuple):
    """An access on its way out, with the instance where it was the last; what the directory has of both."""

    id: UUID
    instance_removed: bool
    holds: bool
    stands: bool


def removal_request(removal_id: UUID) -> UUID:
    """The id of what the directory is asked for in a removal."""
    return uuid5(removal_id, "request")


def is_applied(removal: OpenRemoval, told: Collection[tuple[str, str]]) -> bool:
    """Whether the directory has carried it out: nothing is there any more, or it has just told so (`told` are causes
    with the kinds of their entries), whoever gave the access again since."""
    cause = str(removal_request(removal.id))
    access_gone = not removal.holds or (cause, "feature_access") in told
    instance_gone = not removal.stands or (cause, "feature_instance") in told
    return access_gone and (instance_gone or not removal.instance_removed)


def reason_against(
    *, administers: bool, operative: bool, stripe_complete: bool, limit: int | None, in_use: int
) -> Reason | None:
    """Why one more instance may not be activated, the first reason that applies; None where it may."""
    if not administers:
        return "NO_ADMIN"
    if not operative:
        return "NO_SUBSCRIPTION"
    if not stripe_complete:
        return "STRIPE_INCOMPLETE"
    return None if limit is None or in_use < limit else "LIMIT_REACHED"


def instance_request(instance_id: UUID, step: str) -> UUID:
    """The id of what the directory is asked for in a step of an activation: asking twice asks once."""
    return uuid5(instance_id, step)


def personal_ids(user_id: str) -> tuple[UUID, UUID, UUID]:
    """The ids of a user's personal mandate, of its trial, and of the request for it."""
    mandate_id = uuid5(_PERSONAL, user_id)
    return mandate_id, uuid5(mandate_id, "trial"), uuid5(mandate_id, "request")
