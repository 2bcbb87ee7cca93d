"""`python -m services.payments api|worker|all|migrate|openapi|dlq|events|plan|reconcile|stripe`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.chassis.service import run_service
from services.payments.commands import COMMANDS
from services.payments.settings import PaymentsSettings

if TYPE_CHECKING:
    from fastapi import FastAPI


def _serve(settings: PaymentsSettings, role: str) -> None:
    # Commands and migrations start faster without the web and Kafka stack.
    from services.payments.app import serve  # noqa: PLC0415

    serve(settings, role)


def _application() -> "FastAPI":
    from services.payments.app import application  # noqa: PLC0415

    return application()


if __name__ == "__main__":
    sys.exit(
        run_service(
            "payments",
            PaymentsSettings,
            roles=("api", "worker", "all"),
            serve=_serve,
            commands=COMMANDS,
            migrations=Path(__file__).parent / "migrations",
            application=_application,
        )
    )
