"""Where a payer is sent back to: only to an origin that the operator named, whatever the URL looks like.

Browsers repair what a strict parser refuses (a backslash is a slash to them, line breaks vanish), so everything they
would repair is refused, and the result is put together from the configured origin, not from the given one.
"""

from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import SplitResult, unquote_plus, urlsplit

from pydantic import AfterValidator, StringConstraints

__all__ = ["Marks", "Origin", "Parameter", "ReturnOrigins", "ReturnUrls", "origin_of", "return_urls"]

LENGTH_MAX = 2000
# Stripe puts the session's id in its place, and knows it only unescaped.
SESSION_ID_PLACEHOLDER = "{CHECKOUT_SESSION_ID}"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("localhost", "127.0.0.1")


def _configured(text: str) -> str:
    origin = origin_of(text)
    if origin is None or urlsplit(text).path not in ("", "/") or urlsplit(text).query or urlsplit(text).fragment:
        raise ValueError("an origin is http(s)://host or http(s)://host:port")
    return origin


# An origin of the configuration, in its one spelling.
Origin = Annotated[str, AfterValidator(_configured)]
# The name of a parameter that is added to a return URL.
Parameter = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


@dataclass(frozen=True, slots=True)
class Marks:
    """The names of the URL parameters from which the frontend learns how the payment ended."""

    success: str
    session_id: str
    canceled: str


@dataclass(frozen=True, slots=True)
class ReturnOrigins:
    """The origins a payer may be sent back to; with `loopback` also every one of the payer's own machine by http."""

    origins: Collection[str] = ()
    loopback: bool = False

    def __contains__(self, origin: object) -> bool:
        """Whether an origin, in its one spelling, is allowed."""
        if origin in self.origins:
            return True
        parts = urlsplit(str(origin))
        return self.loopback and parts.scheme == "http" and parts.hostname in _LOOPBACK


@dataclass(frozen=True, slots=True)
class ReturnUrls:
    """Where the payer goes after paying and after giving up."""

    success: str
    cancel: str


def origin_of(url: str) -> str | None:
    """The origin of an absolute http(s) URL in its one spelling (default ports left out), else None."""
    parts = _parts(url)
    return None if parts is None else _origin(parts)


def return_urls(url: str, *, origins: Container[str], marks: Marks) -> ReturnUrls | None:
    """The two URLs made from the caller's, or None when it is not allowed. Its own query and fragment stay.

    Marks that are there already (the page reloaded after an earlier attempt) are taken out: the frontend would read
    the old session's id before the new one.
    """
    parts = _parts(url)
    if parts is None or (origin := _origin(parts)) not in origins:
        return None
    names = (marks.success, marks.session_id, marks.canceled)
    own = [pair for pair in parts.query.split("&") if pair and unquote_plus(pair.split("=", 1)[0]) not in names]
    success = [*own, f"{marks.success}=true", f"{marks.session_id}={SESSION_ID_PLACEHOLDER}"]
    cancel = [*own, f"{marks.canceled}=true"]
    return ReturnUrls(_joined(origin, parts, success), _joined(origin, parts, cancel))


def _parts(url: str) -> SplitResult | None:
    if len(url) > LENGTH_MAX or "\\" in url or not all("\x21" <= character <= "\x7e" for character in url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc or port == 0:
        return None
    # `urlsplit` tolerates more between host and port than an authority may have.
    if parts.netloc.lower() not in (parts.hostname, f"{parts.hostname}:{port}", f"[{parts.hostname}]:{port}"):
        return None
    return parts


def _origin(parts: SplitResult) -> str:
    port = parts.port
    suffix = "" if port is None or port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{parts.hostname}{suffix}"


def _joined(origin: str, parts: SplitResult, query: Iterable[str]) -> str:
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return f"{origin}{parts.path or '/'}?{'&'.join(query)}{fragment}"
