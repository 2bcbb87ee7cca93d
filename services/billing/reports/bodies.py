"""Response models of the routes of balances, accounts and transactions."""

from typing import Literal

from services.billing.ledger.domain import BillingModel, ReferenceType, TransactionType
from services.chassis.bodies import Amount, AnswerBody, Currency, Time

__all__ = ["Account", "Balance", "Markup", "MovementRow"]


class Balance(AnswerBody):
    """A balance as its mandate's member sees it."""

    mandate_id: str
    mandate_name: str
    billing_model: BillingModel
    balance: Amount
    currency: Currency
    warning_threshold: Amount
    is_warning: bool
    credit_limit: Amount | None


class Account(AnswerBody):
    """The pool (userId null) or a member's account."""

    id: str
    mandate_id: str
    user_id: str | None
    balance: Amount
    warning_threshold: Amount
    enabled: bool
    account_type: Literal["MANDATE", "USER"]
    credit_limit: Amount | None
    held_amount: Amount


class Markup(AnswerBody):
    """The markup in force, in percent."""

    percent: Amount


class MovementRow(AnswerBody):
    """One row of the ledger."""

    id: str
    account_id: str
    transaction_type: TransactionType
    amount: Amount
    description: str
    reference_type: ReferenceType
    reference_id: str | None
    workflow_id: str | None
    feature_code: str | None
    feature_instance_id: str | None
    aicore_provider: str | None
    aicore_model: str | None
    created_by_user_id: str | None
    created_at: Time
    recorded_at: Time
    mandate_id: str
    mandate_name: str
    balance_after: Amount | None
    processing_time: Amount | None
    bytes_sent: int | None
    bytes_received: int | None
    error_count: int | None
    input_tokens: int | None
    output_tokens: int | None
