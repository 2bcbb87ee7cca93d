"""The objects that routes use, which the wiring puts into an application's state."""

from typing import Any

from fastapi import Depends, Request

__all__ = ["of_state"]


def of_state(name: str) -> Any:
    """The FastAPI dependency that gives a route the object of this name in its application's state."""

    async def read(request: Request) -> object:
        return getattr(request.app.state, name)

    return Depends(read)
