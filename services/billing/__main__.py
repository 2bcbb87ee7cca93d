"""`python -m services.billing api|worker|all|migrate|openapi`, or one of the commands (`commands/`)."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.billing.commands import COMMANDS
from services.billing.settings import BillingSettings
from services.chassis.service import run_service

if TYPE_CHECKING:
    from fastapi import FastAPI


def _serve(settings: BillingSettings, role: str) -> None:
    # Commands and migrations start faster without the web and Kafka stack.
    from services.billing.app import serve  # noqa: PLC0415

    serve(settings, role)


def _application() -> "FastAPI":
    from services.billing.app import application  # noqa: PLC0415

    return application()


if __name__ == "__main__":
    sys.exit(
        run_service(
            "billing",
            BillingSettings,
            roles=("api", "worker", "all"),
            serve=_serve,
            commands=COMMANDS,
            migrations=Path(__file__).parent / "migrations",
            application=_application,
        )
    )
