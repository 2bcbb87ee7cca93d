"""What all pages share: templates, amounts for people, the way back to the shop, small forms."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

MAX_FORM_BYTES = 10_000
PLACEHOLDER = "{CHECKOUT_SESSION_ID}"
_ZERO_DECIMAL = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf")
)
# The pages load nothing from anywhere: what they need is in them.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


def money(amount: int, currency: str) -> str:
    """Write an amount in the smallest unit for people: CHF 1'250.00."""
    if amount < 0:
        return f"\u2212{money(-amount, currency)}"
    if currency in _ZERO_DECIMAL:
        return f"{currency.upper()} {amount:,}".replace(",", "'")
    return f"{currency.upper()} {amount // 100:,}".replace(",", "'") + f".{amount % 100:02d}"


def unit(amount: str, currency: str) -> str:
    """Write an exact amount of the smallest unit for people, with the places that it has."""
    exact = Decimal(amount)
    if exact == exact.to_integral_value():
        return money(int(exact), currency)
    return f"{currency.upper()} {exact if currency in _ZERO_DECIMAL else exact.scaleb(-2)}"


def redirect_target(url: str, session_id: str) -> str:
    """Fill the session id into a success or cancel URL."""
    return url.replace(PLACEHOLDER, session_id)


def day(moment: int) -> str:
    """Write a day for people."""
    return f"{datetime.fromtimestamp(moment, UTC):%d %B %Y}"


class Renderer:
    """Renders the templates."""

    def __init__(self) -> None:
        loader = FileSystemLoader(Path(__file__).parent / "templates")
        self._templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
        self._templates.filters |= {"money": money, "unit": unit, "day": day}

    def message(self, text: str, status: int = 200) -> Response:
        """Answer one sentence."""
        return self.page("message.html", status, text=text)

    def page(self, template: str, status: int, **values: object) -> Response:
        """Answer a template filled with values."""
        html = self._templates.get_template(template).render(**values)
        return HTMLResponse(html, status, headers=HEADERS)


def leave(url: str | None, session_id: str = "") -> Response | None:
    """Lead away from the page, if there is somewhere to."""
    if url is None:
        return None
    return RedirectResponse(redirect_target(url, session_id), 303, headers=HEADERS)


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form; one that is too large has none.

    It may arrive slowly. So the rows that it changes are read after it: what was changed in between is saved by then,
    and a row that was read before would not be looked at again.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return {}
    # A field that was emptied is not one that is not there.
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
