"""Counters of what belongs to our customers at Stripe; labels are from bounded sets, never a tenant."""

from prometheus_client import Counter

__all__ = ["UNPLACED"]

UNPLACED = Counter("rappen_payments_unplaced_total", "Objects that are ours and cannot be placed.", ["what"])
