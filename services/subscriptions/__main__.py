"""`python -m services.subscriptions api|worker|all|migrate|openapi|dlq|plans|records`."""

import sys
from pathlib import Path

from services.chassis.service import run_service
from services.subscriptions.app import application, serve
from services.subscriptions.commands import COMMANDS
from services.subscriptions.settings import SubscriptionsSettings

if __name__ == "__main__":
    sys.exit(
        run_service(
            "subscriptions",
            SubscriptionsSettings,
            roles=("api", "worker", "all"),
            serve=serve,
            commands=COMMANDS,
            migrations=Path(__file__).parent / "migrations",
            application=application,
        )
    )
