"""Releases by a VirtualService, which is the user's own and has to be given back."""

from __future__ import annotations

import copy
import itertools

import pytest

from davylamp.core import names
from davylamp.core.actions import Announce, Patch
from tests.core.crashes import check_crashes
from tests.core.model import Cluster, Crash, Json, Mesh, policy_spec
from tests.core.test_release import V2, completed, leftovers, ways

SPEC: Json = {
    "hosts": ["web"],
    "http": [{"route": [{"destination": {"host": "web"}}], "timeout": "5s"}],
    "tcp": [
        {"route": [{"destination": {"host": "web"}, "weight": 3}, {"destination": {"host": "other"}, "weight": 1}]}
    ],
}
TRAFFIC: Json = {
    "service": "web",
    "routes": [{"virtualService": {"name": "web"}}],
    "match": [{"header": {"name": "X-Canary", "exact": "true"}}],
}
STEPS: list[Json] = [{"weight": 0, "approve": True}, {"weight": 50, "hold": "1m"}, {"weight": 100}]


RULE: Json = {
    "host": "web",
    "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 100}}},
    "subsets": [{"name": "all", "labels": {"app": "web"}}],
    "exportTo": ["."],
}


def routed(*, ruled: bool = False, subsets: bool = False, **fields: object) -> Cluster:
    """A cluster with a policy for its VirtualService, in which somebody has set the image to v2."""
    cluster = Cluster()
    cluster.gateway = Mesh()
    if ruled:
        cluster.put("DestinationRule", "web", spec=copy.deepcopy(RULE) | ({"exportTo": ["*"]} if subsets else {}))
    cluster.put("VirtualService", "web", spec=copy.deepcopy(SPEC))
    traffic = TRAFFIC | {"routes": [{"virtualService": {"name": "web", "subsets": subsets}}]}
    spec = policy_spec() | {"traffic": traffic} | fields
    cluster.put("ReleasePolicy", "web", spec=spec, metadata={"finalizers": [names.FINALIZER]})
    cluster.run()
    cluster.set_image(V2)
    return cluster


def test_by_subsets_it_goes_through_its_steps_and_leaves_everything_as_it_was() -> None:
    steps = [{"weight": 1}, {"weight": 10}, {"weight": 50}, {"weight": 100}]
    cluster = routed(ruled=True, subsets=True, steps=steps)
    before = copy.deepcopy(cluster.get("DestinationRule", "web")["spec"])
    cluster.run()
    completed(cluster)
    assert as_before(cluster)
    assert cluster.get("DestinationRule", "web")["spec"] == before
    assert [weight for weight, _ in itertools.groupby(map(round, cluster.weights))] == [0, 1, 10, 50, 100]


@pytest.mark.parametrize("reached", [1, 50, 100])
def test_by_subsets_it_is_taken_back_without_another_request_to_the_canary(reached: int) -> None:
    cluster = routed(ruled=True, subsets=True, steps=[{"weight": reached, "approve": True}])
    cluster.run()
    assert round(cluster.weights[-1]) == reached
    cluster.command(abort={})
    cluster.run()
    assert cluster.phase() == "RolledBack"
    assert [weight for weight, _ in itertools.groupby(map(round, cluster.weights))] == [0, reached, 0]
    assert (as_before(cluster), leftovers(cluster), cluster.violations) == (True, [], [])


def test_by_subsets_both_are_of_one_host_with_the_users_policy_and_its_rule_is_never_written() -> None:
    cluster = routed(ruled=True, subsets=True, steps=[{"weight": 10, "approve": True}])
    cluster.run()
    ours = cluster.get("DestinationRule", "web-davylamp")["spec"]
    side = cluster.release["spec"]
    assert ours == {
        "host": "web",
        "exportTo": ["*"],
        "subsets": [
            {"name": "davylamp-stable", "labels": {"pod-template-hash": side["stable"]["hash"]}},
            {"name": "davylamp-canary", "labels": {"pod-template-hash": side["canary"]["hash"]}},
        ],
    }
    assert cluster.get("DestinationRule", "web")["spec"] == RULE | {"exportTo": ["*"]}
    assert "pod-template-hash" not in cluster.get("Service", "web")["spec"]["selector"]
    (route,) = [one for one in cluster.get("VirtualService", "web")["spec"]["http"] if "name" not in one]
    assert [(to["destination"], to["weight"]) for to in route["route"]] == [
        ({"host": "web", "subset": "davylamp-stable"}, 90),
        ({"host": "web", "subset": "davylamp-canary"}, 10),
    ]


def as_before(cluster: Cluster) -> bool:
    found = cluster.get("VirtualService", "web")
    return bool(found["spec"] == SPEC and names.ROUTED not in found["metadata"].get("annotations", {}))


def test_a_release_by_a_virtual_service_goes_through_its_steps_and_leaves_it_as_it_was() -> None:
    cluster = routed(steps=[{"weight": 1}, {"weight": 10}, {"weight": 50}, {"weight": 100}])
    cluster.run()
    completed(cluster)
    assert as_before(cluster)
    assert [weight for weight, _ in itertools.groupby(map(round, cluster.weights))] == [0, 1, 10, 50, 100]


