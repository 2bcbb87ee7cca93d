"""`python -m services.billing api|worker|all|migrate|audit|dlq|prices|ensure|unpriced|unknown`."""

import sys
from pathlib import Path

from services.billing.commands import COMMANDS
from services.billing.settings import BillingSettings
from services.chassis.service import run_service


def _serve(settings: BillingSettings, role: str) -> None:
    # Commands and migrations start faster without the web and Kafka stack.
    from services.billing.app import serve  # noqa: PLC0415

    serve(settings, role)


if __name__ == "__main__":
    sys.exit(
        run_service(
            "billing",
            BillingSettings,
            roles=("api", "worker", "all"),
            serve=_serve,
            commands=COMMANDS,
            migrations=Path(__file__).parent / "migrations",
        )
    )
