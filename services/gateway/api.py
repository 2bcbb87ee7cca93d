"""The operations that the gateway answers itself: one application without anything behind it, for its document."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from services.chassis.operations import service_document
from services.gateway.directory import api as directory
from services.gateway.directory import api_invitations
from services.gateway.usage import api as usage

__all__ = ["own_document", "own_routes"]


def own_routes() -> list[APIRoute]:
    """The routes."""
    routers = (usage.router, directory.router, api_invitations.router)
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


def own_document() -> dict[str, Any]:
    """The OpenAPI document."""
    app = FastAPI(title="Rappen gateway", openapi_url=None, docs_url=None, redoc_url=None)
    app.router.routes.extend(own_routes())
    return service_document(app)
