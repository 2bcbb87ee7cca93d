"""Billing's commands for operators; `rappen` passes them through with the settings of the stack."""

from collections.abc import Callable, Mapping, Sequence

from services.billing.settings import BillingSettings
from services.chassis.service import command

__all__ = ["COMMANDS"]

COMMANDS: Mapping[str, Callable[[BillingSettings, Sequence[str]], int]] = {
    "audit": command("services.billing.commands.audit"),
    "dlq": command("services.chassis.dead_letters"),
    "payments": command("services.billing.commands.payments"),
    "prices": command("services.billing.commands.prices"),
    "ensure": command("services.billing.commands.ensure"),
    "explain": command("services.billing.commands.explain"),
    "reverse": command("services.billing.commands.reverse"),
    "rerate": command("services.billing.commands.rerate"),
    "unpriced": command("services.billing.commands.unpriced", "run_unpriced"),
    "unknown": command("services.billing.commands.unpriced", "run_unknown"),
    "vat": command("services.billing.commands.vat"),
}
