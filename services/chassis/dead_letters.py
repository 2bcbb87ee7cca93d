"""The operator's view of a service's quarantine: list, show, and replay to the topic a record came from (R5)."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import asyncpg
from aiokafka import AIOKafkaProducer

from rappen_contracts.registry import RECORD_BYTES_MAX
from services.chassis.kafka import make_producer
from services.chassis.quarantine import sent_key, unpack_headers
from services.chassis.settings import ServiceSettings

__all__ = ["run"]

SHOWN_BYTES_MAX = 4096
REPLAYED_AT_ONCE = 200
LISTED_MAX = 10_000
# What the column can hold.
_ID_MAX = 2**63 - 1


def run(settings: ServiceSettings, arguments: Sequence[str]) -> int:
    """`dlq list [--code C] [--limit N] | show ID | replay ID... [--code C] [--all]`."""
    parser = argparse.ArgumentParser(prog="dlq")
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="the newest dead letters, a line each")
    listing.add_argument("--code")
    listing.add_argument("--limit", type=_number(0, LISTED_MAX), default=50)
    showing = actions.add_parser("show", help="one dead letter with its headers and bytes")
    showing.add_argument("id", type=_number(1, _ID_MAX))
    replaying = actions.add_parser("replay", help="publishes originals to the topic they came from")
    replaying.add_argument("id", type=_number(1, _ID_MAX), nargs="*")
    replaying.add_argument("--code")
    replaying.add_argument("--all", action="store_true", help="all that were not replayed yet")
    given = parser.parse_args(list(arguments))
    if given.action == "replay" and not (given.id or given.code or given.all):
        print("name ids, --code or --all", file=sys.stderr)
        return 2
    return asyncio.run(_run(settings, given))


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"a number from {low} to {high} is needed")
        return number

    return read


async def _run(settings: ServiceSettings, given: argparse.Namespace) -> int:
    connection = await asyncpg.connect(settings.database_url.get_secret_value(), timeout=10)
    try:
        if given.action == "list":
            return await _list(connection, given.code, given.limit)
        if given.action == "show":
            return await _show(connection, given.id)
        return await _replay(settings, connection, given.id, given.code)
    finally:
        await connection.close()


async def _list(connection: asyncpg.Connection, code: str | None, limit: int) -> int:
    rows = await connection.fetch(
        "SELECT * FROM quarantine WHERE $1::text IS NULL OR error_code = $1 ORDER BY id DESC LIMIT $2", code, limit
    )
    for row in rows:
        place = f"{row['topic']}[{row['partition']}]@{row['offset']}"
        state = "replayed" if row["replayed_at"] else "waiting"
        print(f"{row['id']:>8}  {row['quarantined_at']:%Y-%m-%d %H:%M:%S}  {place:<34} {row['error_code']:<20} {state}")
    total = await connection.fetchval("SELECT count(*) FROM quarantine WHERE $1::text IS NULL OR error_code = $1", code)
    print(f"{len(rows)} of {total} dead letters")
    return 0


async def _show(connection: asyncpg.Connection, number: int) -> int:
    row = await connection.fetchrow("SELECT * FROM quarantine WHERE id = $1", number)
    if row is None:
        print(f"there is no dead letter {number}", file=sys.stderr)
        return 1
    for name in ("topic", "partition", "offset", "group_id", "error_code", "error_detail", "attempts", "length"):
        print(f"{name + ':':<16}{row[name]}")
    print(f"{'sha256:':<16}{row['sha256'].hex()}")
    print(f"{'at:':<16}{row['quarantined_at'].isoformat()}")
    print(f"{'key:':<16}{row['key']!r}")
    for name, raw in unpack_headers(row["headers"]):
        print(f"{'header:':<16}{name} = {raw!r}")
    value = row["value"]
    print("value:" if value is not None else "value:          null")
    if value is not None:
        print(value[:SHOWN_BYTES_MAX].decode("utf-8", "backslashreplace"))
        if len(value) > SHOWN_BYTES_MAX:
            print(f"... {len(value) - SHOWN_BYTES_MAX} more bytes")
    return 0


async def _replay(
    settings: ServiceSettings, connection: asyncpg.Connection, numbers: Sequence[int], code: str | None
) -> int:
    """Publishes the original key, headers and bytes; the identity of each event makes a second replay harmless."""
    replayed = cut = last = 0
    producer = make_producer(settings.kafka, client_id="dead-letter-replay")
    await producer.start()
    try:
        # What a replay puts into quarantine again is younger than `newest` and not taken along.
        newest = await connection.fetchval("SELECT coalesce(max(id), 0) FROM quarantine")
        while rows := await connection.fetch(
            "SELECT * FROM quarantine WHERE (cardinality($1::bigint[]) = 0 AND replayed_at IS NULL OR id = ANY($1))"
            " AND ($2::text IS NULL OR error_code = $2) AND id > $3 AND id <= $4 ORDER BY id LIMIT $5",
            list(numbers),
            code,
            last,
            newest,
            REPLAYED_AT_ONCE,
        ):
            last = rows[-1]["id"]
            whole = [row for row in rows if 0 <= row["length"] <= RECORD_BYTES_MAX]
            cut += len(rows) - len(whole)
            await _publish(producer, whole)
            await connection.execute(
                "UPDATE quarantine SET replayed_at = $2 WHERE id = ANY($1)",
                [row["id"] for row in whole],
                datetime.now(UTC),
            )
            replayed += len(whole)
    finally:
        await producer.stop()
    print(f"{replayed} records replayed" + (f", {cut} were too large to be kept whole" if cut else ""))
    return 0 if replayed or cut else 1


async def _publish(producer: AIOKafkaProducer, rows: Sequence[asyncpg.Record]) -> None:
    """Returns when Kafka has all of them; raises when it refuses one, so that none is marked which is not there."""
    sent = [
        await producer.send(row["topic"], key=sent_key(row), value=row["value"], headers=unpack_headers(row["headers"]))
        for row in rows
    ]
    await asyncio.gather(*sent)
