"""The operator's way with dead letters: list, show, mend the cause, replay; and the charge happens once."""

import json
import re
from uuid import uuid4

import pytest

from services.chassis.quarantine import unpack_headers
from tests.support.databases import connected
from tests.support.events import RawRecord, envelope, new_mandate, publish, usage_record
from tests.support.ledger import Books
from tests.support.processes import ServiceProcess, run_command
from tests.support.stack import ServerPair
from tests.support.topics import all_read
from tests.support.waiting import eventually

BATCH = 512


async def test_what_the_database_refuses_is_found_and_charged_once_after_the_cause_is_mended(
    servers: ServerPair, bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate, cursed = new_mandate(), f"cursed-{uuid4()}"
    records = [usage_record(mandate) for _ in range(BATCH)]
    records[77] = usage_record(mandate, workflow_id=cursed, headers=[("x-mark", None)])
    async with connected(servers.dsn("billing", owner=True)) as owner:
        await owner.execute(
            f"ALTER TABLE transactions ADD CONSTRAINT cursed CHECK (workflow_id <> '{cursed}') NOT VALID"
        )
        try:
            before = worker.log_text().count('"batch failed"')
            await publish(bootstrap_servers, [*records, *records])
            await books.wait_charged([mandate], BATCH - 1)
            await eventually(lambda: _refused(books, mandate, {"UNPROCESSABLE": 2}), what="both refusals")
            failed = worker.log_text().count('"batch failed"') - before
            # One event, delivered twice: each time the batch fails once, whatever its size, and the event is named.
            assert 1 <= failed <= 2, failed
        finally:
            await owner.execute("ALTER TABLE transactions DROP CONSTRAINT cursed")
    assert await books.charged([mandate]) == BATCH - 1

    numbers = [
        str(row["id"]) for row in await books.fetch("SELECT id FROM quarantine WHERE key = $1", mandate.encode())
    ]
    listed = run_command(servers, "billing", "dlq", "list", "--code", "UNPROCESSABLE", "--limit", "1000")
    assert listed.returncode == 0
    assert all(any(line.split()[0] == number for line in listed.stdout.splitlines()) for number in numbers)
    shown = run_command(servers, "billing", "dlq", "show", numbers[0])
    assert cursed in shown.stdout
    assert "x-mark = None" in shown.stdout
    assert "UNPROCESSABLE" in shown.stdout

    for turn in range(2):
        replayed = run_command(servers, "billing", "dlq", "replay", *numbers)
        assert replayed.stdout == "2 records replayed\n", replayed.stderr
        await publish(bootstrap_servers, [usage_record(mandate)])
        await books.wait_charged([mandate], BATCH + 1 + turn)
        await eventually(
            lambda: all_read(bootstrap_servers, "usage.recorded", "billing"),
            what="a group that is at the end of the topic",
        )
        assert await books.charged([mandate]) == BATCH + 1 + turn
    assert await books.refused(mandate) == {"UNPROCESSABLE": 2}
    assert await books.failing() == {}


async def test_an_event_of_a_type_that_is_not_known_yet_is_kept_and_can_be_replayed(
    servers: ServerPair, bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    headers = envelope(event_type="ch.rappen.usage.rerated.v1")
    await publish(bootstrap_servers, [RawRecord(b'{"mandate_id": "m"}', headers, mandate.encode())])
    await eventually(lambda: _refused(books, mandate, {"UNKNOWN_TYPE": 1}), what="the refusal")
    number = await books.value("SELECT id FROM quarantine WHERE key = $1", mandate.encode())
    assert run_command(servers, "billing", "dlq", "replay", str(number)).returncode == 0
    # Nobody has learned the type meanwhile, so it is refused again, as another dead letter with the same bytes.
    await eventually(lambda: _refused(books, mandate, {"UNKNOWN_TYPE": 2}), what="the second refusal")
    rows = await books.fetch(
        "SELECT value, headers, replayed_at FROM quarantine WHERE key = $1 ORDER BY id", mandate.encode()
    )
    assert rows[0]["value"] == rows[1]["value"]
    assert rows[0]["headers"] == rows[1]["headers"]
    assert rows[0]["replayed_at"] is not None
    assert rows[1]["replayed_at"] is None


async def test_a_stored_letter_that_cannot_be_sent_is_set_aside_and_the_next_ones_are_relayed(
    servers: ServerPair, bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    async with connected(servers.dsn("billing", owner=True)) as owner:
        for number, (headers, value) in enumerate(((b"no JSON", b"{"), (b"[]", b"x" * 8 * 1024 * 1024))):
            await owner.execute(
                'INSERT INTO quarantine (group_id, topic, partition, "offset", key, headers, value, length, sha256,'
                " error_code, error_detail, attempts, quarantined_at, record_sha256)"
                " VALUES ('billing', 'usage.recorded', 0, $1, $2, $3, $4, $5, '', 'NOT_JSON', '', 1, now(), '')",
                -1 - number,
                mandate.encode(),
                headers,
                value,
                len(value),
            )
    await publish(bootstrap_servers, [RawRecord(b"{", envelope(), mandate.encode())])
    await eventually(lambda: _refused(books, mandate, {"NOT_JSON": 3}), what="the refusal")
    await books.letters_relayed()
    assert worker.running
    assert await worker.metric("rappen_stored_set_aside_total", kind="dead letter") == 2
    number = await books.value("SELECT id FROM quarantine WHERE key = $1 AND headers = 'no JSON'", mandate.encode())
    shown = run_command(servers, "billing", "dlq", "show", str(number))
    assert "headers:        cannot be read as they are stored" in shown.stdout, shown.stderr
    assert str(number) in run_command(servers, "billing", "dlq", "list", "--limit", "1000").stdout
    replayed = run_command(servers, "billing", "dlq", "replay", str(number))
    assert replayed.stdout == "0 records replayed, 1 was not kept whole\n", replayed.stderr
    both = run_command(servers, "billing", "dlq", "replay", str(number), "--all")
    assert (both.returncode, both.stderr) == (2, "ids and --all exclude each other\n")


async def test_a_record_that_was_cut_is_not_replayed_and_its_key_and_headers_are_bounded(
    servers: ServerPair, bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    cut = usage_record(mandate, padding="x" * 300_000)
    many = usage_record(mandate, headers=[(f"h{number}", b"v" * 1000) for number in range(300)], user_id=None)
    large_key = RawRecord(b"{", envelope(), (mandate + "k" * 500_000).encode())
    await publish(bootstrap_servers, [cut, many, large_key], compression="lz4")
    await eventually(lambda: _refused(books, mandate, {"RECORD_TOO_LARGE": 1, "MISSING_FIELD": 1}), what="refusals")
    number = await books.value(
        "SELECT id FROM quarantine WHERE key = $1 AND error_code = 'RECORD_TOO_LARGE'", mandate.encode()
    )
    replayed = run_command(servers, "billing", "dlq", "replay", str(number))
    assert replayed.stdout == "0 records replayed, 1 was not kept whole\n"
    assert await books.value("SELECT replayed_at FROM quarantine WHERE id = $1", number) is None
    await books.letters_relayed()
    sizes = await books.fetch(
        "SELECT length(key) AS key, length(headers) AS headers, length(value) AS value FROM quarantine"
        " WHERE convert_from(key, 'UTF8') LIKE $1",
        f"{mandate}%",
    )
    assert len(sizes) == 3
    assert max(row["key"] for row in sizes) == 256 * 1024
    # In the database header values are hexadecimal.
    assert 2 * 240 * 1024 < max(row["headers"] for row in sizes) < 3 * 256 * 1024
    assert max(row["value"] for row in sizes) == 64 * 1024


async def test_a_record_within_the_limit_keeps_its_whole_key_and_all_headers(
    bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate = new_mandate()
    many = [(f"h{number:03}", b"v" * 1000) for number in range(200)]
    record = RawRecord(b"{", [*many, *envelope()], (mandate + "k" * 100_000).encode())
    await publish(bootstrap_servers, [record])

    async def kept() -> bool:
        rows = await books.fetch("SELECT headers FROM quarantine WHERE key = $1", record.key)
        return bool(rows) and unpack_headers(rows[0]["headers"]) == record.headers

    await eventually(kept, what="the whole record")
    await books.letters_relayed()


async def _refused(books: Books, mandate: str, wanted: dict[str, int]) -> bool:
    return await books.refused(mandate) == wanted


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--limit", "-1"),
        ("list", "--limit", "99999999999999999999"),
        ("show", "0"),
        ("show", "99999999999999999999"),
        ("replay", "99999999999999999999"),
        ("replay", "one"),
    ],
)
def test_a_number_that_cannot_be_is_refused_in_a_line(servers: ServerPair, words: tuple[str, ...]) -> None:
    done = run_command(servers, "billing", "dlq", *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"dlq {words[0]}: error: argument" in done.stderr.splitlines()[-1]


async def test_the_list_says_whose_event_it_is_and_closed_letters_leave_it(
    servers: ServerPair, bootstrap_servers: str, worker: ServiceProcess, books: Books
) -> None:
    mandate, binary, structured = new_mandate(), uuid4(), uuid4()
    document = {"specversion": "1.0", "id": str(structured), "data": {"mandate_id": mandate}, "type": "x"}
    hostile = RawRecord(b"\xff", [("ce_id", b"\x1b[31m red")], b"\x1b[2J" + mandate.encode())
    await publish(
        bootstrap_servers,
        [
            usage_record(mandate, event_id=binary, user_id=None),
            RawRecord(json.dumps(document).encode(), [], b"another key"),
            hostile,
        ],
    )
    find = "SELECT id FROM quarantine WHERE position($1::bytea in coalesce(key, '') || value) > 0 ORDER BY id"

    async def all_refused() -> bool:
        return len(await books.fetch(find, mandate.encode())) == 3

    await eventually(all_refused, what="the refusals")
    numbers = [str(row["id"]) for row in await books.fetch(find, mandate.encode())]
    lines = _listed(servers)
    by_event = {lines[number][5]: lines[number] for number in numbers}
    assert by_event[str(binary)][3:5] == ["waiting", mandate]
    assert by_event[str(binary)][2] != ""
    assert by_event[str(structured)][4] == mandate
    assert by_event["?[31m?red"][4] == f"?[2J{mandate}"

    closing = ("billing", "dlq", "close", *numbers[:2])
    assert run_command(servers, *closing).returncode == 2
    assert run_command(servers, *closing, "--reason", " ").returncode == 2
    unknown = run_command(servers, *closing, "999999999", "--reason", "a test")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "there is no dead letter 999999999; nothing was done\n"
    assert run_command(servers, *closing, "--reason", "sent by a test").stdout == "2 dead letters closed\n"
    again = run_command(servers, *closing, "--reason", "again")
    assert (again.returncode, again.stdout) == (1, "0 dead letters closed, 2 were closed before\n")

    assert set(numbers) & _listed(servers).keys() == {numbers[2]}
    assert _listed(servers, "--all")[numbers[0]][3] == "closed"
    shown = run_command(servers, "billing", "dlq", "show", numbers[0]).stdout
    assert re.search(r"^closed: +20\S+ by \S+: sent by a test$", shown, re.MULTILINE)
    # What is closed is not replayed with the others, and still by its own number.
    assert run_command(servers, "billing", "dlq", "replay", "--all").returncode == 0
    assert await books.value("SELECT replayed_at FROM quarantine WHERE id = $1", int(numbers[0])) is None
    assert run_command(servers, "billing", "dlq", "replay", numbers[0]).stdout == "1 record replayed\n"


def test_a_number_that_no_letter_has_is_an_error_and_nothing_is_replayed(servers: ServerPair) -> None:
    for action in (("show", "999999999"), ("replay", "999999998", "999999999")):
        done = run_command(servers, "billing", "dlq", *action)
        assert (done.returncode, done.stdout) == (1, "")
        assert "there is no dead letter 99999999" in done.stderr


def test_a_database_that_is_away_is_told_in_a_line(servers: ServerPair) -> None:
    away = {"BILLING_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
    for words in (("dlq", "list"), ("ensure",)):
        done = run_command(servers, "billing", *words, more=away)
        assert done.returncode == 1
        assert done.stderr.startswith(f"rappen {words[0]}: ")
        assert "Traceback" not in done.stderr


def _listed(servers: ServerPair, *words: str) -> dict[str, list[str]]:
    """The columns of each line by its number; date and time are one of them."""
    done = run_command(servers, "billing", "dlq", "list", "--limit", "10000", *words)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()[1:-1]]
    return {line[0]: [line[0], f"{line[1]} {line[2]}", *line[3:]] for line in lines}
