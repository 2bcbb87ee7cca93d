"""The form in which a transaction is explained. Amounts without a currency beside them are CHF, as decimal strings;
what the event said keeps the event's own names."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from services.billing.ledger.domain import movement, transaction_id
from services.billing.money import EXACT, MICRO_PLACES, from_micro, plain
from services.billing.pricing import PriceVersion, Rate, version_to_json
from services.billing.pricing.explained import Explained
from services.billing.pricing.sheet import Selection
from services.billing.pricing.usage import Line
from services.billing.reports.transactions import has_balance, transaction_json
from services.billing.storage.derivation import ExplainedStorage, StorageTerms

__all__ = ["Payment", "Related", "StandingPrice", "explanation_json"]


class StandingPrice(NamedTuple):
    """Which of its charge's corrections a row is, the exact prices (CHF) before it, None for the first one, and from
    then on, and the re-rating that made it."""

    number: int
    before: Decimal | None
    after: Decimal
    rerating_id: UUID


class Payment(NamedTuple):
    """A payment by its reference at the payment provider: what was credited for it, None where that did not arrive,
    what the row took back, and the recharge that it paid."""

    reference: str
    credit: sa.RowMapping | None
    refund: sa.RowMapping | None
    recharge: sa.RowMapping | None


class Related(NamedTuple):
    """What stands beside a row: rows that correct it and the one that it corrects, the hold that it settled, the
    payment that it is from, the grants that it changed, each by how many micro-CHF, the line of the invoice that asks
    for it, which correction it is, and the terms of a charge of storage."""

    corrections: Sequence[sa.RowMapping]
    corrects: sa.RowMapping | None
    hold: sa.RowMapping | None
    payment: Payment | None
    grants: Sequence[tuple[sa.RowMapping, int]]
    invoice_line: sa.RowMapping | None
    standing: StandingPrice | None = None
    storage: ExplainedStorage | None = None


def explanation_json(row: sa.RowMapping, explained: Explained | None, related: Related) -> dict[str, Any]:
    """A row with all that explains it; `explained` is None for what is neither a charge of usage nor corrects one."""
    amount, storage, corrects = _amount(row["amount"]), related.storage, related.corrects
    # What corrects a charge is about the event of the charge.
    event_id = row["event_id"] if corrects is None else corrects["event_id"]
    return {
        "transaction": transaction_json(row),
        "event": None if explained is None else _event_json(row, event_id, explained),
        **_price_json(explained),
        **({} if storage is None else _part_json(storage)),
        "storage": None if storage is None or storage.terms is None else _storage_json(row, storage, storage.terms),
        "correction": _correction_of_price_json(explained, related.standing),
        "amount": amount,
        "rounding": _rounding_json(row, storage or explained),
        "grants": [_grant_json(grant, change) for grant, change in related.grants],
        "postings": [_posting_json(row)],
        "corrections": [_correction_json(each) for each in related.corrections],
        "corrects": None if related.corrects is None else _correction_json(related.corrects),
        "hold": None if related.hold is None else _hold_json(related.hold),
        "payment": None if related.payment is None else _payment_json(related.payment),
        "invoiceLine": None if related.invoice_line is None else _invoice_line_json(related.invoice_line),
        "fault": storage.fault if storage is not None else None if explained is None else explained.fault,
    }


def _event_json(row: sa.RowMapping, event_id: UUID, explained: Explained) -> dict[str, Any]:
    usage = explained.usage
    return {
        "id": str(event_id),
        "time": row["occurred_at"],
        "kind": "storage" if row["reference_type"] == "STORAGE" else "ai",
        "user_id": row["member_id"],
        "provider": row["provider"],
        "model": row["model"],
        "cost": None if usage.cost is None else {"amount": usage.cost[0], "currency": usage.cost[1]},
        "tokens": usage.tokens,
        "quantities": usage.quantities,
        "service_tier": usage.service_tier,
        "conditions": usage.conditions,
        "response_id": usage.response_id,
        "feature_code": row["feature_code"],
        "feature_instance_id": row["feature_instance_id"],
        "workflow_id": row["workflow_id"],
        "hold_id": usage.hold_id,
        "metadata": usage.metadata,
    }


def _price_json(explained: Explained | None) -> dict[str, Any]:
    """From cost to exact price, with what both follow from."""
    it = explained
    cost = None if it is None or it.cost is None else {"amount": _decimal(it.cost), "currency": it.currency}
    version = None if it is None else it.version
    return {
        "baseCost": cost,
        "lines": [] if it is None else [_line_json(line, it.priced_as) for line in it.lines],
        "selection": None if it is None or it.selection is None else _selection_json(it.selection),
        "priceVersions": [] if version is None else [_version_json(version)],
        "rate": None if it is None or it.rate is None else plain(it.rate),
        "storedRate": None if it is None or it.stored_rate is None else _rate_json(it.stored_rate),
        "markupPercent": None if it is None else it.markup,
        "exactPrice": None if it is None or it.exact is None else _decimal(it.exact),
        "carryBefore": None if it is None or it.carry_before is None else _decimal(it.carry_before),
        "carryAfter": None if it is None or it.carry_after is None else _decimal(it.carry_after),
    }


def _line_json(line: Line, priced_as: Mapping[str, str]) -> dict[str, Any]:
    component, count, unit_price, factor = line
    charged = EXACT.multiply(Decimal(unit_price), Decimal(factor))
    return {
        "component": component,
        "count": plain(count),
        "unitPrice": unit_price,
        "factor": factor,
        "cost": _decimal(EXACT.multiply(Decimal(count), charged)),
        "pricedAs": priced_as.get(component),
    }


def _selection_json(selection: Selection) -> dict[str, Any]:
    return {
        "serviceTier": selection.tier,
        "promptTokens": selection.prompt_tokens,
        "above": selection.above,
        "upTo": selection.up_to,
        "conditions": dict(selection.conditions),
        "windows": [
            {"hours": window.hours, "weekdays": list(window.weekdays), "zone": window.zone}
            for window in selection.windows
        ],
    }


def _version_json(version: PriceVersion) -> dict[str, Any]:
    form = version_to_json(version)
    return {
        "id": version.id,
        "provider": version.provider,
        "model": version.model,
        "currency": version.currency,
        "validFrom": version.valid_from,
        "source": version.source or None,
        "lists": form["lists"],
        "factors": form.get("factors", []),
    }


def _rate_json(rate: Rate) -> dict[str, Any]:
    return {"id": rate.id, "currency": rate.currency, "rate": plain(rate.rate), "validFrom": rate.valid_from}


def _part_json(storage: ExplainedStorage) -> dict[str, Any]:
    """What a row charges of the price of a period's storage, and the remainders."""
    return {
        "exactPrice": None if storage.exact is None else _decimal(storage.exact),
        "carryBefore": None if storage.carry_before is None else _decimal(storage.carry_before),
        "carryAfter": None if storage.carry_after is None else _decimal(storage.carry_after),
    }