def test_the_canarys_host_has_the_users_policy_before_it_gets_a_request_and_as_long_as_it_gets_any() -> None:
    cluster = routed(ruled=True, steps=[{"weight": 50, "approve": True}])
    assert [rule["metadata"]["name"] for rule in cluster.all("DestinationRule")] == ["web"]
    cluster.run()
    copied = cluster.get("DestinationRule", "web-canary")["spec"]
    assert copied == {key: value for key, value in RULE.items() if key != "subsets"} | {"host": "web-canary"}
    (route, *_) = cluster.get("VirtualService", "web")["spec"]["http"][-1:]
    assert [to["weight"] for to in route["route"]] == [50, 50]
    cluster.edit("DestinationRule", "web", lambda obj: obj["spec"].update(trafficPolicy={"tls": {"mode": "DISABLE"}}))
    cluster.violations.clear()  # for the moment it takes to follow
    cluster.run()
    assert cluster.get("DestinationRule", "web-canary")["spec"]["trafficPolicy"] == {"tls": {"mode": "DISABLE"}}
    cluster.command(abort={})
    cluster.run()
    assert cluster.phase() == "RolledBack"
    assert leftovers(cluster) == []
    assert cluster.violations == []


def test_somebody_elses_rule_for_the_canarys_host_is_left_alone() -> None:
    cluster = routed(ruled=True, steps=[{"weight": 50}, {"weight": 100}])
    theirs = {"host": "web-canary", "trafficPolicy": RULE["trafficPolicy"], "exportTo": ["*"]}
    cluster.put("DestinationRule", "theirs", spec=copy.deepcopy(theirs))
    cluster.run()
    assert cluster.phase() == "Completed"
    assert leftovers(cluster) == ["theirs"]
    assert cluster.get("DestinationRule", "theirs")["spec"] == theirs
    assert cluster.violations == []


def final_state(cluster: Cluster) -> list[object]:
    return [cluster.phase(), cluster.get("VirtualService", "web")["spec"], leftovers(cluster), cluster.violations]


@pytest.mark.parametrize("subsets", [False, True])
@pytest.mark.parametrize("way", ways())
def test_a_crash_at_any_write_of_the_virtual_service_leads_to_the_same_end(way: str, subsets: bool) -> None:
    kinds = ("VirtualService", "DestinationRule", "Service")
    calm = check_crashes(
        lambda: routed(steps=STEPS, ruled=True, subsets=subsets),
        ways()[way],
        end=final_state,
        at=lambda write: not isinstance(write, Announce) and write.ref.kind in kinds,
        least=4,
    )
    assert as_before(calm) or way in ("deletion", "supersession"), "where another release has begun"


def hide(cluster: Cluster) -> None:
    """Somebody exports the user's rule to its own namespace alone: from then on a gateway elsewhere answers 503, until
    the route is given back, which nothing could be faster than."""
    cluster.edit("DestinationRule", "web", lambda obj: obj["spec"].update(exportTo=["."]))
    try:
        cluster.run(lambda: as_before(cluster))
    except Crash:
        cluster.restart()
        cluster.run(lambda: as_before(cluster))
    cluster.violations.clear()


def by_subsets(weight: int) -> Cluster:
    return routed(ruled=True, subsets=True, steps=[{"weight": weight, "approve": True}])


@pytest.mark.parametrize("weight", [0, 50])
def test_by_subsets_a_release_whose_subsets_are_hidden_meanwhile_is_taken_back_without_naming_them_again(
    weight: int,
) -> None:
    calm = check_crashes(lambda: by_subsets(weight), hide, end=final_state)
    routes = [w for w in calm.writes if not isinstance(w, Announce) and w.ref.kind in ("VirtualService", "Release")]
    decided = next(n for n, w in enumerate(routes) if isinstance(w, Patch) and "SubsetsUnseen" in str(w.patch))
    assert routes[decided + 1].ref.kind == "VirtualService", "right after the decision, which comes first"
    assert (calm.phase(), calm.weights[-1]) == ("RolledBack", 0)
    assert "exportTo ., so that" in calm.release["status"]["message"]
    assert (as_before(calm), leftovers(calm)) == (True, [])


def test_by_subsets_they_may_be_hidden_at_any_moment() -> None:
    ends: list[str] = []
    for moment in range(100):
        cluster = routed(ruled=True, subsets=True, steps=[{"weight": 50}, {"weight": 100}])
        passes = iter(range(moment))
        cluster.run(lambda passes=passes: next(passes, None) is None)  # type: ignore[misc]
        over = cluster.all("Release") and cluster.phase() == "Completed"
        hide(cluster)
        cluster.run()
        ends.append(cluster.phase() if cluster.all("Release") else "")
        assert (as_before(cluster), leftovers(cluster), cluster.violations) == (True, [], []), moment
        if over:
            break
    assert [end for end, _ in itertools.groupby(ends)] == ["RolledBack", "Completed"]


def test_by_subsets_all_of_the_traffic_stays_with_the_canary_where_the_subsets_are_hidden_then() -> None:
    cluster = by_subsets(100)
    cluster.run()
    hide(cluster)
    cluster.run()
    assert as_before(cluster)
    assert (round(cluster.weights[-1]), cluster.violations) == (100, [])
    cluster.command(approved={"step": 1})
    cluster.run()
    completed(cluster)
    assert leftovers(cluster) == []


def test_by_subsets_no_release_begins_where_the_users_rule_would_hide_them() -> None:
    cluster = by_subsets(10)
    cluster.run()
    hide(cluster)
    cluster.run()
    before = len(cluster.all("Release"))
    cluster.set_image("hellok8s:v3")
    cluster.writes.clear()
    cluster.run()
    assert len(cluster.all("Release")) == before
    written = {write.ref.kind for write in cluster.writes if not isinstance(write, Announce)}
    assert not written & {"VirtualService", "DestinationRule", "ReplicaSet"}
