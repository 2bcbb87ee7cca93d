"""Our view of Stripe's objects is made of what Stripe answers: what is of another shape is no answer."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from services.chassis.logging import get_logger
from services.payments.stripe.errors import StripeUnavailable

__all__ = ["view"]

P = ParamSpec("P")
T = TypeVar("T")

# What reading a field raises that is missing, or of another type, or a time that no calendar has.
_NO_ANSWER = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)

_log = get_logger(__name__)


def view(make: Callable[Concatenate[dict[str, Any], P], T]) -> Callable[Concatenate[dict[str, Any], P], T]:
    """A function that makes our view of an object's JSON. One that lacks a field, or has another type there, is a
    failure that goes by, and asks for nothing anew: StripeUnavailable."""

    @wraps(make)
    def made(found: dict[str, Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return make(found, *args, **kwargs)
        except _NO_ANSWER as error:
            about = found if isinstance(found, Mapping) else {}
            _log.error(
                "stripe gave an object of another shape",
                object=about.get("object"),
                object_id=about.get("id"),
                error=type(error).__name__,
            )
            raise StripeUnavailable from None

    return made
