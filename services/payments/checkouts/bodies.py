"""Request and response models of the checkout routes."""

from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

from rappen_contracts.types import Money
from services.chassis.bodies import Amount, AnswerBody, RequestBody, exact_number

__all__ = ["Checkout", "CheckoutOptions", "Confirmation", "Confirmed", "Redirect", "ReturnPage"]

INTEGER_DIGITS_MAX = 14
NUMBER_END = 10**INTEGER_DIGITS_MAX

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:@|-]{1,64}$")]
Number = Annotated[
    Decimal,
    BeforeValidator(exact_number(INTEGER_DIGITS_MAX)),
    WithJsonSchema({"type": "number", "exclusiveMinimum": -NUMBER_END, "exclusiveMaximum": NUMBER_END}),
]


class CheckoutOptions(AnswerBody):
    """The amounts that can be paid in."""

    amounts: list[Money]


class Checkout(RequestBody):
    """A top-up to be paid: one of the offered amounts; `userId` is required where members have budgets of their own."""

    user_id: Identifier | None = None
    amount: Number
    # Judged later, with an error of its own.
    return_url: str
    # Whether the method it is paid by is kept for automatic recharges.
    save_payment_method: bool = False


class ReturnPage(RequestBody):
    """The page to come back to."""

    # Judged later, with an error of its own.
    return_url: str


class Redirect(AnswerBody):
    """Where the payer goes next."""

    redirect_url: str


class Confirmation(RequestBody):
    """The checkout session that the payer came back from; what cannot be one is an unknown session."""

    session_id: str


class Confirmed(AnswerBody):
    """What was credited, now or before; the amount is null while the currency that was paid is to be converted."""

    credited: bool
    already_credited: bool
    session_id: str
    mandate_id: str
    amount_chf: Amount | None
