"""What a ledger row is and how it moves a balance: pure, exact, the same for every kind of movement."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, NamedTuple
from uuid import UUID

__all__ = [
    "BALANCE_MAX",
    "BEYOND_BALANCE_MAX",
    "LEDGER_NAMESPACE",
    "AccountType",
    "BillingModel",
    "Counter",
    "CounterAccount",
    "LockedAccount",
    "ReferenceType",
    "Transaction",
    "TransactionType",
    "charged_account_type",
    "movement",
    "transaction_id",
    "transaction_place",
]

BillingModel = Literal["PREPAY_MANDATE", "PREPAY_USER", "CREDIT_POSTPAY", "UNLIMITED"]
TransactionType = Literal["CREDIT", "DEBIT", "ADJUSTMENT"]
ReferenceType = Literal["WORKFLOW", "PAYMENT", "ADMIN", "SYSTEM", "SUBSCRIPTION", "STORAGE"]
# Where value comes from or goes to, as an account of each mandate.
CounterAccount = Literal[
    "PAYMENT_PROVIDER", "SUBSCRIPTION_GRANT", "PROMOTIONAL", "ADMIN", "INTERNAL", "TAKE_OVER", "TRANSFER"
]
# REVENUE has no account row, because every charge would lock it: its balance is the sum of the rollups.
Counter = CounterAccount | Literal["REVENUE"]
AccountType = Literal["MANDATE", "USER"] | CounterAccount

# No balance goes further from zero, in micro-CHF: three million million francs. Usage of one member falls on at most
# three accounts (its own, the pool, the internal one), so the sums of the rollups stay within 64 bits too.
BALANCE_MAX = 3 * 10**18
BEYOND_BALANCE_MAX = "with this amount the balance would leave the range of the ledger"

# Event ids of movements that no event of its own caused are derived from what happened, so that it happens once.
LEDGER_NAMESPACE = UUID("7e2f4a1c-52b7-5d0e-9c64-0b6f5b3f2a10")


def charged_account_type(model: BillingModel) -> AccountType:
    """Whose balance usage moves: the member's, the pool's, or the mandate's internal counter-account."""
    if model == "PREPAY_USER":
        return "USER"
    return "INTERNAL" if model == "UNLIMITED" else "MANDATE"


def movement(transaction_type: TransactionType, amount: int) -> int:
    """How the moved balance changes, in micro-CHF: debits take, credits give, adjustments carry their own sign."""
    return -amount if transaction_type == "DEBIT" else amount


@dataclass(slots=True)
class LockedAccount:
    """An account under the lock of its mandate: nobody else moves it until this transaction ends."""

    mandate_no: int
    no: int
    type: AccountType
    user_id: str | None
    balance: int
    held: int
    carry: Decimal
    seq: int
    moved: int = 0
    rows: int = 0

    def move(self, by: int) -> None:
        """Applies one row: the balance changes, the account's sequence grows by one."""
        self.balance += by
        self.moved += by
        self.seq += 1
        self.rows += 1


class Transaction(NamedTuple):
    """One row of the ledger that is not usage, whose rows have more columns. Amounts are micro-CHF."""

    mandate_no: int
    event_id: UUID
    account_no: int
    moved_account_no: int
    seq: int
    transaction_type: TransactionType
    amount: int
    balance_after: int
    counter: Counter
    reference_type: ReferenceType
    occurred_at: datetime
    recorded_at: datetime
    period_day: date
    digest: bytes
    reference_id: str | None = None
    description: str | None = None
    created_by_user_id: str | None = None
    # The id was made here, in a space that no publisher of usage can name.
    own: bool = True


def transaction_id(account_no: int, seq: int) -> UUID:
    """The public id of a row: its account and place in that account's chain, as a UUID of version 8 (RFC 9562)."""
    return UUID(int=(account_no >> 12) << 80 | 0x8 << 76 | (account_no & 0xFFF) << 64 | 0b10 << 62 | seq)


def transaction_place(transaction: UUID) -> tuple[int, int] | None:
    """The account and place of a row; None for an id that is not one of ours."""
    number = transaction.int
    if transaction.version != 8:
        return None
    return (number >> 80) << 12 | (number >> 64) & 0xFFF, number & (1 << 62) - 1
