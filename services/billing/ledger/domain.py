"""What a posting is and how it moves a balance: pure, exact, the same for every kind of ledger row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from hashlib import sha1
from typing import Any, Literal, NamedTuple, Protocol, Self
from uuid import UUID

import msgspec

from rappen_contracts.types import since_epoch
from services.billing.money import Exact

__all__ = [
    "BALANCE_MAX",
    "BEYOND_BALANCE_MAX",
    "LEDGER_NAMESPACE",
    "AccountType",
    "BillingModel",
    "ContraAccount",
    "GrantKind",
    "LockedAccount",
    "LockedGrant",
    "Posting",
    "ReferenceType",
    "Spent",
    "StoredContraAccount",
    "TransactionType",
    "UsageDetails",
    "charged_account_type",
    "hold_id",
    "hold_mandate_no",
    "movement",
    "own_id",
    "transaction_id",
    "transaction_id_text",
    "transaction_place",
]

BillingModel = Literal["PREPAY_MANDATE", "PREPAY_USER", "CREDIT_POSTPAY", "UNLIMITED"]
TransactionType = Literal["CREDIT", "DEBIT", "ADJUSTMENT"]
ReferenceType = Literal["WORKFLOW", "PAYMENT", "ADMIN", "SYSTEM", "SUBSCRIPTION", "STORAGE"]
# What was given: the budget of a plan, or a promotion.
GrantKind = Literal["BUDGET", "PROMOTION"]
# The other side of a posting, as an account of each mandate.
StoredContraAccount = Literal[
    "PAYMENT_PROVIDER", "SUBSCRIPTION_GRANT", "PROMOTIONAL", "ADMIN", "INTERNAL", "TAKE_OVER", "TRANSFER"
]
# REVENUE has no account row, because every charge would lock it: its balance is the sum of the rollups.
ContraAccount = StoredContraAccount | Literal["REVENUE"]
AccountType = Literal["MANDATE", "USER"] | StoredContraAccount

# No balance goes further from zero, in micro-CHF: three million million francs. Usage of one member falls on at most
# three accounts (its own, the pool, the internal one), so the sums of the rollups stay within 64 bits too.
BALANCE_MAX = 3 * 10**18
BEYOND_BALANCE_MAX = "with this amount the balance would leave the range of the ledger"

# Event ids of movements without an event of their own are derived from what happened, so that it is posted once.
LEDGER_NAMESPACE = UUID("7e2f4a1c-52b7-5d0e-9c64-0b6f5b3f2a10")
_NAMESPACE = LEDGER_NAMESPACE.bytes
# Of an id, all but its version and variant.
_NAMED_BITS = (1 << 128) - 1 ^ 0xF << 76 ^ 0b11 << 62


def charged_account_type(model: BillingModel) -> AccountType:
    """The type of the account that usage is posted to: the member's, the pool, or the mandate's internal one."""
    if model == "PREPAY_USER":
        return "USER"
    return "INTERNAL" if model == "UNLIMITED" else "MANDATE"


def movement(transaction_type: TransactionType, amount: int) -> int:
    """The change of the posted account's balance, in micro-CHF; an adjustment's amount has its own sign."""
    return -amount if transaction_type == "DEBIT" else amount


@dataclass(slots=True)
class LockedGrant:
    """A part of a balance that was given until a time, or for good, under the lock of its mandate."""

    mandate_no: int
    no: int
    account_no: int
    kind: GrantKind
    amount: int
    remaining: int
    expires_at: datetime | None
    contra_account: StoredContraAccount
    reference_type: ReferenceType
    reference_id: str | None
    description: str
    changed: bool = False

    def is_over(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now

    def is_due(self, now: datetime) -> bool:
        """Whether something remains although its time is over."""
        return self.remaining > 0 and self.is_over(now)


class Spent(NamedTuple):
    """What a charge was paid from, in micro-CHF: paid credit, and grants by their numbers."""

    paid: int
    grants: Mapping[int, int]

    @property
    def total(self) -> int:
        """What was paid in all."""
        return self.paid + sum(self.grants.values())


@dataclass(slots=True)
class LockedAccount:
    """An account under the lock of its mandate: nobody else moves it until this transaction ends."""

    mandate_no: int
    no: int
    type: AccountType
    user_id: str | None
    balance: int
    held: int
    rounding_remainder: Exact
    seq: int
    # The sum of what remains of its grants, and those that were read, in the order in which they are spent.
    granted: int = 0
    # Whether it is noted as low, and the balance at or under which it is; None where no balance is low.
    low: bool = False
    low_at: int | None = None
    grants: list[LockedGrant] = field(default_factory=list)
    moved: int = 0
    rows: int = 0
    # Whether a row was a credit, which is what the balance at which it is low follows.
    credited: bool = False
    # The workflows of its rows, each once.
    workflow_ids: dict[str, None] = field(default_factory=dict)
    # The rounding remainder as text, once somebody needed that: what a row leaves, the next one begins with.
    remainder_text: str | None = None

    def move(self, by: int) -> None:
        """Applies one row: the balance changes, the account's sequence grows by one."""
        self.balance += by
        self.moved += by
        self.seq += 1
        self.rows += 1

    @property
    def crosses(self) -> bool:
        """Whether it has become low or is low no more by what has moved; also where that is not known here."""
        return self.credited or self.low != (self.low_at is not None and self.balance <= self.low_at)


