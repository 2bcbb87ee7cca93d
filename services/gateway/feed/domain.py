"""What the live feed sends to whom, and where in its topics an event stands; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import orjson

from rappen_contracts.billing.v1 import BalanceChanged
from rappen_contracts.registry import BALANCE_CHANGED_V1, SUBSCRIPTION_CHANGED_V1, source_topic
from rappen_contracts.subscription.v1 import SubscriptionChanged
from rappen_contracts.types import Contract, Money, NonNegativeBalance
from services.chassis.caller import Caller

__all__ = ["PLACES", "Place", "Positions", "Update", "mandate_of_key", "updates_of"]

# A topic and the number of a partition.
Place: TypeAlias = tuple[str, int]
# What the feed reads, in the order in which the id of an event names the positions.
PLACES: Final[tuple[Place, ...]] = tuple(
    (topic, number)
    for topic in (BALANCE_CHANGED_V1.name, SUBSCRIPTION_CHANGED_V1.name)
    for number in range(source_topic(topic).partitions)
)
_ID = re.compile(rf"[0-9]{{1,18}}(?:\.[0-9]{{1,18}}){{{len(PLACES) - 1}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Positions:
    """The next offset to be read in every partition of the feed's topics: all that a reader has to remember."""

    next: Mapping[Place, int]

    @classmethod
    def of_id(cls, text: str) -> Self | None:
        """The positions in the id of an event; None for a text that is none."""
        if not _ID.fullmatch(text):
            return None
        return cls(dict(zip(PLACES, map(int, text.split(".")), strict=True)))

    @property
    def id(self) -> str:
        """The positions as the id of an event."""
        return ".".join(str(self.next[place]) for place in PLACES)

    def after(self, place: Place, offset: int) -> "Positions":
        """The positions once the record there was read."""
        return Positions({**self.next, place: offset + 1})

    def behind(self, ends: "Positions") -> list[Place]:
        """Where there is something to read before those ends."""
        return [place for place in PLACES if self.next[place] < ends.next[place]]


@dataclass(frozen=True, slots=True)
class Update:
    """An event of the feed: its name, its data as JSON, and who may see it.

    `user_id` is the member whose account it is about, null where it concerns every member of the mandate.
    """

    name: str
    mandate_id: str
    user_id: str | None
    data: bytes

    def visible_to(self, caller: Caller) -> bool:
        """Whether it is in the caller's scope: of a mandate that they are a member of, and of their own account unless
        they administer the mandate."""
        if caller.system_admin:
            return True
        administers = caller.mandates.get(self.mandate_id)
        return administers is not None and (administers or self.user_id in (None, caller.user_id))


def mandate_of_key(key: bytes | None) -> str:
    """The mandate in a record's key, which in `balance.changed` names the account too."""
    return (key or b"").decode("utf-8", "replace").partition("/")[0]


def updates_of(event: Contract, *, known_transactions: Mapping[str, int]) -> list[Update]:
    """What a record of the topics tells: a balance, with an event beside it where transactions came, or a subscription.

    `known_transactions` has how many transactions an account had when it was last told of.
    """
    if isinstance(event, BalanceChanged):
        return _of_balance(event, known_transactions)
    if isinstance(event, SubscriptionChanged):
        return [_of_subscription(event)]
    return []


def _of_balance(event: BalanceChanged, known_transactions: Mapping[str, int]) -> list[Update]:
    account = {
        "mandateId": event.mandate_id,
        "accountId": event.account_id,
        "accountType": event.account_type,
        "userId": event.user_id,
    }
    balance = {**account, "balance": _money(event.balance), "heldAmount": _money(event.held), "version": event.version}
    updates = [Update("balance", event.mandate_id, event.user_id, orjson.dumps(balance))]
    if event.rows is not None and event.rows != known_transactions.get(event.account_id):
        transactions = orjson.dumps({**account, "transactionCount": event.rows})
        updates.append(Update("transaction", event.mandate_id, event.user_id, transactions))
    return updates


def _of_subscription(event: SubscriptionChanged) -> Update:
    data = {
        "mandateId": event.mandate_id,
        "subscriptionId": event.subscription_id,
        "status": event.to_state,
        "planKey": event.plan.key,
        "operative": event.operative,
        "currentPeriodStart": event.period_start,
        "currentPeriodEnd": event.period_end,
        "version": event.version,
    }
    return Update("subscription", event.mandate_id, None, orjson.dumps(data, option=orjson.OPT_UTC_Z))


def _money(money: Money | NonNegativeBalance) -> dict[str, Any]:
    return {"amount": f"{money.amount:.6f}", "currency": money.currency}
