"""`python -m services.subscriptions api|worker|all|migrate|openapi|dlq`."""

import sys
from pathlib import Path

from services.chassis import dead_letters
from services.chassis.service import run_service
from services.subscriptions.app import application, serve
from services.subscriptions.settings import SubscriptionsSettings

if __name__ == "__main__":
    sys.exit(
        run_service(
            "subscriptions",
            SubscriptionsSettings,
            roles=("api", "worker", "all"),
            serve=serve,
            commands={"dlq": dead_letters.run},
            migrations=Path(__file__).parent / "migrations",
            application=application,
        )
    )
