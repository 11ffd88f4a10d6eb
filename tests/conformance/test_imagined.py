"""The conformance suite without a cluster: what each router writes, judged by the decision functions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from davylamp.kube.kinds import kind_of
from davylamp.routers import precedence
from davylamp.routers.gateways import GRPC_ROUTE, HTTP_ROUTE
from davylamp.routers.ingresses import INGRESS
from davylamp.routers.registry import ROUTERS
from davylamp.routers.virtual_services import VIRTUAL_SERVICE
from tests.conformance.imagined import (
    HOST,
    NAMESPACE,
    Decide,
    Imagined,
    Json,
    by_ingress,
    by_rules,
    by_virtual_service,
)
from tests.conformance.suite import CASES, check, check_restored


def manifest(kind: str, **spec: object) -> Json:
    meta = {"name": "web", "namespace": NAMESPACE}
    return {"apiVersion": kind_of(kind).api_version, "kind": kind, "metadata": meta, "spec": spec}


PATHS = [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]
PARENTS = [{"name": "web"}]
TO_WEB = [{"backendRefs": [{"name": "web", "port": 80}]}]
ROUTE = [{"route": [{"destination": {"host": "web", "port": {"number": 80}}}]}]
MADE: dict[str, tuple[Json, Decide]] = {
    "ingress": (
        manifest("Ingress", ingressClassName="nginx", rules=[{"host": HOST, "http": {"paths": PATHS}}]),
        by_ingress,
    ),
    "httpRoute": (
        manifest("HTTPRoute", parentRefs=PARENTS, hostnames=[HOST], rules=TO_WEB),
        by_rules("HTTPRoute", precedence.rank),
    ),
    "httpRoute in Traefik's order": (
        manifest("HTTPRoute", parentRefs=PARENTS, hostnames=[HOST], rules=TO_WEB),
        by_rules("HTTPRoute", precedence.sum_rank),
    ),
    "grpcRoute": (
        manifest("GRPCRoute", parentRefs=PARENTS, hostnames=[HOST], rules=TO_WEB),
        by_rules("GRPCRoute", precedence.rank),
    ),
    "virtualService": (
        manifest("VirtualService", hosts=[HOST, "web"], gateways=["edge", "mesh"], http=ROUTE),
        by_virtual_service,
    ),
    "virtualService by subsets": (
        manifest("VirtualService", hosts=[HOST, "web"], gateways=["edge", "mesh"], http=ROUTE),
        by_virtual_service,
    ),
}
BY_FIELD = {router.field: router for router in (INGRESS, HTTP_ROUTE, GRPC_ROUTE, VIRTUAL_SERVICE)}


def imagined(name: str) -> Imagined:
    return Imagined(BY_FIELD[name.partition(" ")[0]], *MADE[name], subsets=name.endswith("subsets"))


@pytest.fixture(scope="module")
def bed_of() -> Callable[[str], Imagined]:
    """One bed a router, which keeps what the case before has left, as a real one does."""
    made: dict[str, Imagined] = {}

    def bed(name: str) -> Imagined:
        if name not in made:
            made[name] = imagined(name)
        return made[name]

    return bed


@pytest.mark.parametrize("router", MADE)
@pytest.mark.parametrize("case", CASES)
def test_who_matches_reaches_the_canary_and_of_the_others_the_weights_share(
    bed_of: Callable[[str], Imagined], router: str, case: str
) -> None:
    check(bed_of(router), case)


@pytest.mark.parametrize("router", MADE)
def test_nobody_reaches_the_canary_when_it_is_over_and_the_users_object_is_as_it_was(router: str) -> None:
    given, _ = MADE[router]
    bed = imagined(router)
    check(bed, "header-exact")
    check_restored(bed)
    (left,) = bed.store.list(given["kind"], NAMESPACE)
    assert left["spec"] == given["spec"]
    assert not left["metadata"].get("annotations")


def test_every_router_has_a_bed() -> None:
    assert {router.field for router in ROUTERS} == {name.partition(" ")[0] for name in MADE}
