"""Puts the fake's parts together into one web application."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from deploy.fakestripe.api import Api
from deploy.fakestripe.contract import API_VERSION
from deploy.fakestripe.control import Control
from deploy.fakestripe.control_errors import ControlError, answer_bad_body, answer_control_error
from deploy.fakestripe.control_world import World
from deploy.fakestripe.front import Front
from deploy.fakestripe.invoice_page import InvoicePage
from deploy.fakestripe.objects import OPERATIONS, TIMERS
from deploy.fakestripe.operation import Settings
from deploy.fakestripe.pages import Pages
from deploy.fakestripe.portal_page import PortalPage
from deploy.fakestripe.rendering import Renderer
from deploy.fakestripe.store import Store
from deploy.fakestripe.timers import run_due
from deploy.fakestripe.webhooks import Dispatcher, Outbox, ensure_endpoint

logger = logging.getLogger("fakestripe")


def create_app(store: Store, settings: Settings) -> Front:
    """Build the application; its background work runs from start-up to shutdown."""
    ensure_endpoint(store, settings.webhook_url, settings.webhook_secret, API_VERSION)
    outbox = Outbox(store, random.Random())
    api = Api(store, settings, outbox)

    def run_timers() -> None:
        call = api.begin()
        run_due(TIMERS, call)
        if call.events:
            api.finish(call)

    dispatcher = Dispatcher(store, outbox, run_timers)
    background: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
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
    return Front(api, OPERATIONS, app)


def _report(task: asyncio.Task[None]) -> None:
    """Say it loudly when the background work ends by itself: without it nothing is delivered any more."""
    if not task.cancelled() and task.exception() is not None:
        logger.critical("the background work of the fake Stripe has failed", exc_info=task.exception())
