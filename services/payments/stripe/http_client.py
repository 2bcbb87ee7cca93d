"""The HTTP connections below Stripe's client, kept open between calls.

By aiohttp, because a call over httpx, which the client would take by itself, costs several times the CPU.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import stripe
from yarl import URL

__all__ = ["HttpClient"]


class HttpClient(stripe.AIOHTTPClient):
    """Stripe's own client of aiohttp, through the proxy that the environment names for `address`. A failure in the
    middle of an answer is told like one before it, so that Stripe's client tries again."""

    def __init__(self, address: str, *, timeout_s: float) -> None:
        # Read once: aiohttp would look through environment and files anew for every call.
        self._proxy_address = _proxy(address)
        self._total = aiohttp.ClientTimeout(total=timeout_s)
        super().__init__(timeout=self._total, proxy=self._proxy_address)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One request to the end of its answer; raises stripe.APIConnectionError."""
        try:
            # Read once more by aiohttp, an address that is encoded would cost as much as writing the request.
            async with self._session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=post_data,
                proxy=self._proxy_address,
                timeout=self._total,
                allow_redirects=False,
            ) as answer:
                return await answer.read(), answer.status, answer.headers
        except (aiohttp.ClientError, TimeoutError) as error:
            self._handle_request_error(error)


def _proxy(address: str) -> str | None:
    parts = urlsplit(address)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
