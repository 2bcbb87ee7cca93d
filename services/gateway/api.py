"""The operations that the gateway answers itself."""

from fastapi import FastAPI
from fastapi.routing import APIRoute

from services.gateway.directory import api as directory
from services.gateway.directory import api_invitations as invitations
from services.gateway.directory import api_members as members
from services.gateway.feed import api as feed
from services.gateway.usage import api as usage

__all__ = ["application", "own_routes"]


def own_routes() -> list[APIRoute]:
    """The routes of the operations that the gateway answers itself."""
    routers = (usage.api, directory.api, invitations.api, members.api, feed.api)
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


def application() -> FastAPI:
    """An application of these routes alone, for the gateway's own OpenAPI document."""
    app = FastAPI(title="Rappen gateway", docs_url=None, redoc_url=None, openapi_url=None)
    app.router.routes.extend(own_routes())
    return app