class UsageDetails(Protocol):
    """What the row of a charge, for usage or storage, has beside its posting."""

    def measured(self) -> Sequence[int | None]:
        """Processing time (ms), bytes sent and received, errors, tokens sent to the provider and received from it."""
        ...

    def explain(self, remainder_before: str, remainder_after: str) -> bytes:
        """How the amount came about, as JSON, with the account's rounding remainders before and after it, as
        `remainder_text` writes them."""
        ...


# A struct, because one is made for each charge, which takes a third of the time that an object of a data class takes.
class Posting(msgspec.Struct, gc=False):
    """A transfer of value between an account and its contra account, which becomes one row of the ledger.

    `amount` is whole micro-CHF; where there is none, `price` is an exact one, which is rounded once, with the remainder
    of the posted account: that of usage, or, of an adjustment, by how much the price of its charge grows. Against
    REVENUE a posting has a dimension and changes the rollups of its member in place of a balance; so does one that
    takes a charge back. Where `digest` is missing it is computed from the posting's own fields.
    """

    mandate_no: int
    # The 16 bytes of the id of the event that caused it: the publisher's for usage, else one made here, in an id space
    # of its own.
    event_id: bytes
    # The account of the member it is about, and the account whose balance changes.
    member_account_no: int
    posted_account_no: int
    transaction_type: TransactionType
    amount: int | None
    contra_account: ContraAccount
    reference_type: ReferenceType
    # As `since_epoch` gives it.
    occurred_at: int
    description: str | None
    digest: bytes | None = None
    dimension_no: int | None = None
    workflow_id: str | None = None
    reference_id: str | None = None
    created_by_user_id: str | None = None
    # Set for charges, and for corrections of their price.
    price: Exact | None = None
    usage: UsageDetails | None = None
    # The day on which it counts, where that is not the day of its time: a charge that is taken back counts on its own.
    period_day: date | None = None
    # By how much it changes grants of the posted account, as (number, micro-CHF); what is spent beside takes them in
    # their order.
    grants: Sequence[tuple[int, int]] = ()
    # Of what takes a charge back, in whole or in part: what the charge was paid from.
    spent: Spent | None = None
    # Of an account that the billing model does not use any more, whose money is moved on in the same transaction: on
    # the way no grant is spent, and none covers a debt.
    passing: bool = False

    @classmethod
    def own(
        cls,
        *,
        mandate_no: int,
        event_id: UUID,
        member_account_no: int,
        posted_account_no: int,
        transaction_type: TransactionType,
        amount: int,
        contra_account: ContraAccount,
        reference_type: ReferenceType,
        occurred_at: datetime,
        description: str | None,
        reference_id: str | None = None,
        created_by_user_id: str | None = None,
        grants: Sequence[tuple[int, int]] = (),
        passing: bool = False,
    ) -> Self:
        """A movement of ours, which is not usage; `amount` is micro-CHF."""
        return cls(
            mandate_no,
            event_id.bytes,
            member_account_no,
            posted_account_no,
            transaction_type,
            amount,
            contra_account,
            reference_type,
            since_epoch(occurred_at),
            description,
            reference_id=reference_id,
            created_by_user_id=created_by_user_id,
            grants=grants,
            passing=passing,
        )

    def changed(self, **changes: Any) -> Self:
        """The same posting but for these fields."""
        return msgspec.structs.replace(self, **changes)

    @property
    def identity(self) -> tuple[int, bytes]:
        """The mandate and the id of what caused it."""
        return self.mandate_no, self.event_id


def transaction_id(account_no: int, seq: int) -> UUID:
    """The public id of a row: its account and its number in that account's chain, as a UUID of version 8 (RFC 9562)."""
    return UUID(int=(account_no >> 12) << 80 | 0x8 << 76 | (account_no & 0xFFF) << 64 | 0b10 << 62 | seq)


def transaction_id_text(account_no: int, seq: int) -> str:
    """The same as text, for many at once."""
    account, number = f"{account_no >> 12:012x}", f"{1 << 63 | seq:016x}"
    return f"{account[:8]}-{account[8:]}-8{account_no & 0xFFF:03x}-{number[:4]}-{number[4:]}"


def own_id(name: str) -> bytes:
    """The id of what a name says, as `uuid5` in our namespace gives it, for many at once."""
    digest = sha1(_NAMESPACE + name.encode(), usedforsecurity=False).digest()
    return (int.from_bytes(digest[:16]) & _NAMED_BITS | 5 << 76 | 0b10 << 62).to_bytes(16)


def hold_id(mandate_no: int, random: UUID) -> UUID:
    """The public id of a hold: its mandate's number and the random bits of another id, as a UUID of version 8. It leads
    to the lock of the mandate, under which alone a hold is settled, without looking anything up."""
    return UUID(int=mandate_no << 96 | random.int & _RANDOM_BITS | 0x8 << 76 | 0b10 << 62)


_RANDOM_BITS = (1 << 96) - 1 ^ 0xF << 76 ^ 0b11 << 62
_MANDATE_NO_MAX = 2**31 - 1


def hold_mandate_no(hold: UUID) -> int | None:
    """The number of a hold's mandate; None for an id that `hold_id` cannot have made."""
    number = hold.int >> 96
    return number if hold.version == 8 and number <= _MANDATE_NO_MAX else None


def transaction_place(transaction: UUID) -> tuple[int, int] | None:
    """The account of a row and its number in the chain; None for an id that `transaction_id` cannot have made."""
    number = transaction.int
    if transaction.version != 8:
        return None
    return (number >> 80) << 12 | (number >> 64) & 0xFFF, number & (1 << 62) - 1
