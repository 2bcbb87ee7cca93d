"""Puts the fake's parts together into one web application."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from deploy.fakestripe.api import Api
from deploy.fakestripe.contract import API_VERSION
from deploy.fakestripe.control import Control
from deploy.fakestripe.control_errors import ControlError, answer_bad_body, answer_control_error
from deploy.fakestripe.control_world import World
from deploy.fakestripe.invoice_page import InvoicePage
from deploy.fakestripe.objects import OPERATIONS, TIMERS
from deploy.fakestripe.operation import Settings
from deploy.fakestripe.pages import Pages
from deploy.fakestripe.portal_page import PortalPage
from deploy.fakestripe.rendering import Renderer
from deploy.fakestripe.store import Store
from deploy.fakestripe.timers import run_due
from deploy.fakestripe.webhooks import ATTEMPT_TIMEOUT_S, Dispatcher, Outbox, ensure_endpoint

logger = logging.getLogger("fakestripe")

_METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"]


def create_app(store: Store, settings: Settings) -> FastAPI:
    """Build the application; its background work runs from start-up to shutdown."""
    ensure_endpoint(store, settings.webhook_url, settings.webhook_secret, API_VERSION)
    outbox = Outbox(store, random.Random())
    api = Api(store, settings, outbox)
    # Webhooks go where they are told to: no proxy of the environment, no redirect.
    client = httpx.AsyncClient(timeout=ATTEMPT_TIMEOUT_S, trust_env=False, follow_redirects=False)

    def run_timers() -> None:
        call = api.begin()
        run_due(TIMERS, call)
        if call.events:
            api.finish(call)

    dispatcher = Dispatcher(store, outbox, client, run_timers)
    background: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(client)
            stack.push_async_callback(store.saved)
            task = asyncio.create_task(dispatcher.run())
            task.add_done_callback(_report)
            background.append(task)
            yield
            task.cancel()
            await asyncio.wait([task])

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(ControlError, answer_control_error)
    app.add_exception_handler(RequestValidationError, answer_bad_body)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Tell whether requests are served and webhooks are sent."""
        working = bool(background) and not background[0].done()
        return JSONResponse({"status": "ready" if working else "failed"}, 200 if working else 503)

    app.include_router(Control(api, dispatcher).router())
    app.include_router(World(api).router())
    renderer = Renderer()
    app.include_router(Pages(api, renderer).router())
    app.include_router(InvoicePage(api, renderer).router())
    app.include_router(PortalPage(api, renderer).router())
    for operation in OPERATIONS:
        app.add_api_route(operation.path, api.endpoint(operation), methods=[operation.method])

    @app.api_route("/v1/{rest:path}", methods=_METHODS)
    @app.api_route("/v2/{rest:path}", methods=_METHODS)
    async def unknown(request: Request, rest: str) -> Response:
        """Answer what is not there the way Stripe does."""
        return await api.guarded(request, None)

    return app


def _report(task: asyncio.Task[None]) -> None:
    """Say it loudly when the background work ends by itself: without it nothing is delivered any more."""
    if not task.cancelled() and task.exception() is not None:
        logger.critical("the background work of the fake Stripe has failed", exc_info=task.exception())
