"""`python -m services.payments api|worker|all|migrate|openapi|dlq|events|plan|reconcile|stripe`."""

import sys
from pathlib import Path

from services.chassis.service import run_service
from services.payments.app import application, serve
from services.payments.commands import COMMANDS
from services.payments.settings import PaymentsSettings

if __name__ == "__main__":
    sys.exit(
        run_service(
            "payments",
            PaymentsSettings,
            roles=("api", "worker", "all"),
            serve=serve,
            commands=COMMANDS,
            migrations=Path(__file__).parent / "migrations",
            application=application,
        )
    )
