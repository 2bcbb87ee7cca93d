"""`python -m services.billing api|worker|all|migrate|audit|dlq|prices|rates`."""

import sys
from pathlib import Path

from services.billing.app import serve
from services.billing.commands import COMMANDS
from services.billing.settings import BillingSettings
from services.chassis.service import run_service

if __name__ == "__main__":
    sys.exit(
        run_service(
            "billing",
            BillingSettings,
            roles=("api", "worker", "all"),
            serve=serve,
            commands=COMMANDS,
            migrations=Path(__file__).parent / "migrations",
        )
    )
