"""FastAPI dependencies of routes that price something, beside those in `http`."""

from typing import Annotated

from services.billing.pricing.repository import Tariffs
from services.chassis.state import of_state

__all__ = ["CurrentTariffs"]

CurrentTariffs = Annotated[Tariffs, of_state("tariffs")]
