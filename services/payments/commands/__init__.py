"""The operator's commands of payments; `rappen` passes them through with the settings of the stack."""

from collections.abc import Callable, Mapping, Sequence

from services.chassis.service import command
from services.payments.settings import PaymentsSettings

__all__ = ["COMMANDS"]

COMMANDS: Mapping[str, Callable[[PaymentsSettings, Sequence[str]], int]] = {
    "dlq": command("services.chassis.dead_letters"),
    "events": command("services.payments.commands.events"),
    "plan": command("services.payments.commands.plans"),
    "reconcile": command("services.payments.commands.reconcile"),
    "stripe": command("services.payments.commands.stripe"),
}
