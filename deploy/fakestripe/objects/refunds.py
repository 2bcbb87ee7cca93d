"""Refunds, whole or in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from deploy.fakestripe.listing import PAGE, table_page
from deploy.fakestripe.objects.given import own
from deploy.fakestripe.objects.payment_methods import named_card
from deploy.fakestripe.operation import Call, Operation, merged_metadata, retrieval, update
from deploy.fakestripe.store import Json, Store
from deploy.fakestripe.wire import invalid

# By its own clock, from when a refund is made to when it is decided, for the cards whose refunds are decided later.
DECIDED_AFTER_S = 3600
TWINT_REFUNDABLE_S = 180 * 24 * 3600
_FILTERS = ("charge", "payment_intent")


def _create(call: Call) -> Json:
    params = call.params
    charge = _charge(call)
    if _is_twint(charge) and call.now - charge["created"] > TWINT_REFUNDABLE_S:
        raise invalid(f"Charge {charge['id']} is too old: TWINT gives money back for 180 days.", "charge")
    open_amount = charge["amount"] - charge["amount_refunded"]
    if charge["status"] != "succeeded":
        raise invalid(f"Charge {charge['id']} has the status {charge['status']} and cannot be refunded.")
    if open_amount == 0:
        raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if any(row["charge"] == charge["id"] and not row["is_charge_refundable"] for row in _disputes(call)):
        raise invalid(f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    amount = params.get("amount", open_amount)
    if amount < 1:
        raise invalid("Invalid positive integer", "amount", "parameter_invalid_integer")
    if amount > open_amount:
        message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({open_amount})"
        raise invalid(message, "amount")
    refund = _new_refund(call, charge, amount, merged_metadata({}, params.get("metadata")))
    _plan(call, charge, refund)
    before = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    call.emit("refund.created", refund)
    call.emit("charge.refunded", charge, {name: old for name, old in before.items() if charge[name] != old})
    return refund


def _is_twint(charge: Json) -> bool:
    return bool(charge["payment_method_details"]["type"] == "twint")


def _disputes(call: Call) -> list[Json]:
    return [row for row in own(call.store, "dispute") if row["status"] != "won"]


def _plan(call: Call, charge: Json, refund: Json) -> None:
    """Let the refund be decided later where the card is one whose refunds are."""
    row = call.store.table("test_card").get(charge["payment_method"])
    card = None if row is None else named_card(row["card"])
    if card is None or card.refund is None:
        return
    outcome = "succeeded" if card.refund == "pending" else "failed"
    if card.refund == "pending":
        refund["status"] = "pending"
    call.store.add("planned_refund", {"id": refund["id"], "due": call.now + DECIDED_AFTER_S, "outcome": outcome})


def decide(call: Call, refund: Json, outcome: str) -> None:
    """Give a refund another status; the money of one that fails or is cancelled is the account's again."""
    was_open = refund["status"] in ("pending", "requires_action", "succeeded")
    previous = {"status": refund["status"]}
    refund["status"] = outcome
    if outcome == "failed":
        refund["failure_reason"] = "unknown"
    charge = call.store.table("charge")[refund["charge"]]
    if outcome in ("failed", "canceled") and was_open:
        charge["amount_refunded"] -= refund["amount"]
        charge["refunded"] = False
    call.emit("refund.updated", refund, previous)
    call.emit("charge.refund.updated", refund, previous)
    if outcome == "failed":
        call.emit("refund.failed", refund)


def due_for_refunds(store: Store) -> Iterator[tuple[int, Callable[[Call], None]]]:
    """Give when refunds that are decided later are decided."""
    for planned in store.table("planned_refund").values():
        yield planned["due"], partial(_decide_planned, planned)


def _decide_planned(planned: Json, call: Call) -> None:
    del call.store.table("planned_refund")[planned["id"]]
    refund = call.store.table("refund")[planned["id"]]
    if refund["status"] in ("pending", "succeeded"):
        decide(call, refund, planned["outcome"])


def _cancel(call: Call) -> Json:
    refund = call.find("refund", "refund", call.path["refund"])
    if refund["status"] != "requires_action":
        raise invalid("Only a refund that requires action can be canceled.", "refund")
    decide(call, refund, "canceled")
    return refund


def _new_refund(call: Call, charge: Json, amount: int, metadata: Json) -> Json:
    kind = charge["payment_method_details"]["type"]
    details: Json = {"type": kind}
    if kind == "card":
        reference = "acquirer_reference_number"
        details["card"] = {"reference_status": "pending", "reference_type": reference, "type": "refund"}
    elif kind == "twint":
        details["twint"] = {}
    return call.store.add(
        "refund",
        {
            "id": call.store.new_id("re_"),
            "object": "refund",
            "amount": amount,
            "balance_transaction": None,
            "charge": charge["id"],
            "created": call.now,
            "currency": charge["currency"],
            "destination_details": details,
            "metadata": metadata,
            "payment_intent": charge["payment_intent"],
            "reason": call.params.get("reason"),
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": "succeeded",
            "transfer_reversal": None,
        },
    )


def _charge(call: Call) -> Json:
    """Return the charge the request names, directly or by the payment intent it paid."""
    params = call.params
    if ("charge" in params) == ("payment_intent" in params):
        raise invalid("One of the following params should be provided: `payment_intent` or `charge`.")
    if "charge" in params:
        return call.refer("charge", "charge", params["charge"], "charge")
    intent = call.refer("payment_intent", "payment_intent", params["payment_intent"], "payment_intent")
    if intent["latest_charge"] is None or intent["status"] != "succeeded":
        message = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        raise invalid(message, "payment_intent", "payment_intent_unexpected_state")
    return call.refer("charge", "charge", intent["latest_charge"], "payment_intent")


def _update(call: Call) -> Json:
    refund = call.find("refund", "refund", call.path["refund"])
    return update(call, refund, (), "refund.updated")


def _list(call: Call) -> Json:
    return table_page(call, "refund", equal=_FILTERS)


OPERATIONS = (
    Operation("POST", "/v1/refunds", "RefundCreateParams", _create, (*_FILTERS, "amount", "metadata", "reason")),
    Operation("GET", "/v1/refunds", "RefundListParams", _list, (*PAGE, "created", *_FILTERS)),
    retrieval("/v1/refunds/{refund}", "RefundRetrieveParams", "refund", "refund"),
    Operation("POST", "/v1/refunds/{refund}", "RefundUpdateParams", _update, ("metadata",)),
    Operation("POST", "/v1/refunds/{refund}/cancel", "RefundCancelParams", _cancel),
)
