"""The operator's commands of payments; `rappen` passes them through with the settings of the stack."""

from collections.abc import Callable, Mapping, Sequence

from services.chassis import dead_letters
from services.payments.commands import events, plans, reconcile, stripe
from services.payments.settings import PaymentsSettings

__all__ = ["COMMANDS"]

COMMANDS: Mapping[str, Callable[[PaymentsSettings, Sequence[str]], int]] = {
    "dlq": dead_letters.run,
    "events": events.run,
    "plan": plans.run,
    "reconcile": reconcile.run,
    "stripe": stripe.run,
}
