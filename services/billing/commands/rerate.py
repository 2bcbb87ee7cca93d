"""`rerate --from TIME --to TIME`: what charges would cost by the prices as they are now; --apply corrects them."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from services.billing.corrections.charges import Selection
from services.billing.corrections.rerate import preview_rerating, show_rerating, start_rerating
from services.billing.corrections.run_reratings import RunReratings
from services.billing.pricing.repository import Tariffs
from services.billing.settings import BillingSettings
from services.chassis.arguments import LISTED_MAX, add_limit, operator_database, point_in_time
from services.chassis.clock import platform_clock
from services.chassis.database import Database
from services.chassis.faults import FaultPoints

__all__ = ["run"]

NAME_LENGTH_MAX = 120
BAR_WIDTH = 30
# While a worker has the re-rating in hand.
LOOK_AGAIN_S = 0.05


def run(settings: BillingSettings, arguments: Sequence[str]) -> int:
    """Prints the preview; with --apply also what was done."""
    parser = _parser()
    given = parser.parse_args(list(arguments))
    if given.to_time <= given.from_time:
        parser.error("argument --to: a time after --from is needed")
    selection = Selection(given.from_time, given.to_time, given.provider, given.model)
    answer = asyncio.run(_rerate(settings, selection, given))
    if given.json:
        print(json.dumps(answer, indent=2, default=str))
    else:
        _print(answer, given.limit)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rappen rerate",
        description="What charges of usage of a time would cost by the prices and rates as they are now, with the"
        " markup that they were charged with. With --apply each difference is posted, never edited.",
    )
    parser.add_argument(
        "--from", dest="from_time", required=True, type=point_in_time, metavar="TIME", help="usage from then on"
    )
    parser.add_argument(
        "--to", dest="to_time", required=True, type=point_in_time, metavar="TIME", help="and before then"
    )
    parser.add_argument("--provider", type=_name, metavar="NAME", help="only of this provider, exactly as reported")
    parser.add_argument("--model", type=_name, metavar="NAME", help="only of this model, exactly as reported")
    parser.add_argument("--apply", action="store_true", help="post the differences; without it they are only shown")
    parser.add_argument("--json", action="store_true", help="the answer for a program")
    add_limit(parser)
    return parser


def _name(text: str) -> str:
    if not text or len(text) > NAME_LENGTH_MAX or not text.isprintable():
        raise argparse.ArgumentTypeError(f"a name of 1 to {NAME_LENGTH_MAX} characters is needed")
    return text


async def _rerate(settings: BillingSettings, selection: Selection, given: argparse.Namespace) -> dict[str, Any]:
    async with operator_database(settings) as database:
        preview = await preview_rerating(
            database, selection, tariffs=Tariffs(), progress=lambda priced: _show(f"{priced:,} charges priced again")
        )
        _end()
        if not given.apply:
            return preview
        return await _apply(settings, database, selection, preview["charges"])


async def _apply(settings: BillingSettings, database: Database, selection: Selection, charges: int) -> dict[str, Any]:
    """Orders the re-rating and works on it, in turn with the workers, of which none has to run; what is left when this
    ends too early is theirs."""
    clock = platform_clock(settings)
    # The operator's database has one connection.
    faults = FaultPoints(settings.faults_folder)
    run_reratings = RunReratings(database, clock=clock, faults=faults, reads_ahead=False)
    answer = await start_rerating(database, selection, user_id=None, clock=clock)
    rerating_id = answer["id"]
    print(f"re-rating {rerating_id}", file=sys.stderr)
    while answer["state"] == "RUNNING":
        if not await run_reratings(UUID(rerating_id)):
            await asyncio.sleep(LOOK_AGAIN_S)
        answer = await show_rerating(database, rerating_id)
        _show(_bar(answer["charges"], charges))
    _end()
    return answer


def _bar(done: int, of: int) -> str:
    share = min(1.0, done / of) if of else 1.0
    full = int(share * BAR_WIDTH)
    return f"[{'#' * full}{'.' * (BAR_WIDTH - full)}] {done:,} of {of:,} charges"


def _show(text: str) -> None:
    """How far it is, on one line of a terminal; nothing where nobody looks."""
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


def _end() -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _print(answer: dict[str, Any], limit: int) -> None:
    done = answer["state"] == "DONE"
    mandates = [each for each in answer["mandates"] if each["differing"]]
    for each in mandates[:limit]:
        print(f"{each['mandateId']}: {_line(each, done=done)}")
    more = len(mandates) - limit + answer["moreMandates"]
    if more > 0:
        print(f"and {more} more mandates (--limit, up to {LISTED_MAX})")
    for each in answer["notPriced"]:
        names = [_printable(each[name]) for name in ("provider", "model", "currency") if each[name]]
        print(f"left as they are: {each['charges']} charges, {' '.join([each['reason'], *names])}")
    print(f"all: {_line(answer, done=done)}" + ("" if done else " (nothing applied)"))


def _line(totals: dict[str, Any], *, done: bool) -> str:
    old, new, difference = (totals[name]["amount"] for name in ("oldTotal", "newTotal", "difference"))
    told = "corrected" if done else "differ"
    return f"{totals['charges']} charges, {totals['differing']} {told}, CHF {old} -> {new}, difference {difference}"


def _printable(text: str) -> str:
    """The text without control characters, because a publisher chooses it."""
    return "".join(character if character.isprintable() else "?" for character in text)
