"""The operator's view of a service's quarantine: list, show, replay to the topic a record came from, close; and resume
a topic whose consumer has stopped because almost everything was refused."""

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
from aiokafka import AIOKafkaProducer

from rappen_contracts.registry import RECORD_BYTES_MAX
from services.chassis.arguments import add_limit, operator_database, utf8_text, whole_number
from services.chassis.clock import Clock, platform_clock
from services.chassis.database import driver_connection
from services.chassis.dead_letter_limit import read_stopped, resume
from services.chassis.quarantine import sent_key, unpack_headers
from services.chassis.settings import ServiceSettings

__all__ = ["Identity", "identity_of", "run"]

SHOWN_BYTES_MAX = 4096
# As long as an id may be.
SHOWN_ID_MAX = 64
REPLAYED_AT_ONCE = 200
REASON_LENGTH_MAX = 500
# What the column can hold.
_ID_MAX = 2**63 - 1


class Identity(NamedTuple):
    """The mandate and event id of a refused record, as far as it can be read; for display only."""

    mandate_id: str
    event_id: str


def run(settings: ServiceSettings, arguments: Sequence[str]) -> int:
    """`dlq list [--code C] [--limit N] [--all] | show ID | replay ID... [--code C] [--all] | close ID... --reason R |
    resume TOPIC`"""
    given = _parser().parse_args(list(arguments))
    if given.action == "replay" and not (given.id or given.code or given.all):
        print("name ids, --code or --all", file=sys.stderr)
        return 2
    if given.action == "replay" and given.id and given.all:
        print("ids and --all exclude each other", file=sys.stderr)
        return 2
    return asyncio.run(_run(settings, given))


def _parser() -> argparse.ArgumentParser:
    number = whole_number(1, _ID_MAX)
    parser = argparse.ArgumentParser(prog="rappen dlq", description="Records that could not be processed, and why.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the newest dead letters, a line each")
    listing.add_argument("--code", type=utf8_text, help="only those refused with this error code")
    add_limit(listing, low=0)
    listing.add_argument("--all", action="store_true", help="also those that are closed")
    showing = actions.add_parser("show", help="one dead letter with its headers and bytes")
    showing.add_argument("id", type=number, metavar="ID", help="its number in the list")
    replaying = actions.add_parser("replay", help="publishes originals to the topic they came from")
    replaying.add_argument("id", type=number, nargs="*", metavar="ID", help="numbers in the list")
    replaying.add_argument("--code", type=utf8_text, help="only those refused with this error code")
    replaying.add_argument("--all", action="store_true", help="all that were neither replayed nor closed yet")
    closing = actions.add_parser("close", help="notes that nothing more is done about dead letters, and why")
    closing.add_argument("id", type=number, nargs="+", metavar="ID", help="numbers in the list")
    closing.add_argument("--reason", type=_reason, required=True, metavar="TEXT", help="why; kept with each of them")
    resuming = actions.add_parser("resume", help="reads a topic again after its consumer has stopped")
    resuming.add_argument("topic", type=utf8_text, metavar="TOPIC", help="one that the list says is stopped")
    return parser


def _reason(text: str) -> str:
    reason = text.strip()
    if not reason or len(reason) > REASON_LENGTH_MAX or not reason.isprintable():
        raise argparse.ArgumentTypeError(f"a line of 1 to {REASON_LENGTH_MAX} characters is needed")
    return reason


async def _run(settings: ServiceSettings, given: argparse.Namespace) -> int:
    async with operator_database(settings) as database, database.reading() as connection:
        return await _act(settings, driver_connection(connection), given)


async def _act(settings: ServiceSettings, connection: asyncpg.Connection, given: argparse.Namespace) -> int:
    clock = platform_clock(settings)
    if given.action == "list":
        return await _list(connection, given.code, given.limit, closed_too=given.all)
    if given.action == "show":
        return await _show(connection, given.id)
    if given.action == "resume":
        return await _resume(connection, given.topic, clock())
    if await _report_missing(connection, given.id):
        return 1
    if given.action == "close":
        return await _close(connection, given.id, given.reason, clock())
    return await _replay(settings, connection, given.id, given.code, clock)


