"""Refusals of authentication, context and rate limits."""

from services.chassis.caller import Unauthenticated
from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = ["InvalidContext", "InvalidToken", "RateLimited", "TokenNeeded", "UserDisabled"]


class TokenNeeded(Unauthenticated):
    """There is no bearer token."""

    texts = both("A bearer token is needed.", "Ein Bearer-Token ist nötig.")

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class InvalidToken(Problem):
    """The bearer token is not valid; the answer does not say why."""

    status = 401
    code = "INVALID_TOKEN"
    title = "Invalid token"
    texts = both("The token is not valid or has expired.", "Das Token ist ungültig oder abgelaufen.")

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


class UserDisabled(Problem):
    """The directory has disabled this person."""

    status = 403
    code = "USER_DISABLED"
    title = "Not allowed"
    texts = both("This account is disabled.", "Dieses Konto ist gesperrt.")


class InvalidContext(Problem):
    """The header that names the context mandate holds no id."""

    status = 400
    code = "INVALID_CONTEXT"
    title = "Bad request"
    texts = both("{header} is not the id of a mandate.", "{header} ist keine Mandats-Id.")


class RateLimited(Problem):
    """The caller has used up this operation's requests of the minute."""

    status = 429
    code = "RATE_LIMITED"
    title = "Too many requests"
    texts = both(
        "Too many requests; try again in {seconds} seconds.",
        "Zu viele Anfragen; bitte in {seconds} Sekunden noch einmal versuchen.",
    )
