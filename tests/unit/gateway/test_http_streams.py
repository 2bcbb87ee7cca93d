"""Answers that are passed on piece by piece: as they come, closed when left, broken off where they break off."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.streams import StreamedAnswer
from services.gateway.edge import connections
from services.gateway.edge.connections import HttpClient, NoAnswer, NoConnection, OpenAnswer
from tests.unit.gateway.talks import Talk, peer

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/csv\r\n\r\n"


async def opened(client: HttpClient) -> OpenAnswer:
    return await client.open("GET", "/x?y=1", {"x-a": "b"})


async def test_each_piece_is_there_before_the_next_is_sent() -> None:
    wanted = asyncio.Semaphore(0)

    async def conversation(talk: Talk) -> None:
        for _ in range(2):
            await talk.hear()
            await talk.say(HEAD, b"2\r\nhi\r\n")
            await wanted.acquire()
            await talk.say(b"3\r\nyou\r\n", b"0\r\n\r\n")

    async with peer(conversation) as (known, client):
        for _ in range(2):
            answer = await opened(client)
            assert (answer.status, dict(answer.headers)[b"content-type"]) == (200, b"text/csv")
            assert await anext(answer.pieces) == b"hi"
            wanted.release()
            assert [piece async for piece in answer.pieces] == [b"you"]
    # Read to its end, the connection serves the next.
    assert len(known.talks) == 1


async def test_a_part_is_never_taken_for_the_whole() -> None:
    async def breaking_off(talk: Talk) -> None:
        await talk.hear()
        await talk.say(HEAD, b"2\r\nhi\r\n", b"5\r\nyo")

    async with peer(breaking_off) as (_, client):
        answer = await opened(client)
        assert await anext(answer.pieces) == b"hi"
        with pytest.raises(NoAnswer):
            await _rest(answer)


async def _rest(answer: OpenAnswer) -> None:
    async for _ in answer.pieces:
        pass


async def test_an_answer_that_is_left_closes_its_connection() -> None:
    left = asyncio.Event()

    async def endless(talk: Talk) -> None:
        await talk.hear()
        await talk.say(HEAD, b"2\r\nhi\r\n")
        await talk.ended()
        left.set()

    async with peer(endless) as (_, client):
        answer = await opened(client)
        await anext(answer.pieces)
        await answer.pieces.aclose()
        async with asyncio.timeout(60):
            await left.wait()


async def test_a_service_that_stops_in_the_middle_is_waited_for_with_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PIECE_S", 0.5)

    async def silent(talk: Talk) -> None:
        await talk.hear()
        await talk.say(HEAD, b"2\r\nhi\r\n")
        await talk.ended()

    async with peer(silent) as (_, client):
        answer = await opened(client)
        await anext(answer.pieces)
        with pytest.raises(NoAnswer):
            await anext(answer.pieces)


async def test_a_refusal_is_read_whole_and_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refusing(talk: Talk) -> None:
        await talk.hear()
        await talk.say(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\n\r\nwrong")

    async with peer(refusing) as (_, client):
        whole = await (await opened(client)).whole()
        assert (whole.status, whole.body) == (400, b"wrong")
    monkeypatch.setattr(connections, "SHORT_BODY_BYTES_MAX", 4)
    async with peer(refusing) as (_, client):
        answer = await opened(client)
        with pytest.raises(NoAnswer):
            await answer.whole()


async def test_without_a_peer_nothing_was_sent() -> None:
    client = HttpClient("http://127.0.0.1:1")
    await client.start()
    with pytest.raises(NoConnection):
        await opened(client)
    await client.stop()


async def test_a_caller_who_goes_away_closes_what_the_pieces_hold() -> None:
    closed = asyncio.Event()
    gone = asyncio.Event()

    async def pieces():  # type: ignore[no-untyped-def]
        try:
            for _ in range(1_000_000):
                yield b"x"
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    sent = 0

    async def send(message: object) -> None:
        nonlocal sent
        sent += 1
        if sent == 10:
            gone.set()

    answer = await StreamedAnswer.begun(pieces(), media_type="text/csv", filename="x.csv")
    async with asyncio.timeout(60):
        await answer({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)  # type: ignore[arg-type]
    assert closed.is_set()
    assert sent < 1000