async def _list(connection: asyncpg.Connection, code: str | None, limit: int, *, closed_too: bool) -> int:
    chosen = "FROM quarantine WHERE ($1::text IS NULL OR error_code = $1) AND ($2 OR closed_at IS NULL)"
    rows = await connection.fetch(f"SELECT * {chosen} ORDER BY id DESC LIMIT $3", code, closed_too, limit)
    waiting = "count(*) FILTER (WHERE replayed_at IS NULL AND closed_at IS NULL)"
    total = await connection.fetchrow(f"SELECT count(*) AS found, {waiting} AS waiting {chosen}", code, closed_too)
    if rows:
        print(f"{'id':>8}  {'refused at':<19}  {'code':<20} {'state':<8} {'mandate':<24} {'event':<36} place")
    for row in rows:
        place = f"{row['topic']}[{row['partition']}]@{row['offset']}"
        who = identity_of(row)
        print(
            f"{row['id']:>8}  {row['quarantined_at']:%Y-%m-%d %H:%M:%S}  {row['error_code']:<20} {_state(row):<8}"
            f" {who.mandate_id:<24} {who.event_id:<36} {place}"
        )
    print(f"{len(rows)} of {total['found']} dead letters, {total['waiting']} waiting")
    for stopped in await read_stopped(connection):
        since = f"{stopped['stopped_at']:%Y-%m-%d %H:%M:%S}"
        print(f"{stopped['topic']} is stopped since {since}, because {stopped['reason']} (dlq resume)")
    return 0


def _state(row: Mapping[str, Any]) -> str:
    if row["closed_at"] is not None:
        return "closed"
    return "waiting" if row["replayed_at"] is None else "replayed"


def identity_of(row: Mapping[str, Any]) -> Identity:
    """The mandate and the event's id that a refused record names, wherever they stand in it; `-` where nowhere."""
    headers = dict(_headers(row) or [])
    document = _object(row["value"])
    data: object = document
    event_id: object = headers.get("ce_id")
    if event_id is None and "specversion" in document:
        event_id, data = document.get("id"), document.get("data")
    mandate_id = data.get("mandate_id") if isinstance(data, dict) else None
    return Identity(_shown(mandate_id if isinstance(mandate_id, str) else row["key"]), _shown(event_id))


def _headers(row: Mapping[str, Any]) -> list[tuple[str, bytes | None]] | None:
    """The original headers; None where what is stored of them cannot be read."""
    try:
        return unpack_headers(row["headers"])
    except (ValueError, TypeError):
        return None


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        document = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _shown(given: object) -> str:
    """A publisher's text as one printable word, so that control characters cannot affect the terminal."""
    text = given.decode("utf-8", "replace") if isinstance(given, bytes) else given
    if not isinstance(text, str) or not text:
        return "-"
    word = "".join(character if character.isprintable() and character != " " else "?" for character in text)
    return word if len(word) <= SHOWN_ID_MAX else word[:SHOWN_ID_MAX] + "..."


async def _show(connection: asyncpg.Connection, number: int) -> int:
    row = await connection.fetchrow("SELECT * FROM quarantine WHERE id = $1", number)
    if row is None:
        print(f"there is no dead letter {number}", file=sys.stderr)
        return 1
    who = identity_of(row)
    print(f"{'mandate:':<16}{who.mandate_id}")
    print(f"{'event:':<16}{who.event_id}")
    for name in ("topic", "partition", "offset", "group_id", "error_code", "error_detail", "attempts", "length"):
        print(f"{name + ':':<16}{row[name]}")
    print(f"{'sha256:':<16}{row['sha256'].hex()}")
    print(f"{'at:':<16}{row['quarantined_at'].isoformat()}")
    if row["replayed_at"] is not None:
        print(f"{'replayed:':<16}{row['replayed_at'].isoformat()}")
    if row["closed_at"] is not None:
        print(f"{'closed:':<16}{row['closed_at'].isoformat()} by {row['closed_by']}: {row['closed_reason']}")
    print(f"{'key:':<16}{row['key']!r}")
    headers = _headers(row)
    for name, raw in headers or []:
        print(f"{'header:':<16}{name} = {raw!r}")
    if headers is None:
        print("headers:        cannot be read as they are stored")
    value = row["value"]
    print("value:" if value is not None else "value:          null")
    if value is not None:
        print(value[:SHOWN_BYTES_MAX].decode("utf-8", "backslashreplace"))
        if len(value) > SHOWN_BYTES_MAX:
            print(f"... {len(value) - SHOWN_BYTES_MAX} more bytes")
    return 0


