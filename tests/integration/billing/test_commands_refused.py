"""What an operator has configured or written wrongly is said in a line, without a traceback."""

import asyncio

import pytest
from sqlalchemy.engine import make_url

from tests.support.processes import ServerPair, run_command

NOBODY = "postgresql://billing_owner:secret@127.0.0.1:1/rappen"
NO_URL = "a URL such as postgresql://user:password@host:5432/database is expected"


@pytest.mark.parametrize("words", [("migrate",), ("migrate", "--check"), ("vat", "list")])
async def test_a_server_that_is_away_or_lets_nobody_in_is_told_in_a_line(
    servers: ServerPair, words: tuple[str, ...]
) -> None:
    stranger = make_url(servers.dsn("billing")).set(password="wrong").render_as_string(hide_password=False)
    for url, told in ((NOBODY, "Connect call failed"), (stranger, "password authentication failed")):
        more = {"BILLING_DATABASE_URL": url, "BILLING_DATABASE_OWNER_URL": url}
        ended = await asyncio.to_thread(run_command, servers, "billing", *words, more=more)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1), ended.stderr
        assert told in ended.stderr


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("BILLING_DATABASE_URL", "secret", NO_URL),
        ("BILLING_DATABASE_URL", "mysql://a:secret@b/c", NO_URL),
        ("BILLING_DATABASE_OWNER_URL", "", NO_URL),
        ("BILLING_KAFKA", "127.0.0.1:9092", "JSON is expected; the parts of a group are set as BILLING_KAFKA__NAME"),
    ],
)
async def test_a_variable_that_cannot_be_read_is_named_and_not_shown(
    servers: ServerPair, variable: str, text: str, told: str
) -> None:
    ended = await asyncio.to_thread(run_command, servers, "billing", "vat", "list", more={variable: text})
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"{variable}: {told}\n")


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("billing", ("reverse", "\udcff", "7d9a0a52-1c1f-4b7e-9d57-0f3f6a1e2b01", "--reason", "x")),
        ("billing", ("dlq", "list", "--code", "\udcff")),
        ("billing", ("dlq", "replay", "--code", "\udcff")),
        ("billing", ("dlq", "resume", "\udcff")),
        ("payments", ("events", "show", "\udcff")),
        ("payments", ("stripe", "events", "retry", "\udcff")),
    ],
)
async def test_a_word_that_is_no_text_is_refused(servers: ServerPair, service: str, words: tuple[str, ...]) -> None:
    ended = await asyncio.to_thread(run_command, servers, service, *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith(": text that is UTF-8 is needed\n")