def _storage_json(row: sa.RowMapping, storage: ExplainedStorage, terms: StorageTerms) -> dict[str, Any]:
    """The period as a whole: bytes above what is included, in GB, times price times months."""
    return {
        "subscriptionId": row["reference_id"],
        "periodStart": terms.period_start.astimezone(UTC),
        "periodEnd": terms.period_end.astimezone(UTC),
        "peakBytes": terms.peak_bytes,
        "includedMb": terms.included_mb,
        "chargedBytes": storage.charged_bytes,
        "pricePerGbMonth": terms.price_per_gb_month,
        "months": terms.months,
        "exactPrice": _decimal(Decimal(terms.exact)),
        "sharedBy": terms.shared_by,
    }


def _correction_of_price_json(explained: Explained | None, standing: StandingPrice | None) -> dict[str, Any] | None:
    """The exact prices of a charge before and after, whose difference is what was posted."""
    if standing is None or explained is None or explained.exact_before is None or explained.rounded is None:
        return None
    return {
        "number": standing.number,
        "reratingId": str(standing.rerating_id),
        "oldExactPrice": _decimal(explained.exact_before),
        "newExactPrice": _decimal(standing.after),
        "difference": _decimal(explained.rounded),
    }


def _rounding_json(row: sa.RowMapping, of: Explained | ExplainedStorage | None) -> dict[str, Any] | None:
    """What is charged exactly and the remainder before are amount and remainder after: rounded once, half to even. A
    correction charges the difference of two prices, and moves its account by the opposite."""
    charged = of.rounded if isinstance(of, Explained) else None if of is None else of.exact
    if of is None or charged is None or of.carry_before is None or of.carry_after is None:
        return None
    rounded = -row["amount"] if row["transaction_type"] == "ADJUSTMENT" else row["amount"]
    unrounded = _decimal(EXACT.add(charged, of.carry_before))
    return {"mode": "half-even", "places": MICRO_PLACES, "unrounded": unrounded, "rounded": _amount(rounded)}


