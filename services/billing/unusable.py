"""Stored prices, rates and settings that cannot be used: passed over, so that all else goes on, logged and counted."""

from prometheus_client import Gauge

from services.chassis.logging import get_logger

__all__ = ["report_unusable"]

_log = get_logger(__name__)
_ROWS = Gauge(
    "rappen_billing_unusable_rows", "Stored rows that this process found unusable and passed over.", ["table"]
)
# Rows already reported, so that a row which every batch reads is logged once.
_reported: dict[str, set[tuple[str, str]]] = {}


def report_unusable(table: str, row: str, why: str) -> None:
    """Logs a row once in the life of the process, and counts it."""
    reported = _reported.setdefault(table, set())
    if (row, why) in reported:
        return
    reported.add((row, why))
    _ROWS.labels(table).set(len({each for each, _ in reported}))
    _log.error("stored row passed over", table=table, row=row, why=why)
