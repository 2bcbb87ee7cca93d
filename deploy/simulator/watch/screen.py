"""The picture on a terminal, with rich; rows and columns follow the size of the window."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy.simulator.watch.picture import POOL, Account, Picture
from deploy.simulator.watch.standings import wait_in_words

__all__ = ["screen"]

_FIGURE_ROWS = 3
# The frame of a panel.
_FRAME_ROWS, _FRAME_CELLS = 2, 4
# From so many rows on there is room for frames.
_ROOMY_ROWS = 34
# Rows of what happened.
_HAPPENINGS_ROWS, _HAPPENINGS_ROWS_LOW = 6, 4
_NARROW_CELLS = 110
_BAR_CELLS, _BAR_CELLS_NARROW = 12, 5
_STATE_CELLS = 17
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def screen(picture: Picture, *, width: int, height: int) -> Layout:
    """Give the whole view for a window of so many cells and rows; a low one has no frames and no bars."""
    roomy = height >= _ROOMY_ROWS
    head, foot = _addresses(picture, width - _FRAME_CELLS), _foot(picture)
    frame_rows = _FRAME_ROWS if roomy else 0
    parts = [
        _part(Group(*head), len(head), "Rappen", framed=roomy),
        Layout(_figures(picture), size=_FIGURE_ROWS if roomy else _FIGURE_ROWS - 1),
    ]
    below = []
    if picture.standings:
        below.append(_part(_standings(picture), len(picture.standings) + 1, "Customers", framed=roomy))
    if picture.happenings:
        rows = _HAPPENINGS_ROWS if roomy else _HAPPENINGS_ROWS_LOW
        below.append(_part(_happenings(picture, rows), rows, "What happened", framed=roomy))
    below.append(Layout(Group(*foot), size=len(foot)))
    taken = sum(part.size or 0 for part in (*parts, *below))
    # Of each table one row is its headings.
    rows = max(3, height - taken - frame_rows - 1)
    layout = Layout()
    layout.split_column(*parts, _usage(picture, rows, width, framed=roomy), *below)
    return layout


def _usage(picture: Picture, rows: int, width: int, *, framed: bool) -> Layout:
    """The newest charges, and beside them the accounts, unless the customers below say what they have."""
    narrow = width < _NARROW_CELLS
    charges = _charges(picture, rows, narrow=narrow)
    if not framed and picture.standings:
        return Layout(charges)
    parts = ((charges, "Newest charges", 3), (_balances(picture, rows, narrow=narrow), "Balances", 2))
    body = Layout()
    body.split_row(
        *(
            Layout(Panel(part, title=title, title_align="left") if framed else part, ratio=ratio)
            for part, title, ratio in parts
        )
    )
    return body


def _part(content: RenderableType, rows: int, title: str, *, framed: bool) -> Layout:
    """A part of so many rows, with its frame beside them."""
    if framed:
        return Layout(Panel(content, title=title, title_align="left"), size=rows + _FRAME_ROWS)
    return Layout(content, size=rows)


def _addresses(picture: Picture, width: int) -> list[Text]:
    """Where to look, each line no longer than the window: a link that is cut or broken leads nowhere."""
    gateway, mails = (
        Text.assemble(f"{what} ", _linked(address))
        for what, address in (("gateway", picture.gateway), ("mails", picture.mail))
    )
    side_by_side = Text("   ").join((gateway, mails))
    lines = [side_by_side] if len(side_by_side) <= width else [gateway, mails]
    label = f"{picture.top_up}: "
    page = picture.pay_page.url if len(label) + len(picture.pay_page.url) <= width else picture.pay_page.short
    if len(label) + len(page) <= width:
        return [*lines, Text.assemble(label, _linked(page))]
    return [*lines, Text(label), _linked(page)]


def _figures(picture: Picture) -> RenderableType:
    totals, audit = picture.totals, picture.audit
    refused = sum(totals.dead_letters.values()) if totals else None
    figures = (
        ("events/s", Text(f"{picture.charges_per_s:.0f}", "bold")),
        ("charges", Text(_number(totals.charges if totals else None), "bold")),
        ("CHF charged", Text(f"{totals.amount:,.6f}" if totals else "-", "bold green")),
        ("behind", _figure(picture.lag, "yellow")),
        ("unpriced", _figure(totals.unpriced if totals else None, "yellow")),
        ("refused", _figure(refused, "red")),
        ("differences", _figure(audit.differences if audit else None, "bold red", good="bold green")),
    )
    grid = Table.grid(expand=True)
    for _ in figures:
        grid.add_column(justify="center", ratio=1, no_wrap=True)
    grid.add_row(*(figure for _, figure in figures))
    grid.add_row(*(Text(label, "dim") for label, _ in figures))
    return grid


def _charges(picture: Picture, rows: int, *, narrow: bool) -> RenderableType:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("time", no_wrap=True, width=8)
    for heading, ratio in (("member", 3), ("model", 4)) if narrow else (("tenant", 3), ("member", 3), ("model", 5)):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=ratio)
    table.add_column("tokens", justify="right", no_wrap=True, width=6)
    table.add_column("CHF", justify="right", no_wrap=True, width=11)
    names = {member.id: member.name for tenant in picture.tenants for member in tenant.members}
    for row in picture.transactions[:rows]:
        who = row["createdByUserId"] or "-"
        tenant = () if narrow else (row["mandateName"],)
        what = row["aicoreModel"] or row["description"]
        colour = "" if row["aicoreModel"] else "green"
        cells = (_time(row["createdAt"]), *tenant, names.get(who, who), what, _tokens(row), _amount(row))
        table.add_row(*(Text(cell) for cell in cells), style=colour)
    return table


def _balances(picture: Picture, rows: int, *, narrow: bool) -> RenderableType:
    cells = _BAR_CELLS_NARROW if narrow else _BAR_CELLS
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("account", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("", no_wrap=True, width=cells)
    table.add_column("CHF", justify="right", no_wrap=True, width=11)
    for account in picture.accounts[:rows]:
        table.add_row(Text(_holder(account)), _bar(account, cells), Text(f"{account.balance:,.6f}", _colour(account)))
    waiting = [account for account in picture.accounts if account.waits]
    room = rows - len(picture.accounts)
    return Group(table, *(Text(f"{_holder(each)} waits: {each.waits}", "red") for each in waiting[: max(0, room)]))


def _standings(picture: Picture) -> RenderableType:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("customer", no_wrap=True, overflow="ellipsis", width=16)
    table.add_column("plan", no_wrap=True, width=10)
    table.add_column("state", no_wrap=True, overflow="ellipsis", width=_STATE_CELLS)
    table.add_column("CHF", justify="right", no_wrap=True, width=10)
    table.add_column("last money in or back", no_wrap=True, overflow="ellipsis", ratio=1)
    for standing in picture.standings:
        state = wait_in_words(standing.waits) if standing.waits else standing.state
        colour = "red" if standing.waits else "yellow" if standing.warning else "green"
        table.add_row(
            Text(standing.tenant),
            Text(standing.plan),
            Text(state, "red" if standing.waits else ""),
            Text(f"{standing.balance:,.2f}", colour),
            Text(standing.movement),
        )
    return table


def _happenings(picture: Picture, rows: int) -> RenderableType:
    """The newest first. A text may take two rows; what has no room below is left out."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, width=8)
    table.add_column(overflow="fold")
    for happening in list(picture.happenings)[:rows]:
        words = f"FAILED: {happening.text}" if happening.failed else happening.text
        text = Text.assemble((f"{happening.who}: ", "bold") if happening.who else "", words)
        table.add_row(Text(f"{happening.at:%H:%M:%S}"), text, style="red" if happening.failed else "")
    return table


