"""What the state machines of billing share: a ledger of their own, driven without Kafka and HTTP."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from deploy.postgres.bootstrap import SERVICES, RolePasswords, bootstrap, database_dsn
from services.chassis.database import Database
from services.chassis.faults import FaultPoints
from services.chassis.migrations import migrate
from tests.support.stack import make_postgres

__all__ = ["Crash", "CrashPoint", "World", "empty_ledger", "run_until_reached"]

T = TypeVar("T")
FOLDER = Path(__file__).resolve().parents[2] / "services" / "billing" / "migrations"


class Crash(Exception):  # noqa: N818 - it stands for a crash, not for an error.
    """The process would have died here."""


class CrashPoint(FaultPoints):
    """Raises once instead of killing, because the test lives in the same process."""

    def __init__(self) -> None:
        super().__init__(None)
        self.armed: str | None = None

    def reach(self, point: str) -> None:
        """Dies at the point that is armed."""
        if point == self.armed:
            self.armed = None
            raise Crash


class World:
    """The database, its loop, and what all runs of a machine saw."""

    def __init__(self, runner: asyncio.Runner, dsn: str, **options: Any) -> None:
        self._runner = runner
        self.database = Database(dsn, pool_size=4, **options)
        self.seen: defaultdict[str, int] = defaultdict(int)

    def wait(self, work: Awaitable[T]) -> T:
        """Does it in the loop."""

        async def waited() -> T:
            return await work

        return self._runner.run(waited())


@contextmanager
def empty_ledger(folder: Path, **options: Any) -> Iterator[World]:
    """An empty ledger on a PostgreSQL of its own; options are those of `Database`."""
    passwords = {name: RolePasswords(uuid4().hex, uuid4().hex) for name in SERVICES}
    with make_postgres(folder / "postgres") as server, asyncio.Runner() as runner:
        runner.run(bootstrap(server.admin_dsn, passwords))
        owner_dsn = database_dsn(server.admin_dsn, "billing_owner", passwords["billing"].owner)
        migrate(owner_dsn, schema="billing", folder=FOLDER)
        made = World(runner, database_dsn(server.admin_dsn, "billing_app", passwords["billing"].app), **options)
        made.wait(made.database.start())
        yield made
        made.wait(made.database.stop())


def run_until_reached(
    machine: Callable[[], RuleBasedStateMachine], world: World, reached: Collection[str], *, runs: int, steps: int
) -> None:
    """So many runs of so many steps, the same rules and values every time; fails if the world never saw one of the
    things that are to be reached. What a step meets depends on new ids too, so of a rare thing there may be none in
    the first runs: then there are more."""
    for times in (1, 2, 4, 8):
        limits = settings(
            max_examples=times * runs,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(machine, settings=limits)
        missed = {name for name in reached if not world.seen[name]}
        if not missed:
            return
    raise AssertionError(f"never reached: {missed}; {dict(world.seen)}")
