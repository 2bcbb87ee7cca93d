"""A mail catcher: takes every mail by SMTP, keeps the newest, delivers none, and shows them.

`python -m deploy.local.mail --smtp-port P --http-port Q` serves a page at `/` and JSON: `GET /api/mails` (newest first,
`?to=` for one recipient), `GET /api/mails/{id}`, `GET /api/mails/{id}/raw`, `DELETE /api/mails`, `GET /readyz`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import FileResponse

from deploy.local.ports import LOOPBACK

_MAILS_MAX = 500
_MAIL_BYTES_MAX = 10 * 1024 * 1024
_ALL_BYTES_MAX = 64 * 1024 * 1024
_PAGE = Path(__file__).parent / "mail.html"
# The page runs its own script and shows mails in frames that can run none and load nothing from elsewhere.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)


@dataclass(frozen=True)
class Mail:
    """One mail as it was received; sender and recipients are those of the SMTP envelope."""

    id: int
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    def summary(self) -> dict[str, Any]:
        """Give what a list shows."""
        return {
            "id": self.id,
            "receivedAt": self.received_at.isoformat(),
            "from": self.sender,
            "to": list(self.recipients),
            "subject": str(self._message().get("Subject", "")),
        }

    def full(self) -> dict[str, Any]:
        """Give the whole mail, decoded; attachments by name and size only."""
        message = self._message()
        return {
            **self.summary(),
            "headers": [{"name": name, "value": str(value)} for name, value in message.items()],
            "text": _body(message, "plain"),
            "html": _body(message, "html"),
            "attachments": [
                {
                    "name": part.get_filename() or "",
                    "contentType": part.get_content_type(),
                    "bytes": len(part.get_payload(decode=True) or b""),
                }
                for part in message.iter_attachments()
            ],
        }

    def _message(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=default)


class MailBox:
    """The newest mails, up to a number and a size; older ones make room. It is the SMTP server's handler."""

    def __init__(self) -> None:
        self._mails: deque[Mail] = deque()
        self._bytes = 0
        self._last_id = 0

    async def handle_DATA(  # noqa: N802 (the SMTP server looks the method up by the command's name)
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Keep a mail."""
        raw = envelope.original_content or b""
        self._last_id += 1
        recipients = tuple(envelope.rcpt_tos)
        self._mails.append(Mail(self._last_id, datetime.now(UTC), envelope.mail_from or "", recipients, raw))
        self._bytes += len(raw)
        while len(self._mails) > _MAILS_MAX or self._bytes > _ALL_BYTES_MAX:
            self._bytes -= len(self._mails.popleft().raw)
        return "250 OK"

    def newest_first(self, to: str | None) -> list[Mail]:
        """Give the mails, those to one recipient if it is named."""
        return [mail for mail in reversed(self._mails) if to is None or to in mail.recipients]

    def get(self, number: int) -> Mail | None:
        """Give one mail by its id."""
        return next((mail for mail in self._mails if mail.id == number), None)

    def clear(self) -> None:
        """Forget all mails; ids go on counting."""
        self._mails.clear()
        self._bytes = 0


def make_app(smtp_port: int) -> FastAPI:
    """Make the web application; the SMTP server listens for as long as it runs."""
    box = MailBox()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        smtp = await loop.create_server(
            lambda: SMTP(box, data_size_limit=_MAIL_BYTES_MAX, enable_SMTPUTF8=True, hostname="localhost", loop=loop),
            LOOPBACK,
            smtp_port,
        )
        async with smtp:
            yield

    app = FastAPI(title="Mail catcher", lifespan=lifespan)

    def find(number: int) -> Mail:
        mail = box.get(number)
        if mail is None:
            raise HTTPException(404, "there is no such mail, or it was too old to keep")
        return mail

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_PAGE, headers={"Content-Security-Policy": _PAGE_POLICY})

    @app.get("/readyz")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.get("/api/mails")
    async def mails(to: str | None = None) -> dict[str, Any]:
        return {"items": [mail.summary() for mail in box.newest_first(to)]}

    @app.get("/api/mails/{number}")
    async def mail(number: int) -> dict[str, Any]:
        return find(number).full()

    @app.get("/api/mails/{number}/raw")
    async def raw(number: int) -> Response:
        return Response(find(number).raw, media_type="message/rfc822")

    @app.delete("/api/mails", status_code=204)
    async def clear() -> None:
        box.clear()

    return app


def _body(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body(preferencelist=(kind,))
    return str(part.get_content()) if part is not None else None


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Catches mails and shows them.")
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    ports = parser.parse_args()
    uvicorn.run(make_app(ports.smtp_port), host=LOOPBACK, port=ports.http_port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
