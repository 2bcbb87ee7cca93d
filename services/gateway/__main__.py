"""`python -m services.gateway api|worker|all|migrate|openapi|dlq`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.chassis.service import command, run_service
from services.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from fastapi import FastAPI


def _serve(settings: GatewaySettings, role: str) -> None:
    # Commands and migrations start faster without the web and Kafka stack.
    from services.gateway.app import serve  # noqa: PLC0415

    serve(settings, role)


def _application() -> "FastAPI":
    from services.gateway.api import application  # noqa: PLC0415

    return application()


if __name__ == "__main__":
    sys.exit(
        run_service(
            "gateway",
            GatewaySettings,
            roles=("api", "worker", "all"),
            serve=_serve,
            commands={"dlq": command("services.chassis.dead_letters")},
            migrations=Path(__file__).parent / "migrations",
            application=_application,
        )
    )
