"""Answers of any length, sent piece by piece as fast as the caller takes them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Self

from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

__all__ = ["StreamedAnswer"]

# A caller who takes no piece for so long has gone, and what it holds is given back.
PIECE_S = 60.0


class StreamedAnswer(StreamingResponse):
    """The pieces of a generator, which is closed at the end, however the answer ends.

    What fails before the first piece can still be refused; what fails later breaks the answer off, so that nobody takes
    a part for the whole.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        *,
        first: bytes = b"",
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(_with_first(first, pieces), status_code=status_code, headers=headers)
        self._pieces = pieces

    @classmethod
    async def begun(cls, pieces: AsyncGenerator[bytes, None], *, media_type: str, filename: str) -> Self:
        """The answer as a file, once its first piece is there."""
        try:
            first = await anext(pieces, b"")
        except BaseException:
            await pieces.aclose()
            raise
        headers = {"content-type": media_type, "content-disposition": f'attachment; filename="{filename}"'}
        return cls(pieces, first=first, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the pieces."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(PIECE_S):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        finally:
            await self._pieces.aclose()


async def _with_first(first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    if first:
        yield first
    async for piece in pieces:
        yield piece
