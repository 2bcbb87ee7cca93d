"""The connections to a service: what is sent again, what is closed, how many there are."""

import asyncio

import pytest

from services.gateway.edge import connections
from services.gateway.edge.connections import HttpClient, NoAnswer, NoConnection
from tests.support.waiting import eventually
from tests.unit.gateway.talks import OK, Talk, ask, forever, peer


async def test_a_read_that_gets_nothing_is_sent_twice_and_no_more() -> None:
    async def silent(talk: Talk) -> None:
        await talk.hear()

    async with peer(silent) as (known, client):
        with pytest.raises(NoAnswer):
            await ask(client)
    assert len(known.talks) == 2


async def test_a_read_on_a_connection_that_ended_while_it_was_idle_is_sent_again_on_another() -> None:
    async def once(talk: Talk) -> None:
        await talk.hear()
        await talk.say(OK)
        if talk.number == 0:
            # As a service that ends after it was asked and before it answers.
            await talk.hear()
            return
        await forever(talk)

    async with peer(once) as (known, client):
        assert (await ask(client)).body == b"hi"
        assert (await ask(client)).body == b"hi"
        assert len(known.talks) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_change_is_never_sent_twice(method: str) -> None:
    heard: list[int] = []

    async def once(talk: Talk) -> None:
        await talk.hear()
        await talk.say(OK)
        await talk.hear()
        heard.append(talk.number)

    async with peer(once) as (known, client):
        await ask(client)
        with pytest.raises(NoAnswer):
            await ask(client, method=method, body=b"{}", repeatable=False)
    assert heard == [0]
    assert len(known.talks) == 1


async def test_a_change_takes_no_connection_that_the_service_has_closed() -> None:
    async def one(talk: Talk) -> None:
        await talk.hear()
        # Not announced by a header, as when the service ends.
        await talk.say(OK)

    async with peer(one) as (known, client):
        for _ in range(5):
            assert (await ask(client, method="POST", body=b"{}", repeatable=False)).body == b"hi"
            known.talks[-1].writer.close()
            # In the kernel before the event loop has looked.
            await asyncio.sleep(0)
    assert len(known.talks) == 5


async def test_a_connection_that_the_answer_closes_or_that_says_more_is_not_used_again() -> None:
    async def closing(talk: Talk) -> None:
        await talk.hear()
        close = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"
        await talk.say(close if talk.number % 2 else OK + OK)
        assert await talk.ended()

    async with peer(closing) as (known, client):
        for _ in range(4):
            answer = await ask(client)
            assert (answer.body, len(answer.headers)) == (b"hi", 2)
            await asyncio.sleep(0.02)
        assert len(known.talks) == 4


@pytest.mark.parametrize(
    "late",
    [
        OK.replace(b"hi", b"NO"),
        # As a balancer says before it closes a connection that was idle.
        b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n",
        b"no HTTP",
    ],
)
async def test_what_the_service_says_unasked_is_no_answer_to_the_next_request(late: bytes) -> None:
    async def unasked(talk: Talk) -> None:
        await talk.hear()
        await talk.say(OK)
        await asyncio.sleep(0.02)
        await talk.say(late)
        assert await talk.ended()

    async with peer(unasked) as (known, client):
        for method, repeatable in (("GET", True), ("POST", False), ("GET", True)):
            answer = await ask(client, method=method, repeatable=repeatable)
            assert (answer.status, answer.body) == (200, b"hi")
            await asyncio.sleep(0.06)
        assert len(known.talks) == 3


async def test_a_service_that_talks_first_gives_no_connection() -> None:
    async def talking(talk: Talk) -> None:
        await talk.say(b"SSH-2.0-OpenSSH\r\n")
        await talk.ended()

    async with peer(talking) as (_, client):
        with pytest.raises((NoConnection, NoAnswer)):
            await ask(client)


async def test_an_idle_connection_is_not_used_when_the_service_is_about_to_close_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 1.0)
    async with peer(forever) as (known, client):
        await ask(client)
        await ask(client)
        await asyncio.sleep(1.1)
        await ask(client)
    assert len(known.talks) == 2


async def test_who_gives_up_closes_the_connection_and_nobody_gets_the_late_answer() -> None:
    heard, late = asyncio.Event(), asyncio.Event()

    async def slow(talk: Talk) -> None:
        await talk.hear()
        heard.set()
        if talk.number == 0:
            await late.wait()
        await talk.say(OK.replace(b"hi", b"0" + str(talk.number).encode()))
        await talk.ended()

    async with peer(slow) as (known, client):
        asking = asyncio.create_task(ask(client))
        await heard.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        late.set()
        await asyncio.sleep(0.05)
        assert (await ask(client)).body == b"01"
        assert len(known.talks) == 2


async def test_connections_are_bounded_and_who_waits_too_long_for_one_has_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "WAIT_TIMEOUT_S", 2.0)
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 3)
    go = asyncio.Event()

    async def slow(talk: Talk) -> None:
        while True:
            await talk.hear()
            await go.wait()
            await talk.say(OK)

    async with peer(slow) as (known, client):
        asking = [asyncio.create_task(ask(client)) for _ in range(3)]
        await eventually(lambda: len(known.talks) == 3, what="three connections")
        with pytest.raises(NoConnection):
            await ask(client)
        go.set()
        assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 3
        # Who waited was given up, and takes no place from those who come later.
        answers = await asyncio.gather(*(ask(client) for _ in range(20)))
        assert len(answers) == 20
        assert len(known.talks) == 3


async def test_who_is_cancelled_while_waiting_for_a_connection_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 1)
    go = asyncio.Event()

    async def slow(talk: Talk) -> None:
        while True:
            await talk.hear()
            await go.wait()
            await talk.say(OK)

    async with peer(slow) as (known, client):
        first = asyncio.create_task(ask(client))
        await eventually(lambda: len(known.talks) == 1, what="a connection")
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await ask(client)
        go.set()
        assert (await first).status == 200
        assert (await ask(client)).status == 200
        assert len(known.talks) == 1


async def test_where_nobody_listens_nothing_was_sent() -> None:
    async with peer(forever) as (known, _):
        url = known.url
    client = HttpClient(url)
    await client.start()
    with pytest.raises(NoConnection):
        await ask(client)
    await client.stop()
