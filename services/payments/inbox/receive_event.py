"""Taking a delivery of Stripe's: checked, stored, answered. Nothing else happens before the answer."""

from collections.abc import Sequence

import asyncpg

from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.logging import get_logger
from services.payments.inbox.domain import (
    IncomingEvent,
    UnreadableEvent,
    WrongSignature,
    is_json,
    parse_event,
    verify_signature,
)
from services.payments.inbox.errors import WebhookNotConfigured, WebhookNotStored, WebhookRefused
from services.payments.inbox.metrics import EVENTS_RECEIVED, WEBHOOKS_REFUSED
from services.payments.inbox.repository import store_event

__all__ = ["ReceiveEvent"]

_log = get_logger(__name__)


class ReceiveEvent:
    """Stores signed events of the configured mode, each once."""

    def __init__(
        self, database: Database, *, secrets: Sequence[str], livemode: bool, clock: Clock, wall_clock: Clock
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._livemode = livemode
        self._clock = clock
        # Signatures carry real time, also where the platform's own time is moved in development.
        self._wall_clock = wall_clock

    async def __call__(self, body: bytes, signature: str | None, *, content_type: str | None) -> None:
        """Returns when the event is in the database, newly or since before."""
        if not self._secrets:
            raise WebhookNotConfigured
        event = self._checked(body, signature, content_type)
        try:
            async with self._database.reading() as connection:
                new = await store_event(connection, event, body, self._clock())
        except Exception as error:
            if not (is_transient(error) or isinstance(error, asyncpg.PostgresError)):
                raise
            _log.error("event not stored", event_id=event.id, error=type(error).__name__)
            raise WebhookNotStored from error
        EVENTS_RECEIVED.labels("stored" if new else "repeated").inc()

    def _checked(self, body: bytes, signature: str | None, content_type: str | None) -> IncomingEvent:
        """The signature comes first, over the bytes as they came: nothing else is looked at for a stranger."""
        try:
            verify_signature(body, signature, secrets=self._secrets, now=self._wall_clock())
            if not is_json(content_type):
                raise UnreadableEvent
            event = parse_event(body)
        except WrongSignature as error:
            raise self.refused(error.reason) from error
        except UnreadableEvent as error:
            raise self.refused("body") from error
        if event.livemode != self._livemode:
            raise self.refused("livemode")
        return event

    @staticmethod
    def refused(reason: str) -> WebhookRefused:
        """The only refusal there is; its reason goes to the metric alone, for which there is an alarm."""
        WEBHOOKS_REFUSED.labels(reason).inc()
        return WebhookRefused()
