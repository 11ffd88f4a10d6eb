"""Releases by a route whose status tells what its implementation has taken."""

from __future__ import annotations

import copy

import pytest

from davylamp.core import names
from davylamp.core.actions import Patch
from tests.core.crashes import check_crashes
from tests.core.model import Cluster, Gateway, Json, policy_spec
from tests.core.test_release import V2, completed, leftovers, ways

RULE: Json = {"backendRefs": [{"name": "web", "port": 80, "weight": 3}], "timeouts": {"request": "5s"}}
TRAFFIC: Json = {"service": "web", "routes": [{"httpRoute": {"name": "web"}}]}


STEPS: list[Json] = [{"weight": 10, "approve": True}, {"weight": 50, "hold": "1m"}, {"weight": 100}]


def routed(*weights: int, **fields: object) -> Cluster:
    """A cluster with a policy for its HTTPRoute, in which somebody has set the image to v2."""
    cluster = Cluster()
    cluster.gateway = Gateway()
    cluster.put("HTTPRoute", "web", spec={"parentRefs": [{"name": "gw"}], "rules": [copy.deepcopy(RULE)]})
    spec = policy_spec(*weights) | {"traffic": TRAFFIC} | fields
    cluster.put("ReleasePolicy", "web", spec=spec, metadata={"finalizers": [names.FINALIZER]})
    cluster.run()
    cluster.set_image(V2)
    return cluster


def step(cluster: Cluster) -> int:
    return next((int(release.get("status", {}).get("step", 0)) for release in cluster.all("Release")), 0)


def as_before(cluster: Cluster) -> bool:
    route = cluster.get("HTTPRoute", "web")
    return bool(route["spec"]["rules"] == [RULE] and names.ROUTED not in route["metadata"].get("annotations", {}))


def test_a_release_by_an_http_route_goes_through_its_steps_and_leaves_it_as_it_was() -> None:
    cluster = routed(10, 50, 100)
    cluster.run()
    completed(cluster)
    assert as_before(cluster)
    shown = [round(weight) for weight in cluster.weights]
    assert [w for i, w in enumerate(shown) if i == 0 or w != shown[i - 1]] == [0, 10, 50, 100]


def test_a_step_waits_until_the_implementation_has_taken_the_route() -> None:
    cluster = routed(10)
    assert isinstance(cluster.gateway, Gateway)
    cluster.gateway.asleep = True
    decided = cluster.run()
    assert decided.message == "step 1: waiting for Gateway gw to take the route"
    assert step(cluster) == 0
    cluster.gateway.asleep = False
    cluster.settle()
    cluster.run(until=lambda: step(cluster) == 1)


def test_a_rollback_keeps_the_canary_until_the_implementation_sends_nothing_to_it() -> None:
    cluster = routed(50)
    cluster.run(until=lambda: step(cluster) == 1)
    assert isinstance(cluster.gateway, Gateway)
    cluster.gateway.asleep = True
    cluster.command(abort={"by": "ann"})
    decided = cluster.run()
    assert decided.message == "no traffic is sent to the canary; waiting for Gateway gw to take the route"
    assert as_before(cluster)
    assert len(cluster.endpoints("web-canary")) > 0
    cluster.gateway.asleep = False
    cluster.settle()
    cluster.run()
    assert (cluster.phase(), leftovers(cluster), cluster.violations) == ("RolledBack", [], [])


def final_state(cluster: Cluster) -> list[object]:
    return [cluster.phase(), cluster.get("HTTPRoute", "web")["spec"], leftovers(cluster), cluster.violations]


@pytest.mark.parametrize("way", ways())
def test_a_crash_at_any_write_of_the_route_leads_to_the_same_end(way: str) -> None:
    calm = check_crashes(
        lambda: routed(steps=STEPS),
        ways()[way],
        end=final_state,
        at=lambda write: isinstance(write, Patch) and write.ref.kind == "HTTPRoute",
        least=2,
    )
    assert as_before(calm) or way in ("deletion", "supersession"), "where another release has begun"
