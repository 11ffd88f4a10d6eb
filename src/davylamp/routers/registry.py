"""The routers that there are."""

from __future__ import annotations

from davylamp.api.types import Route
from davylamp.routers.gateways import GRPC_ROUTE, HTTP_ROUTE
from davylamp.routers.ingresses import INGRESS
from davylamp.routers.router import Router
from davylamp.routers.virtual_services import VIRTUAL_SERVICE

ROUTERS: tuple[Router, ...] = (INGRESS, HTTP_ROUTE, GRPC_ROUTE, VIRTUAL_SERVICE)


def router_of(route: Route) -> Router | None:
    """The router for a policy's route; None where nothing is set."""
    return next((router for router in ROUTERS if getattr(route, router.attribute) is not None), None)
