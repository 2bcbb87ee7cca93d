"""The HTTP connections below Stripe's client, kept open between calls.

By aiohttp, because a call over httpx, which the client would take by itself, costs several times the CPU.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import stripe

__all__ = ["HttpClient"]


class HttpClient(stripe.AIOHTTPClient):
    """Stripe's own client of aiohttp, through the proxy that the environment names for `address`. A failure in the
    middle of an answer is told like one before it, so that Stripe's client tries again."""

    def __init__(self, address: str, *, timeout_s: float) -> None:
        # Read once: aiohttp would look through environment and files anew for every call.
        super().__init__(timeout=aiohttp.ClientTimeout(total=timeout_s), proxy=_proxy(address))

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One request to the end of its answer; raises stripe.APIConnectionError."""
        try:
            return await super().request_async(method, url, headers, post_data)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._handle_request_error(error)


def _proxy(address: str) -> str | None:
    parts = urlsplit(address)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
