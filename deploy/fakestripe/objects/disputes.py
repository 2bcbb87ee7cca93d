"""Disputes: a card holder has a charge taken back, and the bank decides who keeps the money."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from deploy.fakestripe.listing import PAGE, table_page
from deploy.fakestripe.operation import Call, Operation, retrieval, update
from deploy.fakestripe.store import Json, Store
from deploy.fakestripe.wire import invalid

# In the smallest unit, as Stripe keeps it for each dispute whoever wins.
FEE = 1500
ANSWER_WITHIN_S = 21 * 24 * 3600
OPEN = ("needs_response", "under_review", "warning_needs_response", "warning_under_review")
_EVIDENCE = (
    "access_activity_log",
    "appeal",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
)
# What these texts bring about at Stripe in test mode.
_DECISIONS = {"winning_evidence": "won", "losing_evidence": "lost"}


def new_dispute(call: Call, charge: Json, amount: int, reason: str, *, inquiry: bool = False) -> Json:
    """Store a dispute of a charge and withdraw its money, unless the bank only inquires; emit its events."""
    card = charge["payment_method_details"].get("card")
    details = None
    if card is not None:
        kind = "inquiry" if inquiry else "chargeback"
        shown = {"brand": card["brand"], "case_type": kind, "network": card["brand"], "network_reason_code": "10.4"}
        details = {"card": shown, "type": "card"}
    dispute: Json = {
        "id": call.store.new_id("du_"),
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": charge["id"],
        "created": call.now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": call.now + ANSWER_WITHIN_S,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "network_reason_code": None,
        "payment_intent": charge["payment_intent"],
        "payment_method_details": details,
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }
    call.store.add("dispute", dispute)
    charge["disputed"] = True
    call.emit("charge.dispute.created", dispute)
    if not inquiry:
        dispute["balance_transactions"].append(_transaction(call, dispute, -amount, FEE, "Chargeback withdrawal"))
        call.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def decide(call: Call, dispute: Json, outcome: str) -> None:
    """Close a dispute as won or lost, and emit its events; an inquiry is only closed."""
    if dispute["status"].startswith("warning_"):
        dispute["status"] = "warning_closed"
        call.emit("charge.dispute.closed", dispute)
        return
    dispute |= {"status": outcome, "is_charge_refundable": False}
    call.emit("charge.dispute.closed", dispute)
    if outcome == "won":
        dispute["balance_transactions"].append(_transaction(call, dispute, dispute["amount"], 0, "Chargeback reversal"))
        call.emit("charge.dispute.funds_reinstated", dispute)


def _transaction(call: Call, dispute: Json, amount: int, fee: int, description: str) -> Json:
    fees = {"amount": fee, "application": None, "currency": dispute["currency"], "description": "Dispute fee"}
    return {
        "id": call.store.new_id("txn_"),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": call.now,
        "balance_type": "payments",
        "created": call.now,
        "currency": dispute["currency"],
        "description": description,
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [{**fees, "type": "stripe_fee"}] if fee else [],
        "net": amount - fee,
        "reporting_category": "dispute" if amount < 0 else "dispute_reversal",
        "source": dispute["id"],
        "status": "available",
        "type": "adjustment",
    }


def due_for_disputes(store: Store) -> Iterator[tuple[int, Callable[[Call], None]]]:
    """Give when the charges of cards that dispute everything are disputed."""
    for planned in store.table("planned_dispute").values():
        yield planned["due"], partial(_dispute_planned, planned)


def _dispute_planned(planned: Json, call: Call) -> None:
    del call.store.table("planned_dispute")[planned["id"]]
    charge = call.store.table("charge")[planned["id"]]
    left = charge["amount"] - charge["amount_refunded"]
    if left and not charge["disputed"]:
        new_dispute(call, charge, left, planned["reason"])


def _update(call: Call) -> Json:
    dispute = call.find("dispute", "dispute", call.path["dispute"])
    if dispute["status"] not in OPEN:
        raise invalid("This dispute is already closed.", "dispute")
    given = call.params.get("evidence", {})
    if given:
        dispute["evidence"] |= given
        dispute["evidence_details"]["has_evidence"] = True
    update(call, dispute, (), None)
    if call.params.get("submit", bool(given)):
        dispute["evidence_details"] |= {"submission_method": "manual"}
        dispute["evidence_details"]["submission_count"] += 1
        warning = dispute["status"].startswith("warning_")
        dispute["status"] = "warning_under_review" if warning else "under_review"
    call.emit("charge.dispute.updated", dispute)
    decision = _DECISIONS.get(str(given.get("uncategorized_text")))
    if decision is not None and dispute["status"] == "under_review":
        decide(call, dispute, decision)
    return dispute


def _close(call: Call) -> Json:
    """Give the dispute up, which loses it."""
    dispute = call.find("dispute", "dispute", call.path["dispute"])
    if dispute["status"] not in OPEN:
        raise invalid("This dispute is already closed.", "dispute")
    decide(call, dispute, "lost")
    return dispute


def _list(call: Call) -> Json:
    return table_page(call, "dispute", equal=_FILTERS)


_FILTERS = ("charge", "payment_intent")
_TAKES = (*(f"evidence.{name}" for name in _EVIDENCE), "metadata", "submit")
_ONE = "/v1/disputes/{dispute}"
OPERATIONS = (
    Operation("GET", "/v1/disputes", "DisputeListParams", _list, (*PAGE, "created", *_FILTERS)),
    retrieval(_ONE, "DisputeRetrieveParams", "dispute", "dispute"),
    Operation("POST", _ONE, "DisputeUpdateParams", _update, _TAKES),
    Operation("POST", f"{_ONE}/close", "DisputeCloseParams", _close),
)
