"""What is told of publishers."""

from prometheus_client import Gauge

__all__ = ["PUBLISHERS_SILENT"]

PUBLISHERS_SILENT = Gauge(
    "rappen_publishers_silent", "Mandates whose usage used to arrive and has been away for much longer than usual."
)
