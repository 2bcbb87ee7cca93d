"""The stack on one machine: real servers, the supervisor over real processes, and the mail catcher."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal

import aiosmtplib
import asyncpg
import httpx
import jwt
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from deploy.local.errors import StackError
from deploy.local.home import Home
from deploy.local.identity import AUDIENCE, ISSUER, load_identity
from deploy.local.kafka import LocalKafka
from deploy.local.kafka_classes import class_archive, make_class_archive
from deploy.local.ports import free_port
from deploy.local.postgres import LocalPostgres
from deploy.local.processes import RecordedProcess, end_recorded
from deploy.local.supervisor import ProcessSpec, Supervisor
from deploy.local.topics import ensure_topics
from deploy.ops.overview import look
from deploy.ops.tokens import sign
from deploy.postgres.bootstrap import SERVICES, RolePasswords, bootstrap, database_dsn
from tests.support.databases import connected
from tests.support.processes import Process
from tests.support.stack import ROOT
from tests.support.topics import read_topic
from tests.support.waiting import eventually

PASSWORDS = {service: RolePasswords(owner=f"{service}-o'wner", app=f"{service}-app") for service in SERVICES}


@dataclass(frozen=True)
class Topic:
    """A topic in the shape of the contract registry."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPostgres]:
    with LocalPostgres(tmp_path_factory.mktemp("postgres")) as server:
        asyncio.run(bootstrap(server.admin_dsn, PASSWORDS))
        yield server


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with LocalKafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


def owner_dsn(server: LocalPostgres, service: str) -> str:
    return database_dsn(server.admin_dsn, f"{service}_owner", PASSWORDS[service].owner)


def app_dsn(server: LocalPostgres, service: str) -> str:
    return database_dsn(server.admin_dsn, f"{service}_app", PASSWORDS[service].app)


async def execute(dsn: str, *statements: str) -> object:
    """Run statements on a connection of their own, and give the last one's first value."""
    async with connected(dsn) as connection:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])