def _posting_json(row: sa.RowMapping) -> dict[str, Any]:
    """The account whose balance the row changes, by how much, and the other side."""
    return {
        "accountId": str(row["posted_account_no"]),
        "accountType": row["moved_type"],
        "userId": row["moved_user_id"],
        "contraAccount": row["contra_account"],
        "amount": _amount(movement(row["transaction_type"], row["amount"])),
        "balanceAfter": _amount(row["balance_after"]) if has_balance(row) else None,
    }


def _grant_json(grant: sa.RowMapping, change: int) -> dict[str, Any]:
    return {
        "grantId": str(grant["no"]),
        "kind": grant["kind"],
        "amount": _amount(change),
        "description": grant["description"],
        "referenceId": grant["reference_id"],
        "expiresAt": grant["expires_at"],
    }


def _correction_json(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "transactionId": transaction_id(row["posted_account_no"], row["seq"]),
        "transactionType": row["transaction_type"],
        "amount": _amount(movement(row["transaction_type"], row["amount"])),
        "description": row["description"],
        "createdAt": row["occurred_at"],
        "recordedAt": row["recorded_at"],
    }


def _hold_json(hold: sa.RowMapping) -> dict[str, Any]:
    return {
        "holdId": str(hold["id"]),
        "amount": _amount(hold["amount"]),
        "createdAt": hold["created_at"],
        "settledAt": hold["settled_at"],
    }


def _payment_json(payment: Payment) -> dict[str, Any]:
    credit, refund, recharge = payment.credit, payment.refund, payment.recharge
    return {
        "reference": payment.reference,
        "amount": None if credit is None else _amount(credit["amount"]),
        "creditedAt": None if credit is None else credit["credited_at"],
        "refund": None
        if refund is None
        else {
            "refundId": refund["refund_id"],
            "amount": _amount(refund["amount"]),
            "refundedAt": refund["refunded_at"],
        },
        "recharge": None
        if recharge is None
        else {
            "rechargeId": str(recharge["id"]),
            "amount": _amount(recharge["amount"]),
            "requestedAt": recharge["requested_at"],
            "settledAt": recharge["settled_at"],
        },
    }


def _invoice_line_json(line: sa.RowMapping) -> dict[str, Any]:
    return {
        "invoiceId": str(line["id"]),
        "number": line["number"],
        "position": line["position"],
        "kind": line["kind"],
        "cost": _amount(line["cost"]),
        "amount": _amount(line["amount"]),
    }


def _amount(micros: int) -> str:
    return format(from_micro(micros), "f")


def _decimal(number: Decimal) -> str:
    """All digits of a number, and at least the six decimals of an amount."""
    exponent = number.normalize(EXACT).as_tuple().exponent
    places = max(MICRO_PLACES, -exponent if isinstance(exponent, int) else 0)
    return f"{number:.{places}f}"