async def _report_missing(connection: asyncpg.Connection, numbers: Sequence[int]) -> bool:
    """Whether a number belongs to no dead letter; it is printed, and the command then changes nothing at all."""
    rows = await connection.fetch("SELECT id FROM quarantine WHERE id = ANY($1)", list(numbers))
    missing = sorted(set(numbers) - {row["id"] for row in rows})
    if missing:
        print(f"there is no dead letter {', '.join(map(str, missing))}; nothing was done", file=sys.stderr)
    return bool(missing)


async def _close(connection: asyncpg.Connection, numbers: Sequence[int], reason: str, now: datetime) -> int:
    """Closes them; what was closed before keeps its time and reason."""
    rows = await connection.fetch(
        "UPDATE quarantine SET closed_at = $2, closed_by = $3, closed_reason = $4"
        " WHERE id = ANY($1) AND closed_at IS NULL RETURNING id",
        list(numbers),
        now,
        getpass.getuser(),
        reason,
    )
    before = len(set(numbers)) - len(rows)
    print(f"{_counted(len(rows), 'dead letter')} closed" + (f", {_were(before)} closed before" if before else ""))
    return 0 if rows else 1


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _were(number: int) -> str:
    return f"{number} was" if number == 1 else f"{number} were"


async def _resume(connection: asyncpg.Connection, topic: str, now: datetime) -> int:
    if not await resume(connection, topic, by=getpass.getuser(), now=now):
        print(f"{topic} is not stopped; nothing was done", file=sys.stderr)
        return 1
    print(f"{topic} is read again within seconds")
    return 0


async def _replay(
    settings: ServiceSettings, connection: asyncpg.Connection, numbers: Sequence[int], code: str | None, clock: Clock
) -> int:
    """Publishes the original key, headers and bytes; the identity of each event makes a second replay harmless."""
    # The Kafka stack is loaded for this alone; what only reads starts faster without.
    from services.chassis.kafka import make_producer  # noqa: PLC0415

    replayed = cut = last = 0
    producer = make_producer(settings.kafka, client_id="dead-letter-replay")
    await producer.start()
    try:
        # What a replay puts into quarantine again is younger than `newest` and not taken along.
        newest = await connection.fetchval("SELECT coalesce(max(id), 0) FROM quarantine")
        while True:
            # Locked until they are marked, so that one that is closed at this moment is either replayed first or not.
            async with connection.transaction():
                rows = await connection.fetch(
                    "SELECT * FROM quarantine WHERE"
                    " (cardinality($1::bigint[]) = 0 AND replayed_at IS NULL AND closed_at IS NULL OR id = ANY($1))"
                    " AND ($2::text IS NULL OR error_code = $2) AND id > $3 AND id <= $4 ORDER BY id LIMIT $5"
                    " FOR UPDATE",
                    list(numbers),
                    code,
                    last,
                    newest,
                    REPLAYED_AT_ONCE,
                )
                if not rows:
                    break
                last = rows[-1]["id"]
                whole = [row for row in rows if 0 <= row["length"] <= RECORD_BYTES_MAX and _headers(row) is not None]
                cut += len(rows) - len(whole)
                await _publish(producer, whole)
                await connection.execute(
                    "UPDATE quarantine SET replayed_at = $2 WHERE id = ANY($1)",
                    [row["id"] for row in whole],
                    clock(),
                )
            replayed += len(whole)
    finally:
        await producer.stop()
    print(f"{_counted(replayed, 'record')} replayed" + (f", {_were(cut)} not kept whole" if cut else ""))
    return 0 if replayed or cut else 1


async def _publish(producer: AIOKafkaProducer, rows: Sequence[asyncpg.Record]) -> None:
    """Returns when Kafka has all of them; raises when it refuses one, so that none is marked which is not there."""
    sent = [
        await producer.send(row["topic"], key=sent_key(row), value=row["value"], headers=unpack_headers(row["headers"]))
        for row in rows
    ]
    await asyncio.gather(*sent)