async def publish(server: LocalKafka, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=server.bootstrap_servers, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def read_all(server: LocalKafka, topic: str, count: int) -> list[bytes | None]:
    return [record.value for record in await read_topic(server.bootstrap_servers, topic, count=count, timeout_s=30)]


async def test_bootstrap_is_repeatable_and_takes_new_passwords(postgres: LocalPostgres) -> None:
    await bootstrap(postgres.admin_dsn, PASSWORDS)
    changed = {**PASSWORDS, "payments": RolePasswords(owner="new", app="new")}
    await bootstrap(postgres.admin_dsn, changed)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await execute(app_dsn(postgres, "payments"), "SELECT 1")
    assert await execute(database_dsn(postgres.admin_dsn, "payments_app", "new"), "SELECT 1") == 1
    await bootstrap(postgres.admin_dsn, PASSWORDS)
    assert await execute(app_dsn(postgres, "payments"), "SELECT 1") == 1


async def test_text_sorts_and_folds_alike_whatever_locale_a_server_was_made_with(tmp_path: Path) -> None:
    async with LocalPostgres(tmp_path / "postgres") as server:
        for statement in (
            "ALTER DATABASE template1 IS_TEMPLATE false",
            "DROP DATABASE template1",
            "CREATE DATABASE template1 TEMPLATE template0 LOCALE 'C' LOCALE_PROVIDER libc IS_TEMPLATE true",
        ):
            await execute(server.admin_dsn, statement)
        await bootstrap(server.admin_dsn, PASSWORDS)
        assert await execute(owner_dsn(server, "billing"), "SELECT lower('Ä') || ('b' > 'Ba')") == "ätrue"


async def test_a_role_works_in_its_own_schema_and_cannot_read_anothers(postgres: LocalPostgres) -> None:
    made = (
        "CREATE TABLE ledger (amount numeric)",
        "INSERT INTO ledger VALUES (1.5)",
        "GRANT SELECT ON ledger TO billing_app",
        "SELECT count(*) FROM ledger",
    )
    assert await execute(owner_dsn(postgres, "billing"), *made) == 1
    assert await execute(app_dsn(postgres, "billing"), "SELECT count(*) FROM ledger") == 1
    for role in (app_dsn(postgres, "payments"), owner_dsn(postgres, "payments")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await execute(role, "SELECT count(*) FROM billing.ledger")


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE billing.mine (n int)", "CREATE TABLE public.mine (n int)", "CREATE SCHEMA mine", "CREATE ROLE mine"],
)
async def test_an_application_role_makes_no_objects(postgres: LocalPostgres, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(app_dsn(postgres, "billing"), statement)


async def test_a_role_without_a_grant_cannot_connect(postgres: LocalPostgres) -> None:
    await execute(postgres.admin_dsn, "CREATE ROLE stranger LOGIN PASSWORD 'stranger'", "SELECT 1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(database_dsn(postgres.admin_dsn, "stranger", "stranger"), "SELECT 1")


async def test_a_wrong_password_is_refused(postgres: LocalPostgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await execute(postgres.dsn("postgres", "wrong", "postgres"), "SELECT 1")


async def test_a_commit_is_never_traded_for_speed(postgres: LocalPostgres) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await execute(postgres.admin_dsn, f"SHOW {setting}") == "on"


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
async def test_postgres_keeps_committed_rows_however_it_ends(
    postgres: LocalPostgres, how: Literal["fast", "immediate", "kill"]
) -> None:
    owner = owner_dsn(postgres, "gateway")
    await execute(owner, f"CREATE TABLE kept_{how} (n int)", f"INSERT INTO kept_{how} VALUES (7)", "SELECT 1")
    before = postgres.pid
    if how == "kill":
        await asyncio.to_thread(postgres.kill)
    else:
        await asyncio.to_thread(postgres.stop, mode=how)
    assert not postgres.running
    await asyncio.to_thread(postgres.start)
    assert postgres.pid != before
    assert await execute(owner, f"SELECT n FROM kept_{how}") == 7


async def test_kafka_keeps_acknowledged_records_through_a_kill(kafka: LocalKafka) -> None:
    await ensure_topics(kafka.bootstrap_servers, [Topic("kept", 1)])
    await publish(kafka, "kept", b"one", b"two")
    before = kafka.pid
    await asyncio.to_thread(kafka.kill)
    assert not kafka.running
    await asyncio.to_thread(kafka.restart)
    assert kafka.pid != before
    await publish(kafka, "kept", b"three")
    assert await read_all(kafka, "kept", 3) == [b"one", b"two", b"three"]


def test_kafka_maps_the_classes_that_its_first_start_on_this_machine_archived(kafka: LocalKafka) -> None:
    assert str(class_archive()) in Path(f"/proc/{kafka.pid}/maps").read_text()


def test_an_archive_that_is_none_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none.jsa").write_bytes(b"none")
    monkeypatch.setattr("deploy.local.kafka.class_archive", lambda: tmp_path / "none.jsa")
    with LocalKafka(tmp_path / "kafka") as server:
        assert "none.jsa" not in Path(f"/proc/{server.pid}/maps").read_text()


def test_what_keeps_the_classes_from_being_archived_is_told_and_leaves_no_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive" / "classes.jsa"
    monkeypatch.setattr("deploy.local.kafka_classes.class_archive", lambda: archive)
    with pytest.raises(StackError, match="no such option"):
        make_class_archive(["sh", "-c", "echo no such option; exit 1"], lambda folder, classes: None)
    assert not archive.exists()
    with pytest.raises(StackError, match="could not be archived"):
        make_class_archive(["true"], lambda folder, classes: None)
    assert not archive.exists()


def test_kafka_starts_where_its_classes_cannot_be_archived_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Root writes into folders of any mode, but a file is no folder for anyone.
    (tmp_path / "jars").write_bytes(b"")
    archive = tmp_path / "jars" / "archive" / "classes.jsa"
    for module in ("kafka", "kafka_classes"):
        monkeypatch.setattr(f"deploy.local.{module}.class_archive", lambda: archive)
    with LocalKafka(tmp_path / "kafka") as server:
        assert server.running
    (warning,) = (record.getMessage() for record in caplog.records if record.name == "deploy.local.kafka")
    assert "could not be archived" in warning
    assert str(archive.parent) in warning


def test_an_archive_that_could_not_be_finished_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive" / "classes.jsa"
    monkeypatch.setattr("deploy.local.kafka_classes.class_archive", lambda: archive)
    monkeypatch.setattr("deploy.local.kafka_classes._DUMP_TIMEOUT_S", 1)
    begun = "for word; do case $word in -XX:SharedArchiveFile=*) echo begun > ${word#*=};; esac; done"
    for ends, told in (("echo No space left >&2; exit 1", "No space left"), ("exec sleep 30", "timed out")):
        with pytest.raises(StackError, match=f"could not be archived.*{told}"):
            make_class_archive(["sh", "-c", f"{begun}; {ends}", "java"], lambda folder, classes: None)
        assert [path.name for path in archive.parent.iterdir()] == ["classes.lock"]


async def test_topics_are_created_grown_and_corrected_and_left_alone_when_right(kafka: LocalKafka) -> None:
    address = kafka.bootstrap_servers
    await ensure_topics(address, [Topic("grown", 2, {"retention.ms": "1000000"})])
    await ensure_topics(address, [Topic("grown", 2, {"retention.ms": "1000000"})])
    assert await topic_state(address, "grown") == (2, "1000000", "delete")
    await ensure_topics(address, [Topic("grown", 5, {"cleanup.policy": "compact"}), Topic("other", 1)])
    # The retention that was set before and is no longer named stays.
    assert await topic_state(address, "grown") == (5, "1000000", "compact")
    assert (await topic_state(address, "other"))[0] == 1
    await ensure_topics(address, [Topic("grown", 3, {"retention.ms": "2000000"})])
    assert await topic_state(address, "grown") == (5, "2000000", "compact")


async def test_the_lag_of_a_process_is_what_waits_in_its_partitions(kafka: LocalKafka) -> None:
    await ensure_topics(kafka.bootstrap_servers, [Topic("behind", 1)])
    reader = AIOKafkaConsumer(
        "behind",
        bootstrap_servers=kafka.bootstrap_servers,
        group_id="billing",
        client_id="billing-billing-worker-1",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    stack = {"kafka": kafka.bootstrap_servers}
    processes = [
        {"name": name, "role": "worker", "port": 1, "pid": 1, "restarts": 0, "health": "http://127.0.0.1:1/readyz"}
        for name in ("billing-worker-1", "billing-worker-10", "billing")
    ]
    async with reader, asyncio.timeout(60):
        await publish(kafka, "behind", b"1", b"2", b"3")
        await reader.getone()
        assert [row.lag for row in await look({**stack, "processes": processes})] == [3, None, None]
        await reader.commit()
        assert [row.lag for row in await look({**stack, "processes": processes})] == [2, None, None]


async def topic_state(address: str, name: str) -> tuple[int, str, str]:
    """Give a topic's number of partitions, retention and clean-up policy, as the broker tells them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        (topic,) = await admin.describe_topics([name])
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    finally:
        await admin.close()
    configs = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    return len(topic["partitions"]), configs["retention.ms"], configs["cleanup.policy"]


def lives(pid: int) -> bool:
    """Say whether a process runs; one that has ended counts as ended also while nobody has taken note of it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def spec(tmp_path: Path, name: str, code: str, **changes: Any) -> ProcessSpec:
    """A process that runs a line of Python; it is ready once it has written `up` to its log."""
    log = tmp_path / f"{name}.log"

    async def ready() -> bool:
        return log.exists() and "up" in log.read_text()

    return ProcessSpec(
        name=name,
        role="test",
        port=0,
        health="",
        command=lambda: [sys.executable, "-u", "-c", code],
        ready=ready,
        cwd=tmp_path,
        log=log,
        **changes,
    )


SLEEPS = "import time; print('up'); time.sleep(600)"


async def test_a_killed_process_is_started_again_and_counted(tmp_path: Path) -> None:
    seen: list[list[dict[str, Any]]] = []
    supervisor = Supervisor(lambda: seen.append([child.describe() for child in supervisor.children]))
    supervisor.keep(spec(tmp_path, "sleeper", SLEEPS))
    try:
        await asyncio.wait_for(supervisor.wait_ready("sleeper"), 20)
        before = seen[-1][0]
        os.kill(before["pid"], signal.SIGKILL)
        await eventually(lambda: seen[-1][0]["pid"] not in (before["pid"], None), what="another process")
        assert (before["restarts"], seen[-1][0]["restarts"]) == (0, 1)
        assert [change[0]["pid"] for change in seen[-3:]] == [before["pid"], None, seen[-1][0]["pid"]]
        assert lives(seen[-1][0]["pid"])
    finally:
        await supervisor.stop()
    assert not lives(seen[-1][0]["pid"])


async def test_one_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    supervisor = Supervisor(lambda: None)
    supervisor.keep(spec(tmp_path, "broken", "raise SystemExit('no such thing')"))
    try:
        with pytest.raises(StackError, match=r"broken keeps ending \(exit code 1\)(.|\n)*no such thing"):
            await asyncio.wait_for(supervisor.wait_ready("broken"), 30)
    finally:
        await supervisor.stop()


async def test_higher_tiers_stop_first_and_a_deaf_process_is_killed(tmp_path: Path) -> None:
    says_when_told = (
        "import signal, sys, time, pathlib\n"
        "def end(*_): pathlib.Path('order').open('a').write(sys.argv[1]); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('up'); time.sleep(600)"
    )
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(600)"
    supervisor = Supervisor(lambda: None)
    for tier, name in enumerate("abc"):
        code = says_when_told.replace("sys.argv[1]", repr(name))
        supervisor.keep(spec(tmp_path, name, code, tier=tier))
    supervisor.keep(spec(tmp_path, "deaf", deaf, tier=3, grace_s=0.3))
    for child in supervisor.children:
        await asyncio.wait_for(supervisor.wait_ready(child.spec.name), 20)
    pids = [child.describe()["pid"] for child in supervisor.children]
    await supervisor.stop()
    assert (tmp_path / "order").read_text() == "cba"
    assert not any(lives(pid) for pid in pids)


def test_a_process_that_was_given_a_recorded_number_later_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPS]) as stranger:
        record = RecordedProcess.of("x", stranger.pid, tier=0, stop_signal=signal.SIGKILL, grace_s=1)
        assert record is not None
        assert end_recorded([replace(record, started_at=record.started_at - 60)]) == []
        assert stranger.poll() is None
        assert end_recorded([record]) == ["x"]
        assert stranger.wait(10) == -signal.SIGKILL


SERVICE = """
import http.server, os, signal, sys
name = {name!r}
if sys.argv[1] == "migrate":
    if "--check" in sys.argv and os.path.exists(name + "-is-behind"):
        sys.exit(3)
    if "--check" not in sys.argv:
        open(name + "-migrated", "w").close()
    sys.exit(0 if os.environ[name + "_DATABASE_OWNER_URL"] else 1)
if sys.argv[1] == "audit":
    print(os.environ[name + "_INSTANCE"], *sys.argv[2:])
    sys.exit(3)
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http_is = name + ("_INTERNAL_HTTP__" if name == "GATEWAY" else "_HTTP__")
http.server.HTTPServer((os.environ[http_is + "HOST"], int(os.environ[http_is + "PORT"])), Ready).serve_forever()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A checkout whose servers are real and whose services only say that they are ready."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "rappen"\n')
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").touch()
    for name in SERVICES:
        package = tmp_path / "services" / name
        package.mkdir()
        (package / "__main__.py").write_text(SERVICE.format(name=name.upper()))
    # What the command itself takes from the services: how it prints, and the scopes that `token` knows.
    for part in ("chassis", "gateway/access"):
        (tmp_path / "services" / part).symlink_to(ROOT / "services" / part)
    fakestripe = tmp_path / "deploy" / "fakestripe"
    fakestripe.mkdir(parents=True)
    (fakestripe / "__main__.py").write_text(
        "import os, sys\nos.environ.update(STRIPE_HTTP__HOST='127.0.0.1', STRIPE_HTTP__PORT=sys.argv[2])"
        + SERVICE.format(name="STRIPE")
    )
    for part in ("__init__.py", "local", "ops", "postgres"):
        (tmp_path / "deploy" / part).symlink_to(ROOT / "deploy" / part)
    yield tmp_path
    rappen(tmp_path, "down", "--purge")


def environment() -> dict[str, str]:
    """That of the tests without what says something of another stack."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RAPPEN_") or "CACHE" in key}


def rappen(checkout: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "deploy.ops.main", *arguments]
    return subprocess.run(
        command, cwd=checkout, env=env or environment(), capture_output=True, text=True, timeout=300, check=False
    )


def begin(checkout: Path, *arguments: str) -> subprocess.Popen[str]:
    """Begin a command in a process group of its own, as a shell does, so that Ctrl-C can be sent to it."""
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.ops.main", *arguments],
        cwd=checkout,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def stack_of(checkout: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((checkout / ".rappen" / "stack.json").read_text())
    return content


def pid_of(checkout: Path, name: str) -> int | None:
    return next(process["pid"] for process in stack_of(checkout)["processes"] if process["name"] == name)


async def test_the_command_line_starts_watches_and_stops_a_stack(checkout: Path) -> None:
    assert "not running" in rappen(checkout, "status").stderr
    up = rappen(checkout, "up", "--detach", "--empty")
    assert up.returncode == 0, up.stderr
    stack = stack_of(checkout)
    assert (checkout / ".rappen" / "stack.json").stat().st_mode & 0o777 == 0o600
    assert [process["name"] for process in stack["processes"]] == [
        *("postgres", "kafka", "fakestripe", "mail", "billing-api", "billing-worker-1", "billing-worker-2"),
        *("payments", "subscriptions", "gateway"),
    ]
    async with httpx.AsyncClient(trust_env=False) as client:
        for process in stack["processes"]:
            assert (await client.get(process["health"])).status_code == 200, process["name"]
    again = rappen(checkout, "up", "--detach")
    assert (again.returncode, "already running" in again.stderr) == (1, True)

    before = pid_of(checkout, "billing-worker-2")
    assert before is not None
    os.kill(before, signal.SIGKILL)
    await eventually(
        lambda: pid_of(checkout, "billing-worker-2") not in (before, None), what="another process", timeout_s=20
    )
    after = pid_of(checkout, "billing-worker-2")
    assert after is not None
    assert lives(after)
    audit = rappen(checkout, "audit", "--json")
    assert (audit.returncode, audit.stdout) == (3, "billing-operator --json\n")

    migrate = rappen(checkout, "migrate")
    assert (migrate.returncode, migrate.stdout) == (0, "there is nothing to migrate\n")
    for name in SERVICES:
        (checkout / f"{name.upper()}-migrated").unlink()
    (checkout / "BILLING-is-behind").touch()
    migrate = rappen(checkout, "migrate")
    assert (migrate.returncode, "down" in migrate.stderr, "up" in migrate.stderr) == (1, True, True)
    migrated = [each for each in os.listdir(checkout) if each.endswith("-migrated")]
    assert migrated == [], "processes of before do not know what a migration brings"

    await execute(stack["postgres"]["admin"], "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7) RETURNING n")
    pids = [process["pid"] for process in stack_of(checkout)["processes"]]
    assert rappen(checkout, "down").returncode == 0
    assert not any(lives(pid) for pid in pids)

    up = rappen(checkout, "up", "--detach", "--empty", "--workers", "1")
    assert up.returncode == 0, up.stderr
    assert stack_of(checkout)["postgres"] == stack["postgres"]
    assert await execute(stack["postgres"]["admin"], "SELECT n FROM kept") == 7
    pids = [process["pid"] for process in stack_of(checkout)["processes"]]
    record = json.loads((checkout / ".rappen" / "state" / "supervisor.json").read_text())
    os.kill(record["supervisor"]["pid"], signal.SIGKILL)
    assert rappen(checkout, "down", "--purge").returncode == 0
    assert not any(lives(pid) for pid in pids)
    assert not (checkout / ".rappen").exists()


async def test_ctrl_c_while_a_detached_stack_starts_leaves_nothing(checkout: Path) -> None:
    up = begin(checkout, "up", "--detach", "--empty")
    record = checkout / ".rappen" / "state" / "supervisor.json"
    await eventually(
        lambda: record.exists() and len(json.loads(record.read_text())["processes"]) > 1,
        what="processes on record",
        timeout_s=20,
    )
    started = json.loads(record.read_text())
    os.killpg(up.pid, signal.SIGINT)
    _, told = up.communicate(timeout=60)
    assert up.returncode == 130
    assert told.endswith("stopping what has been started\nrappen: interrupted\n")
    assert not any(lives(process["pid"]) for process in (started["supervisor"], *started["processes"]))
    assert "not running" in rappen(checkout, "status").stderr
    assert rappen(checkout, "down").stdout.startswith("nothing was running")


def test_ctrl_c_ends_a_command_of_a_service_without_a_traceback(checkout: Path) -> None:
    (checkout / "services" / "billing" / "__main__.py").write_text(
        "import time\nprint('begun', flush=True)\ntime.sleep(60)"
    )
    audit = begin(checkout, "audit", "--help")
    assert audit.stdout is not None
    assert audit.stdout.readline() == "begun\n"
    os.killpg(audit.pid, signal.SIGINT)
    _, told = audit.communicate(timeout=30)
    assert (audit.returncode, told) == (130, "rappen: interrupted\n")


def test_ctrl_c_before_the_command_line_is_made_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    done = rappen(ROOT, "up", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (130, "rappen: interrupted\n")


@pytest.mark.parametrize(
    "words", [("up",), ("up", "--detach"), ("status",), ("down",), ("down", "--purge"), ("audit",)]
)
def test_a_folder_that_cannot_be_used_is_told_in_a_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / ".rappen").write_text("")
    done = rappen(ROOT, *words, env={**os.environ, "RAPPEN_HOME": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith(f"rappen: {tmp_path / '.rappen'}")


@pytest.mark.parametrize(
    "words",
    [
        *(("audit",), ("dlq",), ("dlq", "list"), ("dlq", "replay"), ("prices",), ("migrate",), ("status",), ("demo",)),
        *(("clock",), ("clock", "show"), ("clock", "advance")),
    ],
)
def test_help_needs_no_stack(tmp_path: Path, words: tuple[str, ...]) -> None:
    for asked in ("--help", "-h") if words[0] in ("audit", "dlq", "prices") else ("--help",):
        done = rappen(ROOT, *words, asked, env={**os.environ, "RAPPEN_HOME": str(tmp_path)})
        assert (done.returncode, done.stderr) == (0, "")
        assert "usage" in done.stdout.lower()
        assert words[-1] in done.stdout


async def test_tokens_are_signed_with_the_key_of_the_stack(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    identity = load_identity(home)
    issuer = identity.issuer()
    token = sign(issuer, {"sub": "u1"}, now_s=int(time.time()))
    public = load_pem_private_key(identity.issuer_key_file.read_bytes(), None).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(token, pem, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
    assert claims["sub"] == "u1"
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "at+jwt", "kid": issuer["key_id"]}
    assert load_identity(home) == identity


@pytest.fixture
async def mail_catcher() -> AsyncIterator[tuple[str, int]]:
    """A mail catcher that is ready: the address of its page, and its SMTP port."""
    smtp_port, http_port = free_port(), free_port()
    command = [sys.executable, "-m", "deploy.local.mail", "--smtp-port", str(smtp_port), "--http-port", str(http_port)]
    address = f"http://127.0.0.1:{http_port}"
    async with Process("mail", command, environment=os.environ, ready_url=f"{address}/readyz"):
        yield address, smtp_port


async def test_the_mail_catcher_takes_a_mail_and_shows_it(mail_catcher: tuple[str, int]) -> None:
    address, smtp_port = mail_catcher
    message = EmailMessage()
    message["Subject"] = "Guthaben knapp, bitte jetzt schön aufladen"
    message["From"] = "billing@example.com"
    message["To"] = "anna@example.com"
    message.set_content("Noch CHF 3.20.")
    message.add_alternative("<p>Noch <b>CHF 3.20</b>.</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="invoice.pdf")
    async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
        await aiosmtplib.send(message, hostname="127.0.0.1", port=smtp_port, start_tls=False)
        (listed,) = (await client.get("/api/mails", params={"to": "anna@example.com"})).json()["items"]
        assert listed["subject"] == message["Subject"]
        shown = (await client.get(f"/api/mails/{listed['id']}")).json()
        assert shown["text"].strip() == "Noch CHF 3.20."
        assert shown["html"].strip() == "<p>Noch <b>CHF 3.20</b>.</p>"
        assert shown["attachments"] == [{"name": "invoice.pdf", "contentType": "application/pdf", "bytes": 4}]
        assert (await client.get("/api/mails", params={"to": "ben@example.com"})).json()["items"] == []
        assert 'setAttribute("sandbox", "")' in (await client.get("/")).text
        assert (await client.delete("/api/mails")).status_code == 204
        assert (await client.get(f"/api/mails/{listed['id']}")).status_code == 404
