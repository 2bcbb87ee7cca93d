"""Counters of deliveries and stored events; labels are from bounded sets, never a tenant or an event."""

from prometheus_client import Counter, Gauge

__all__ = ["EVENTS_FAILED", "EVENTS_PROCESSED", "EVENTS_RECEIVED", "EVENTS_WAITING", "WEBHOOKS_REFUSED"]

WEBHOOKS_REFUSED = Counter("rappen_payments_webhooks_refused_total", "Deliveries answered 400.", ["reason"])
EVENTS_RECEIVED = Counter("rappen_payments_events_received_total", "Deliveries stored or recognised.", ["outcome"])
EVENTS_PROCESSED = Counter("rappen_payments_events_processed_total", "Stored events by outcome.", ["outcome"])
EVENTS_FAILED = Counter("rappen_payments_events_failed_total", "Tries that failed and come again.", ["error"])
EVENTS_WAITING = Gauge("rappen_payments_events_waiting", "Stored events that are not processed yet.")
