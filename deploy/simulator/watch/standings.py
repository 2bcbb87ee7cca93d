"""How a tenant stands, in words short enough for a column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

__all__ = ["day_in_words", "movement_in_words", "state_in_words", "wait_in_words"]

_WAITS = {"INSUFFICIENT_BALANCE": "no credit", "NO_ACTIVE_SUBSCRIPTION": "no plan"}

_WITHOUT_PLAN = {
    "PREPAY_MANDATE": "prepaid",
    "PREPAY_USER": "prepaid by member",
    "CREDIT_POSTPAY": "paid by invoice",
}


def state_in_words(subscription: Mapping[str, Any], billing_model: str) -> str:
    """The state of a subscription as the surface answers it, with the day to which that holds; without one, how its
    tenant pays."""
    status, end = subscription["status"], subscription["currentPeriodEnd"]
    day = f" {day_in_words(end)}" if end else ""
    return {
        None: _WITHOUT_PLAN.get(billing_model, "no plan"),
        "PENDING": "not paid yet",
        "TRIALING": f"trial to{day}",
        "ACTIVE": f"active to{day}",
        "CANCELED": f"ends{day}",
        "PAST_DUE": "past due",
        "EXPIRED": f"ended{day}",
    }.get(status, str(status).lower())


def day_in_words(time: str) -> str:
    """The day of a time as the surface answers it."""
    there = datetime.fromisoformat(time).astimezone()
    return f"{there.day} {there:%b}"


def movement_in_words(row: Mapping[str, Any]) -> str:
    """A row of the ledger: how much money it moved, and what for."""
    return f"{Decimal(row['amount']):+,.2f} {row['description']}"


def wait_in_words(reason: str) -> str:
    """Why calls are refused."""
    return f"waits: {_WAITS.get(reason, reason)}"
