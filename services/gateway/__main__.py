"""`python -m services.gateway api|worker|all|migrate|openapi|dlq`."""

import sys
from pathlib import Path

from services.chassis import dead_letters
from services.chassis.service import run_service
from services.gateway.api import application
from services.gateway.app import serve
from services.gateway.settings import GatewaySettings

if __name__ == "__main__":
    sys.exit(
        run_service(
            "gateway",
            GatewaySettings,
            roles=("api", "worker", "all"),
            serve=serve,
            commands={"dlq": dead_letters.run},
            migrations=Path(__file__).parent / "migrations",
            application=application,
        )
    )
