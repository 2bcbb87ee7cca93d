"""Counters of payments; labels are from bounded sets, never a tenant."""

from prometheus_client import Counter

__all__ = ["AMOUNT_MISMATCHES", "PAYMENTS_CREDITED"]

PAYMENTS_CREDITED = Counter("rappen_payments_credited_total", "Payments published.", ["reason"])
AMOUNT_MISMATCHES = Counter("rappen_payments_amount_mismatches_total", "Payments of another amount than asked for.")
