"""Billing's commands for operators; `rappen` passes them through with the settings of the stack."""

from collections.abc import Callable, Mapping, Sequence

from services.billing.commands import audit, ensure, explain, payments, prices, rerate, reverse, unpriced, vat
from services.billing.settings import BillingSettings
from services.chassis import dead_letters

__all__ = ["COMMANDS"]

COMMANDS: Mapping[str, Callable[[BillingSettings, Sequence[str]], int]] = {
    "audit": audit.run,
    "dlq": dead_letters.run,
    "payments": payments.run,
    "prices": prices.run,
    "ensure": ensure.run,
    "explain": explain.run,
    "reverse": reverse.run,
    "rerate": rerate.run,
    "unpriced": unpriced.run_unpriced,
    "unknown": unpriced.run_unknown,
    "vat": vat.run,
}