def _holder(account: Account) -> str:
    return account.tenant if account.owner == POOL else f"{account.owner}, {account.tenant}"


def _foot(picture: Picture) -> list[Text]:
    """How the workers are, what was refused, who looked at the books, and what is wrong, a line each."""
    workers = (
        f"{worker.name}: " + ("away" if worker.lag is None else f"{worker.lag} behind") for worker in picture.workers
    )
    seen = []
    if picture.totals is not None and picture.totals.dead_letters:
        seen.append(", ".join(f"{count} x {code}" for code, count in picture.totals.dead_letters.items()))
    if picture.audit is not None:
        audit = picture.audit
        seen.append(f"books: {audit.checks} checks of {audit.accounts} accounts at {audit.at:%H:%M:%S}")
    troubles = (f"{name}: {trouble}" for name, trouble in picture.troubles.items())
    return [
        _line("   ".join(workers)),
        _line("   ".join(seen)),
        *(_line(text, "red") for text in troubles),
        *(_line(text, "yellow") for text in picture.recent_notices(time.monotonic())),
        _line("Ctrl-C to stop" + _moved(picture), "dim"),
    ]


def _moved(picture: Picture) -> str:
    """What day it is on the platform, where its time has been moved."""
    if not picture.ahead_s:
        return ""
    today = (datetime.now(UTC) + timedelta(seconds=picture.ahead_s)).astimezone()
    return f"   on the platform it is {today.day} {today:%B %Y}, {picture.ahead_s // 86_400} days ahead"


def _line(text: str, colour: str = "") -> Text:
    """A text that takes one row, whatever is in it."""
    return Text(" ".join(text.split("\n")), colour, no_wrap=True, overflow="ellipsis")


def _bar(account: Account, cells: int) -> Text:
    """The balance as a share of the highest it was, to an eighth of a cell."""
    share = account.balance / account.highest if account.highest > 0 else Decimal(0)
    eighths = int(max(Decimal(0), min(share, Decimal(1))) * cells * 8)
    full, rest = divmod(eighths, 8)
    blocks = "█" * full + (_EIGHTHS[rest] if rest else "")
    return Text(blocks.ljust(cells), f"{_colour(account)} on grey15")


def _colour(account: Account) -> str:
    if account.waits or account.balance <= 0:
        return "red"
    return "yellow" if account.warning else "green"


def _time(text: str) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%H:%M:%S")


def _tokens(row: dict[str, Any]) -> str:
    counted = [row[name] for name in ("inputTokens", "outputTokens") if row[name] is not None]
    return f"{sum(counted):,}" if counted else "-"


def _amount(row: dict[str, Any]) -> str:
    sign = "+" if row["transactionType"] == "CREDIT" else ""
    return f"{sign}{Decimal(row['amount']):.6f}"


def _figure(number: int | None, bad: str, *, good: str = "") -> Text:
    return Text(_number(number), bad if number else good)


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _linked(address: str) -> Text:
    return Text(address, f"cyan link {address}")
