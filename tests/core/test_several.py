"""Several routes at once, and several Services of one workload: a step counts when all of it is in effect."""

from __future__ import annotations

import copy

import pytest

from davylamp.api.objects import HASH_LABEL
from davylamp.core import names
from davylamp.core.actions import Patch
from tests.core.crashes import check_crashes
from tests.core.model import Cluster, Gateway, Json, policy_spec
from tests.core.test_release import V2, images, leftovers, ways

HTTP_ROUTE: Json = {
    "parentRefs": [{"name": "gw"}],
    "rules": [
        {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [{"name": "web", "port": 80}]},
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/admin"}}],
            "backendRefs": [{"name": "admin", "port": 80}],
        },
    ],
}
VIRTUAL_SERVICE: Json = {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]}
ROUTES: list[Json] = [
    {"ingress": {"name": "web"}},
    {"httpRoute": {"name": "web"}},
    {"virtualService": {"name": "web"}},
]
STEPS: list[Json] = [{"weight": 10, "approve": True}, {"weight": 50, "hold": "1m"}, {"weight": 100, "hold": "1m"}]


def started(*, services: tuple[str, ...] = ("web",), asleep: bool = False) -> Cluster:
    """An Ingress, an HTTPRoute and a VirtualService for one workload; somebody has set the image to v2."""
    cluster = Cluster()
    cluster.gateway = Gateway()
    if "admin" in services:
        cluster.put("Service", "admin", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
        spec = cluster.get("Ingress", "web")["spec"]
        path = copy.deepcopy(spec["rules"][0]["http"]["paths"][0]) | {"path": "/admin"}
        path["backend"]["service"]["name"] = "admin"
        spec["rules"][0]["http"]["paths"].append(path)
    cluster.put("HTTPRoute", "web", spec=copy.deepcopy(HTTP_ROUTE))
    cluster.put("VirtualService", "web", spec=copy.deepcopy(VIRTUAL_SERVICE))
    cluster.settle()
    cluster.gateway.asleep = asleep
    named: Json = {"service": "web"} if len(services) == 1 else {"services": list(services)}
    spec = policy_spec(steps=STEPS) | {"traffic": named | {"routes": ROUTES}}
    cluster.put("ReleasePolicy", "web", spec=spec, metadata={"finalizers": [names.FINALIZER]})
    cluster.run()
    cluster.set_image(V2)
    return cluster


def users(cluster: Cluster) -> Json:
    """The user's own objects, as far as a release writes to them."""
    found = {
        f"{kind}/{name}": (obj["spec"], obj["metadata"].get("annotations") or {})
        for (kind, name), obj in cluster.objects.items()
        if (kind in ("HTTPRoute", "VirtualService") or (kind, name) == ("Ingress", "web"))
        or (kind == "Service" and name in ("web", "admin"))
    }
    return copy.deepcopy(found)


def shares(cluster: Cluster) -> list[float]:
    """What each kind of route gives to the canary of the requests for the Service `web`."""
    ingress = cluster.get("Ingress", "web-davylamp")["metadata"]["annotations"][
        "nginx.ingress.kubernetes.io/canary-weight"
    ]
    rule = cluster.get("HTTPRoute", "web")["spec"]["rules"][0]["backendRefs"]
    route = cluster.get("VirtualService", "web")["spec"]["http"][0]["route"]
    return [float(ingress), *(next(one["weight"] for one in refs if "canary" in str(one)) for refs in (rule, route))]


def test_all_routes_of_a_service_have_the_weight_before_the_step_counts() -> None:
    cluster = started()
    cluster.run(lambda: bool(cluster.all("Release")) and cluster.release.get("status", {}).get("step") == 1)
    assert shares(cluster) == [10, 10, 10]


def test_one_route_that_is_not_in_effect_keeps_the_step_from_counting() -> None:
    cluster = started(asleep=True)
    waiting = cluster.run()
    assert waiting.message == "step 1: waiting for Gateway gw to take the route"
    assert shares(cluster) == [10, 10, 10], "all are written"
    assert cluster.release.get("status", {}).get("step", 0) == 0
    assert isinstance(cluster.gateway, Gateway)
    cluster.gateway.asleep = False
    cluster.run()
    assert cluster.release["status"]["step"] == 1


@pytest.mark.parametrize("services", [("web",), ("web", "admin")])
def test_a_release_of_several_routes_and_services_leaves_everything_as_it_was(services: tuple[str, ...]) -> None:
    cluster = started(services=services)
    before = users(cluster)
    cluster.run()
    cluster.command(approved={"step": 1})
    cluster.run(lambda: cluster.release["status"]["step"] == 3)
    canary = cluster.release["spec"]["canary"]["hash"]
    assert {cluster.get("Service", name)["spec"]["selector"].get(HASH_LABEL) for name in services} == {canary}
    cluster.run()
    assert cluster.phase() == "Completed"
    assert images(cluster) == {V2}
    assert users(cluster) == before
    assert set(leftovers(cluster)) <= {"admin"}
    assert cluster.violations == []


def test_each_service_has_a_canary_of_its_own_and_each_route_sends_to_it() -> None:
    cluster = started(services=("web", "admin"))
    cluster.run()
    canary = {pod for pod, image in cluster.pods_ever.items() if image == V2}
    for name in ("web", "admin"):
        assert set(cluster.endpoints(f"{name}-canary")) == canary
        assert not set(cluster.endpoints(name)) & canary
    made = {i["metadata"]["name"] for i in cluster.all("Ingress")}
    assert made == {"web", "web-davylamp", "web.admin-davylamp"}
    weights = [
        {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}
        for rule in cluster.get("HTTPRoute", "web")["spec"]["rules"]
    ]
    assert weights == [{"web": 90, "web-canary": 10}, {"admin": 90, "admin-canary": 10}]


def test_nothing_is_written_while_nothing_changes() -> None:
    cluster = started(services=("web", "admin"))
    cluster.run()
    before = len(cluster.writes)
    for _ in range(5):
        cluster.look()
    assert len(cluster.writes) == before


def final_state(cluster: Cluster) -> list[object]:
    phases = [release["status"]["phase"] for release in cluster.all("Release")]
    return [phases, users(cluster), leftovers(cluster), images(cluster), cluster.violations]


@pytest.mark.parametrize("way", ways())
def test_a_crash_at_any_write_leads_to_the_same_end(way: str) -> None:
    kinds = ("HTTPRoute", "VirtualService", "Service", "ReplicaSet")
    check_crashes(
        lambda: started(services=("web", "admin")),
        ways()[way],
        end=final_state,
        at=lambda write: not isinstance(write, Patch) or write.ref.kind in kinds,
    )
