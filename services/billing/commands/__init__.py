"""What an operator can ask of billing; `rappen` passes these through with the stack's settings."""

from collections.abc import Callable, Mapping, Sequence

from services.billing.settings import BillingSettings

__all__ = ["COMMANDS"]

Command = Callable[[BillingSettings, Sequence[str]], int]


def _audit(settings: BillingSettings, arguments: Sequence[str]) -> int:
    from services.billing.commands.audit import run  # noqa: PLC0415 - each command loads only what it needs.

    return run(settings, arguments)


def _dead_letters(settings: BillingSettings, arguments: Sequence[str]) -> int:
    from services.billing.commands.dead_letters import run  # noqa: PLC0415

    return run(settings, arguments)


def _prices(settings: BillingSettings, arguments: Sequence[str]) -> int:
    from services.billing.commands.prices import run  # noqa: PLC0415

    return run(settings, arguments)


def _ensure(settings: BillingSettings, arguments: Sequence[str]) -> int:
    from services.billing.commands.ensure import run  # noqa: PLC0415

    return run(settings, arguments)


COMMANDS: Mapping[str, Command] = {"audit": _audit, "dlq": _dead_letters, "prices": _prices, "ensure": _ensure}
