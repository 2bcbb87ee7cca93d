"""Counters of requests; labels are from bounded sets, never a tenant."""

from prometheus_client import Counter, Gauge

__all__ = ["REQUESTS_FAILED", "REQUESTS_SETTLED", "REQUESTS_WAITING"]

REQUESTS_SETTLED = Counter("rappen_payments_requests_settled_total", "Requests by outcome.", ["topic", "outcome"])
REQUESTS_FAILED = Counter("rappen_payments_requests_failed_total", "Tries that failed and come again.", ["error"])
REQUESTS_WAITING = Gauge("rappen_payments_requests_waiting", "Requests that are not settled yet.")
