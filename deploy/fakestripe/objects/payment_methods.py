"""Payment methods: the test cards Stripe publishes, by their `pm_card_...` names and by their numbers, and TWINT."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from deploy.fakestripe.listing import PAGE, table_page
from deploy.fakestripe.operation import Call, Operation, retrieval, update
from deploy.fakestripe.store import Json
from deploy.fakestripe.wire import StripeError, invalid

_MESSAGES = {
    "card_declined": "Your card was declined.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "setup_intent_authentication_failure": "We are unable to authenticate your payment method.",
    "payment_intent_authentication_failure": "We are unable to authenticate your payment method.",
    "authentication_required": "Your card was declined. This transaction requires authentication.",
    "payment_intent_mandate_invalid": "The provided mandate is invalid.",
    "payment_method_provider_decline": "The payment was declined by its provider or the customer.",
}


@dataclass(frozen=True)
class TestCard:
    """A published test card and how it behaves, or what stands for TWINT's app in its place (`kind`).

    `code` and `decline_code` are set for cards whose charges fail. Most of these cannot be attached to a customer
    either; 0341 can. `authentication` says when the holder must confirm: `always`, or `unless_saved` for
    off-session use. `alone` is the decline code of charges at which the holder is not present, such as renewals;
    `dispute` why the holder has a paid charge taken back a day later, `refund` how refunds go: `pending` or `failing`.
    """

    name: str
    number: str
    brand: str = "visa"
    kind: str = "card"
    code: str | None = None
    decline_code: str | None = None
    attachable: bool = True
    authentication: str | None = None
    alone: str | None = None
    dispute: str | None = None
    refund: str | None = None


def _declining(name: str, number: str, decline_code: str | None, code: str = "card_declined") -> TestCard:
    return TestCard(name, number, code=code, decline_code=decline_code, attachable=False)


GOOD_CARD = TestCard("pm_card_visa", "4242424242424242")
DECLINED_CARD = _declining("pm_card_chargeDeclined", "4000000000000002", "generic_decline")
CARDS = (
    GOOD_CARD,
    DECLINED_CARD,
    TestCard("pm_card_visa_debit", "4000056655665556"),
    TestCard("pm_card_mastercard", "5555555555554444", "mastercard"),
    TestCard("pm_card_amex", "378282246310005", "amex"),
    TestCard("pm_card_ch", "4000007560000009"),
    _declining("pm_card_visa_chargeDeclined", "4000000000000002", "generic_decline"),
    _declining("pm_card_chargeDeclinedInsufficientFunds", "4000000000009995", "insufficient_funds"),
    _declining("pm_card_visa_chargeDeclinedInsufficientFunds", "4000000000009995", "insufficient_funds"),
    _declining("pm_card_visa_chargeDeclinedLostCard", "4000000000009987", "lost_card"),
    _declining("pm_card_visa_chargeDeclinedStolenCard", "4000000000009979", "stolen_card"),
    _declining("pm_card_chargeDeclinedExpiredCard", "4000000000000069", None, "expired_card"),
    _declining("pm_card_chargeDeclinedIncorrectCvc", "4000000000000127", None, "incorrect_cvc"),
    _declining("pm_card_chargeDeclinedProcessingError", "4000000000000119", None, "processing_error"),
    TestCard("pm_card_chargeCustomerFail", "4000000000000341", code="card_declined", decline_code="generic_decline"),
    TestCard("pm_card_authenticationRequired", "4000002760003184", authentication="always"),
    TestCard("pm_card_authenticationRequiredOnSetup", "4000002500003155", authentication="unless_saved"),
    TestCard("pm_card_createDispute", "4000000000000259", dispute="fraudulent"),
    TestCard("pm_card_createDisputeProductNotReceived", "4000000000002685", dispute="product_not_received"),
    TestCard("pm_card_pendingRefund", "4000000000007726", refund="pending"),
    TestCard("pm_card_refundFail", "4000000000005126", refund="failing"),
    # Stripe has no such card: it pays while its holder is there, and not at a renewal.
    TestCard("pm_card_failsAtRenewal", "4000000000000408", alone="insufficient_funds"),
)
# The holder confirms in the app, also that it may be charged later; then it is, until they revoke that.
TWINT = TestCard("twint", "", kind="twint", authentication="unless_saved")
DECLINED_TWINT = TestCard("twint_declined", "", kind="twint", code="payment_method_provider_decline", attachable=False)
REVOKED_TWINT = TestCard("twint_revoked", "", kind="twint", code="payment_intent_mandate_invalid")
_BANK_ACCOUNT = "DE89370400440532013000"
_BY_NAME = {card.name: card for card in CARDS}
_BEHAVIOURS = _BY_NAME | {card.name: card for card in (TWINT, DECLINED_TWINT, REVOKED_TWINT)}
# The first name of a number is the one the hosted page means.
_BY_NUMBER = {card.number: card for card in reversed(CARDS)}


def card_by_number(digits: str) -> TestCard | None:
    """Return the test card with this number, if there is one."""
    return _BY_NUMBER.get(digits)


def card_of(call: Call, method: Json) -> TestCard:
    """Return how the card behind a payment method behaves; a bank debit that was saved pays like a good one."""
    row = call.store.table("test_card").get(method["id"])
    return GOOD_CARD if row is None else _BEHAVIOURS[row["card"]]


def obtain(call: Call, key: str) -> Json:
    """Return the payment method with this id; the name of a test card makes a new one, as Stripe does."""
    card = _BY_NAME.get(key)
    if card is None:
        return call.refer("payment_method", "PaymentMethod", key, "payment_method")
    return new_card(call, card)


def new_card(call: Call, card: TestCard, email: str | None = None) -> Json:
    """Store a payment method that stands for a test card, or for TWINT."""
    method = _new_method(call, card.kind, email)
    method[card.kind] = card_details(card) if card.kind == "card" else {}
    call.store.add("test_card", {"id": method["id"], "card": card.name})
    return method


def new_bank_debit(call: Call, email: str | None) -> Json:
    """Store a payment method whose money comes later or never."""
    method = _new_method(call, "sepa_debit", email)
    method["sepa_debit"] = {
        "bank_code": "37040044",
        "branch_code": "",
        "country": "DE",
        "fingerprint": _fingerprint(_BANK_ACCOUNT),
        "generated_from": {"charge": None, "setup_attempt": None},
        "last4": "3000",
    }
    return method


def _new_method(call: Call, kind: str, email: str | None) -> Json:
    return call.store.add(
        "payment_method",
        {
            "id": call.store.new_id("pm_"),
            "object": "payment_method",
            "allow_redisplay": "unspecified",
            "billing_details": billing_details(email),
            "created": call.now,
            "customer": None,
            "livemode": False,
            "metadata": {},
            "type": kind,
        },
    )


def billing_details(email: str | None) -> Json:
    """Build the billing details of a payer of whom only the address for mail is known."""
    address = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}
    return {"address": address, "email": email, "name": None, "phone": None, "tax_id": None}


def card_details(card: TestCard) -> Json:
    """Build the members of a card a payment method shows."""
    return {
        "brand": card.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "CH" if card.name == "pm_card_ch" else "US",
        "display_brand": card.brand,
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": _fingerprint(card.number),
        "funding": "debit" if card.name.endswith("_debit") else "credit",
        "generated_from": None,
        "last4": card.number[-4:],
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def _fingerprint(number: str) -> str:
    return hashlib.sha256(number.encode()).hexdigest()[:16]


def attach(call: Call, method: Json, customer: str) -> None:
    """Attach a payment method to a customer, and emit its event."""
    method["customer"] = customer
    call.emit("payment_method.attached", method)


def refuse_attaching(call: Call, method: Json) -> None:
    """Answer 402 for a card that Stripe would not let be saved, before anything is changed."""
    card = card_of(call, method)
    if not card.attachable:
        raise StripeError(402, decline_message(card), kind="card_error", code=card.code, extra=decline_members(card))


def named_card(name: str) -> TestCard | None:
    """Return the test card of this name, if there is one."""
    return _BY_NAME.get(name)


def decline_members(card: TestCard) -> Json:
    """Return the members of a card error that depend on the card."""
    return {"decline_code": card.decline_code} if card.decline_code else {}


def decline_message(card: TestCard) -> str:
    """Return the sentence for the card holder."""
    if card.decline_code == "insufficient_funds":
        return "Your card has insufficient funds."
    return message_of(card.code or "card_declined")


def message_of(code: str) -> str:
    """Return the sentence for an error code."""
    return _MESSAGES[code]


def _attach(call: Call) -> Json:
    if "customer" not in call.params:
        raise invalid("Missing required param: customer.", "customer", "parameter_missing")
    customer = call.refer("customer", "customer", call.params["customer"], "customer")
    method = obtain(call, call.path["payment_method"])
    if method["customer"] not in (None, customer["id"]):
        message = "The payment method you provided has already been attached to a customer."
        raise invalid(message, "payment_method")
    refuse_attaching(call, method)
    if method["customer"] is None:
        attach(call, method, customer["id"])
    return method


def _detach(call: Call) -> Json:
    method = call.find("payment_method", "PaymentMethod", call.path["payment_method"])
    if method["customer"] is None:
        raise invalid("The payment method you provided is not attached to a customer so detachment is impossible.")
    customer = call.store.table("customer")[method["customer"]]
    method["customer"] = None
    if not customer.get("deleted") and customer["invoice_settings"]["default_payment_method"] == method["id"]:
        customer["invoice_settings"]["default_payment_method"] = None
    call.emit("payment_method.detached", method, {"customer": customer["id"]})
    return method


def _list(call: Call) -> Json:
    return table_page(call, "payment_method", equal=("customer", "type"))


def _update(call: Call) -> Json:
    method = call.find("payment_method", "PaymentMethod", call.path["payment_method"])
    return update(call, method, ("allow_redisplay",), "payment_method.updated")


_ONE = "/v1/payment_methods/{payment_method}"
OPERATIONS = (
    Operation("GET", "/v1/payment_methods", "PaymentMethodListParams", _list, (*PAGE, "customer", "type")),
    retrieval(_ONE, "PaymentMethodRetrieveParams", "payment_method", "PaymentMethod"),
    Operation("POST", _ONE, "PaymentMethodUpdateParams", _update, ("allow_redisplay", "metadata")),
    Operation("POST", f"{_ONE}/attach", "PaymentMethodAttachParams", _attach, ("customer",)),
    Operation("POST", f"{_ONE}/detach", "PaymentMethodDetachParams", _detach),
)
