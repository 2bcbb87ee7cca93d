"""Makes the database, and for each service a schema with an owner and an application role.

The owner migrates. The application role may only enter its own schema; what it may do to the tables there, the
service's migrations grant. Nobody else may so much as connect. Everything can be repeated: what is there is brought to
this state.

As a program, `python -m deploy.postgres.bootstrap`, it serves `compose.yaml`; it reads `RAPPEN_POSTGRES_ADMIN` (the
superuser's DSN) and for each service `RAPPEN_<SERVICE>_OWNER_PASSWORD` and `RAPPEN_<SERVICE>_APP_PASSWORD`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

DATABASE = "rappen"
SERVICES = ("gateway", "billing", "payments", "subscriptions")

# Byte order with full case mapping, the same on every server whatever its own locale: lists are sorted by it.
_LOCALE = "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"

# Any number will do, as long as all who bootstrap one server take the same.
_ADVISORY_LOCK = 7_170_001


@dataclass(frozen=True)
class RolePasswords:
    """The passwords of one service's two roles."""

    owner: str = field(repr=False)
    app: str = field(repr=False)


def database_dsn(admin_dsn: str, user: str, password: str) -> str:
    """Give the DSN of a role in our database, on the server of the superuser's DSN."""
    parts = urlsplit(admin_dsn)
    host = parts.netloc.rpartition("@")[2]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}", path=f"/{DATABASE}"))


async def bootstrap(admin_dsn: str, passwords: Mapping[str, RolePasswords]) -> None:
    """Bring the server to the state described above; `passwords` is by service."""
    server = await asyncpg.connect(admin_dsn, timeout=10)
    try:
        # Two who start at once would otherwise both find the database missing. The lock goes with the session.
        await server.execute("SELECT pg_advisory_lock($1)", _ADVISORY_LOCK)
        for service in SERVICES:
            await _ensure_role(server, f"{service}_owner", passwords[service].owner)
            await _ensure_role(server, f"{service}_app", passwords[service].app)
        if not await server.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
            await server.execute(f'CREATE DATABASE "{DATABASE}" {_LOCALE}')
        await _ensure_schemas(admin_dsn)
    finally:
        await server.close(timeout=5)


async def _ensure_role(server: asyncpg.Connection, role: str, password: str) -> None:
    if not await server.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role):
        await server.execute(f'CREATE ROLE "{role}"')
    # A utility statement takes no parameters, so the server quotes the password itself.
    statement = await server.fetchval(
        "SELECT format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD %L',"
        " $1::text, $2::text)",
        role,
        password,
    )
    await server.execute(statement)


async def _ensure_schemas(admin_dsn: str) -> None:
    parts = urlsplit(admin_dsn)
    database = await asyncpg.connect(urlunsplit(parts._replace(path=f"/{DATABASE}")), timeout=10)
    try:
        async with database.transaction():
            await database.execute(f'REVOKE ALL ON DATABASE "{DATABASE}" FROM PUBLIC')
            await database.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            for service in SERVICES:
                owner, app = f"{service}_owner", f"{service}_app"
                await database.execute(f'GRANT CONNECT ON DATABASE "{DATABASE}" TO "{owner}", "{app}"')
                # The superuser of a hosted server is none, and may only give schemas to roles it is a member of.
                await database.execute(f'GRANT "{owner}" TO CURRENT_USER')
                await database.execute(f'CREATE SCHEMA IF NOT EXISTS "{service}" AUTHORIZATION "{owner}"')
                await database.execute(f'ALTER SCHEMA "{service}" OWNER TO "{owner}"')
                await database.execute(f'REVOKE ALL ON SCHEMA "{service}" FROM PUBLIC')
                await database.execute(f'GRANT USAGE ON SCHEMA "{service}" TO "{app}"')
                for role in (owner, app):
                    own_schema = f'SET search_path = "{service}"'
                    await database.execute(f'ALTER ROLE "{role}" IN DATABASE "{DATABASE}" {own_schema}')
    finally:
        await database.close(timeout=5)


def _passwords_from(environment: Mapping[str, str]) -> dict[str, RolePasswords]:
    return {
        service: RolePasswords(
            owner=environment[f"RAPPEN_{service.upper()}_OWNER_PASSWORD"],
            app=environment[f"RAPPEN_{service.upper()}_APP_PASSWORD"],
        )
        for service in SERVICES
    }


if __name__ == "__main__":
    asyncio.run(bootstrap(os.environ["RAPPEN_POSTGRES_ADMIN"], _passwords_from(os.environ)))
