"""Stored prices, rates and settings that cannot be used: passed over, so that everything else goes on, and told."""

from prometheus_client import Gauge

from services.chassis.logging import get_logger

__all__ = ["tell_unusable"]

_log = get_logger(__name__)
_ROWS = Gauge(
    "rappen_billing_unusable_rows", "Stored rows that this process found unusable and passed over.", ["table"]
)
# What was told already, so that a row that every batch reads is one line in the log.
_told: dict[str, set[tuple[str, str]]] = {}


def tell_unusable(table: str, row: str, why: str) -> None:
    """Logs a row once in the life of the process, and counts it."""
    told = _told.setdefault(table, set())
    if (row, why) in told:
        return
    told.add((row, why))
    _ROWS.labels(table).set(len({each for each, _ in told}))
    _log.error("stored row passed over", table=table, row=row, why=why)
