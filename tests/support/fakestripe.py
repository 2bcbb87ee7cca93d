"""The fake Stripe as the real process it is."""

import os
import sys
from pathlib import Path

from deploy.local.ports import free_port
from tests.support.processes import Process

__all__ = ["FakeStripe"]


class FakeStripe(Process):
    """`python -m deploy.fakestripe`, which signs what it sends to the webhook with the secret."""

    def __init__(self, *options: str, webhook_url: str, webhook_secret: str, log: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "deploy.fakestripe", "--port", str(self.port), "--webhook-url", webhook_url]
        super().__init__(
            "fakestripe",
            [*command, "--webhook-secret", webhook_secret, *options],
            environment=os.environ,
            ready_url=f"{self.url}/readyz",
            log=log,
        )
