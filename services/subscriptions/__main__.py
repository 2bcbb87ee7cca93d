"""`python -m services.subscriptions api|worker|all|migrate|openapi|dlq|plans|records`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.chassis.service import run_service
from services.subscriptions.commands import COMMANDS
from services.subscriptions.settings import SubscriptionsSettings

if TYPE_CHECKING:
    from fastapi import FastAPI


def _serve(settings: SubscriptionsSettings, role: str) -> None:
    # Commands and migrations start faster without the web and Kafka stack.
    from services.subscriptions.app import serve  # noqa: PLC0415

    serve(settings, role)


def _application() -> "FastAPI":
    from services.subscriptions.app import application  # noqa: PLC0415

    return application()


if __name__ == "__main__":
    sys.exit(
        run_service(
            "subscriptions",
            SubscriptionsSettings,
            roles=("api", "worker", "all"),
            serve=_serve,
            commands=COMMANDS,
            migrations=Path(__file__).parent / "migrations",
            application=_application,
        )
    )
