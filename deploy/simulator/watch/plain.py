"""The picture as plain lines, for a pipe, a log or a terminal without a cursor."""

from __future__ import annotations

from datetime import datetime

from deploy.simulator.watch.picture import Happening, Picture, Standing
from deploy.simulator.watch.standings import wait_in_words

__all__ = ["addresses", "happening", "line", "standing", "summary"]


def addresses(picture: Picture) -> str:
    """Where to look, in lines."""
    return f"gateway {picture.gateway}\nmails {picture.mail}\n{picture.top_up}: {picture.pay_page.url}"


def line(picture: Picture, now: datetime) -> str:
    """The picture at a moment, in one line."""
    parts = [now.strftime("%H:%M:%S"), f"{picture.charges_per_s:.0f} events/s", *_totals(picture)]
    if picture.lag is not None:
        parts.append(f"{picture.lag} records behind")
    parts += [f"{name}: {trouble}" for name, trouble in picture.troubles.items()]
    return ", ".join(parts)


def happening(happened: Happening) -> str:
    """What happened, in one line."""
    words = f"FAILED: {happened.text}" if happened.failed else happened.text
    return f"{happened.at:%H:%M:%S} * " + (f"{happened.who}: {words}" if happened.who else words)


def standing(of: Standing) -> str:
    """How a customer stands, in one line."""
    parts = [of.plan, *([wait_in_words(of.waits)] if of.waits else []), of.state, f"CHF {of.balance:,.2f}", of.movement]
    return f"         {of.tenant}: {', '.join(part for part in parts if part not in ('', '-'))}"


def summary(picture: Picture) -> str:
    """What was seen last, in one line."""
    return ", ".join(_totals(picture)) or "nothing was seen"


def _totals(picture: Picture) -> list[str]:
    parts = []
    if picture.totals is not None:
        codes = ", ".join(f"{code} {count}" for code, count in picture.totals.dead_letters.items())
        parts += [
            f"{picture.totals.charges} charges",
            f"CHF {picture.totals.amount:.6f}",
            f"{sum(picture.totals.dead_letters.values())} dead letters" + (f" ({codes})" if codes else ""),
            f"{picture.totals.unpriced} unpriced",
        ]
    if picture.audit is not None:
        parts.append(f"books: {picture.audit.differences} differences in {picture.audit.accounts} accounts")
    return parts
