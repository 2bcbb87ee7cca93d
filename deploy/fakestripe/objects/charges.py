"""Charges: what each attempt to take money left behind."""

from __future__ import annotations

from deploy.fakestripe.listing import PAGE, table_page
from deploy.fakestripe.objects.mandates import mandate_of
from deploy.fakestripe.objects.payment_methods import billing_details, card_details, card_of
from deploy.fakestripe.operation import Call, Operation, retrieval, update
from deploy.fakestripe.store import Json, Store

# The members of a card that a charge repeats; the others belong to the payment method alone.
_CARD_MEMBERS = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "wallet")
_FILTERS = ("customer", "payment_intent")
_WRITABLE = ("description", "receipt_email", "shipping")
_OUTCOMES = {
    "succeeded": ("authorized", "approved_by_network", "Payment complete."),
    "pending": ("authorized", "approved_by_network", "Payment pending."),
    "failed": ("issuer_declined", "declined_by_network", "The bank did not accept the payment."),
}


def new_charge(call: Call, intent: Json, method: Json, status: str, failure: Json | None = None) -> Json:
    """Store the charge of one attempt and make it the intent's latest; a failure brings code and message."""
    charge: Json = {
        "id": call.store.new_id("ch_"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"] or billing_details(None),
        "calculated_statement_descriptor": "RAPPEN",
        "captured": False,
        "created": call.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": _method_details(call, intent, method),
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": status,
        "transfer_data": None,
        "transfer_group": None,
    }
    settle_charge(charge, status, failure)
    intent["latest_charge"] = charge["id"]
    call.store.add("charge", charge)
    call.emit(f"charge.{status}", charge)
    return charge


def settle_charge(charge: Json, status: str, failure: Json | None = None) -> None:
    """Give a charge its status and everything that follows from it."""
    kind, network_status, message = _OUTCOMES[status]
    charge["status"] = status
    charge["captured"] = status != "failed"
    charge["amount_captured"] = charge["amount"] if status != "failed" else 0
    charge["paid"] = status != "failed"
    charge["outcome"] = {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": network_status,
        "reason": failure.get("decline_code") or failure["code"] if failure else None,
        "risk_level": "normal",
        "risk_score": 12,
        "seller_message": message,
        "type": kind,
    }
    if failure is not None:
        charge["failure_code"], charge["failure_message"] = failure["code"], failure["message"]


def refunds_of(store: Store, charge: Json) -> Json:
    """Build the list of a charge's refunds, which is there only when it is expanded."""
    rows = [row for row in reversed(store.table("refund").look()) if row["charge"] == charge["id"]]
    url = f"/v1/charges/{charge['id']}/refunds"
    return {"object": "list", "data": rows[:10], "has_more": len(rows) > 10, "url": url}


def _method_details(call: Call, intent: Json, method: Json) -> Json:
    kind = method["type"]
    if kind == "twint":
        mandate = mandate_of(call, method)
        return {kind: {} if mandate is None else {"mandate": mandate["id"]}, "type": kind}
    if kind != "card":
        shown = {name: value for name, value in method[kind].items() if name != "generated_from"}
        return {kind: {**shown, "mandate": None}, "type": kind}
    card = card_details(card_of(call, method))
    shown = {name: card[name] for name in _CARD_MEMBERS}
    shown |= {
        "amount_authorized": intent["amount"],
        "authorization_code": None,
        "installments": None,
        "mandate": None,
        "network": card["brand"],
        "network_transaction_id": None,
        "three_d_secure": None,
    }
    return {"card": shown, "type": "card"}


def _list(call: Call) -> Json:
    return table_page(call, "charge", equal=_FILTERS)


def _update(call: Call) -> Json:
    charge = call.find("charge", "charge", call.path["charge"])
    return update(call, charge, _WRITABLE, "charge.updated")


OPERATIONS = (
    Operation("GET", "/v1/charges", "ChargeListParams", _list, (*PAGE, "created", *_FILTERS)),
    retrieval("/v1/charges/{charge}", "ChargeRetrieveParams", "charge", "charge"),
    Operation("POST", "/v1/charges/{charge}", "ChargeUpdateParams", _update, ("metadata", *_WRITABLE)),
)
