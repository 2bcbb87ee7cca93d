"""`dlq list | show | replay`: billing's dead letters."""

from collections.abc import Sequence

from services.billing.settings import BillingSettings
from services.chassis import dead_letters

__all__ = ["run"]


def run(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Runs one of the actions."""
    return dead_letters.run(settings, arguments)
