"""FastAPI dependencies of routes that price something, beside those in `http`."""

from typing import Annotated

from fastapi import Depends, Request

from services.billing.pricing.repository import Tariffs

__all__ = ["CurrentTariffs"]


async def _tariffs(request: Request) -> Tariffs:
    tariffs: Tariffs = request.app.state.tariffs
    return tariffs


# The application has them as `state.tariffs`.
CurrentTariffs = Annotated[Tariffs, Depends(_tariffs)]
