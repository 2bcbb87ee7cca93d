"""Who may speak to the database, and how: routes do not, queries never write, and the driver is for the named files."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.stack import ROOT

SERVICES = ROOT / "services"
FILES = sorted(SERVICES.rglob("*.py"))
ROUTES = [file for file in FILES if file.stem.startswith("api")]
QUERIES = [file for file in FILES if file.stem == "queries"]

# asyncpg's connection below a transaction of ours: where statements of a hot path are written for the driver, and where
# such a repository is called. The list becomes longer only by a new hot path, as that of
# holds, or by what reads every row of the ledger.
OF_THE_DRIVER = {"driver_connection", "driver_reading"}
DRIVER = {
    "billing/charging/price_corrections.py",
    "billing/checks/eligibility.py",
    "billing/commands/audit.py",
    "billing/corrections/charges.py",
    "billing/ledger/descriptions.py",
    "billing/ledger/grants.py",
    "billing/ledger/closed_days.py",
    "billing/ledger/holds.py",
    "billing/ledger/keys.py",
    "billing/ledger/low_balances.py",
    "billing/ledger/repository.py",
    "billing/ledger/seal_days.py",
    "billing/mandates/answers.py",
    "billing/mandates/repository.py",
    "billing/pricing/unposted.py",
    "chassis/database.py",
    "chassis/dead_letters.py",
    "chassis/outbox.py",
    "chassis/quarantine.py",
    "chassis/relay.py",
    "gateway/access/scope.py",
}
_WRITES = re.compile(r"\b(INSERT INTO|UPDATE \w+ SET|DELETE FROM|TRUNCATE)\b")


def name_of(file: Path) -> str:
    return str(file.relative_to(SERVICES))


def imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.partition(".")[0])
    return found


def called(tree: ast.AST) -> set[str]:
    """The last names of everything that is called, such as `transaction` of `database.transaction()`."""
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    }


def test_there_are_routes_and_queries_at_all() -> None:
    known = (
        "billing/mandates/api.py",
        "gateway/directory/api.py",
        "payments/inbox/api.py",
        "subscriptions/plans/api.py",
    )
    assert set(known) <= set(map(name_of, ROUTES))
    assert "billing/pricing/queries.py" in set(map(name_of, QUERIES))


@pytest.mark.parametrize("file", ROUTES, ids=name_of)
def test_a_route_holds_no_sql_and_opens_no_transaction(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert not imported(tree) & {"sqlalchemy", "asyncpg"}
    assert not called(tree) & {"transaction", "reading", "savepoint", *OF_THE_DRIVER}


@pytest.mark.parametrize("file", QUERIES, ids=name_of)
def test_queries_never_write(file: Path) -> None:
    tree = ast.parse(file.read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert [text for text in texts if _WRITES.search(text)] == []
    assert not called(tree) & {"insert", "update", "delete", "copy_records_to_table", "executemany", "transaction"}


def test_the_driver_is_for_the_named_files() -> None:
    using = {name_of(file) for file in FILES if called(ast.parse(file.read_text())) & OF_THE_DRIVER}
    assert using <= DRIVER
    assert {name for name in DRIVER if name not in using} == set()


def test_connections_are_made_in_one_place() -> None:
    for file in FILES:
        if name_of(file) != "chassis/database.py":
            tree = ast.parse(file.read_text())
            assert "create_pool" not in called(tree), file
            connects = [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and node.attr == "connect" and ast.unparse(node.value) == "asyncpg"
            ]
            assert connects == [], file
