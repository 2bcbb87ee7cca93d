"""The command line: python -m deploy.fakestripe --port 12111 --webhook-url URL --webhook-secret whsec_..."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from deploy.fakestripe.app import create_app
from deploy.fakestripe.operation import Settings
from deploy.fakestripe.state_file import StateFileError
from deploy.fakestripe.store import Store

SHUTDOWN_TIMEOUT_S = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop; 2 means that it was not started."""
    options = _parser().parse_args(arguments)
    problem = next(_problems(options), None)
    if problem is None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        # One line per webhook would drown the warnings about those that were not accepted.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        try:
            store = Store(time.time, options.state_file)
        except StateFileError as error:
            problem = str(error)
    if problem is not None:
        print(f"fakestripe: {problem}", file=sys.stderr)
        return 2
    host = f"[{options.host}]" if ":" in options.host else options.host
    settings = Settings(
        public_url=(options.public_url or f"http://{host}:{options.port}").rstrip("/"),
        webhook_url=options.webhook_url,
        webhook_secret=options.webhook_secret,
        api_key=options.api_key,
    )
    config = uvicorn.Config(
        create_app(store, settings),
        host=options.host,
        port=options.port,
        access_log=False,
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.fakestripe", description="A fake Stripe for development.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--allow-remote", action="store_true", help="listen on an address others can reach")
    parser.add_argument("--public-url", help="where a browser reaches the hosted pages (http://HOST:PORT)")
    parser.add_argument("--webhook-url", required=True, help="where events are sent")
    parser.add_argument("--webhook-secret", required=True, help="signs the events, whsec_...")
    parser.add_argument("--state-file", type=Path, help="JSON file that keeps everything over a restart")
    parser.add_argument("--api-key", help="the one key to accept (any sk_test_ or rk_test_ key)")
    return parser


def _problems(options: argparse.Namespace) -> Iterator[str]:
    """Name what keeps the server from starting with these options."""
    if not 1 <= options.port <= 65535:
        yield "--port must be between 1 and 65535"
    if not options.allow_remote and not _is_loopback(options.host):
        yield f"refusing to listen on {options.host}: it is not a loopback address (see --allow-remote)"
    if not options.webhook_secret.startswith("whsec_") or len(options.webhook_secret) < len("whsec_") + 8:
        yield "--webhook-secret must start with whsec_ and have at least 8 characters more"
    for name, url in (("--webhook-url", options.webhook_url), ("--public-url", options.public_url)):
        if url is not None and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
            yield f"{name} must be an http or https address"
    if options.api_key is not None and not options.api_key.startswith(("sk_test_", "rk_test_")):
        yield "--api-key must be a test key (sk_test_... or rk_test_...): a fake must never see a live one"
    if options.state_file is not None and not options.state_file.absolute().parent.is_dir():
        yield f"the directory of --state-file does not exist: {options.state_file.absolute().parent}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
