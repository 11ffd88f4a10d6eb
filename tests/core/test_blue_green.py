"""Blue/green: the new version at full size beside the old one, one switch, and a way back until the old pods go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from davylamp.core import names
from tests.core.crashes import check_crashes
from tests.core.model import Cluster, Crash, Json, policy_spec
from tests.core.test_release import CRASHING, V1, V2, V3, completed, final_state, images, leftovers

STEPS: list[Json] = [{"weight": 0, "replicas": "100%", "approve": True}, {"weight": 100}]
PREVIEW: Json = {"preview": {"service": "web-preview"}}


def blue_green(*, routed: bool = False, traffic: Json | None = None, steps: Any = STEPS, **spec: Any) -> Json:
    made = policy_spec(steps=steps, routed=routed, **spec)
    made["traffic"] |= {} if traffic is None else traffic
    return made


def started(*, own_preview: bool = False, **spec: Any) -> Cluster:
    cluster = Cluster()
    if own_preview:
        cluster.put("Service", "web-preview", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
    cluster.put("ReleasePolicy", "web", spec=blue_green(**spec), metadata={"finalizers": [names.FINALIZER]})
    cluster.run()
    cluster.set_image(V2)
    return cluster


def approved(cluster: Cluster) -> Cluster:
    cluster.run()
    cluster.command(approved={"step": 1})
    return cluster


def until_switched(cluster: Cluster) -> Cluster:
    approved(cluster).run(until=lambda: cluster.share(V2) == 100 and cluster.release["status"]["step"] == 2)
    return cluster


def returned(cluster: Cluster, phase: str) -> None:
    assert cluster.phase() == phase
    assert images(cluster) == {V1}
    assert list(cluster.pods_ever.values()).count(V1) == 4, "the old pods were there all the time"
    assert [left for left in leftovers(cluster) if left != "web-preview"] == []
    assert cluster.violations == []


@pytest.mark.parametrize("routed", [False, True])
def test_the_new_version_waits_at_full_size_without_requests_and_then_gets_all_of_them(routed: bool) -> None:
    cluster = started(routed=routed)
    cluster.run()
    assert sorted(cluster.pods_ever.values()) == [V1] * 4 + [V2] * 4
    assert set(cluster.weights) == {0}, "not one request in between"
    assert cluster.release["status"]["step"] == 1
    approved(cluster).run()
    completed(cluster)
    assert set(cluster.weights) == {0, 100}
    assert sorted(cluster.pods_ever.values()) == [V1] * 4 + [V2] * 4, "each pod started once"


def test_how_a_weight_of_nothing_is_known_is_told() -> None:
    cluster = started()
    cluster.run()
    weight = cluster.release["status"]["weight"]
    assert weight == {"asked": 0, "inEffect": 0, "how": "Service web selects only stable's pods"}


@pytest.mark.parametrize("own_preview", [False, True])
@pytest.mark.parametrize("routed", [False, True])
def test_testers_reach_the_new_version_by_the_preview_service_while_there_is_one(
    own_preview: bool, routed: bool
) -> None:
    cluster = started(traffic=PREVIEW, own_preview=own_preview, routed=routed)
    cluster.run()
    assert {cluster.pods_ever[pod] for pod in cluster.endpoints("web-preview")} == {V2}
    assert len(cluster.endpoints("web-preview")) == 4
    assert "testers (Service web-preview)" in cluster.release["status"]["message"]
    approved(cluster).run()
    assert cluster.phase() == "Completed"
    assert [left for left in leftovers(cluster) if left != "web-preview"] == []
    if own_preview:
        assert cluster.get("Service", "web-preview")["spec"]["selector"] == {"app": "web"}
        assert not cluster.get("Service", "web-preview")["metadata"].get("annotations")
    else:
        assert ("Service", "web-preview") not in cluster.objects


def test_a_preview_service_alone_gives_the_new_version_pods() -> None:
    cluster = started(traffic=PREVIEW, steps=[{"weight": 0, "approve": True}, {"weight": 100}])
    cluster.run()
    assert list(cluster.pods_ever.values()).count(V2) == 4
    assert set(cluster.weights) == {0}


def test_the_preview_is_not_moved_to_pods_that_are_not_ready() -> None:
    cluster = started(traffic=PREVIEW, own_preview=True)
    cluster.sick_images[V2] = {}
    for _ in range(5):
        cluster.look()
    assert cluster.get("Service", "web-preview")["spec"]["selector"] == {"app": "web"}


def test_while_it_bakes_the_old_pods_stay_and_an_abort_returns_by_one_write() -> None:
    cluster = started(bake="10m")
    until_switched(cluster)
    assert cluster.release["spec"]["steps"][-1] == {"weight": 100, "hold": "10m"}
    cluster.now += timedelta(minutes=9)
    assert cluster.run(until=lambda: True).reason == "Holding"
    assert sorted(map(cluster.pods_ever.__getitem__, (p["metadata"]["name"] for p in cluster.all("Pod")))) == [
        *[V1] * 4,
        *[V2] * 4,
    ]
    before = len(cluster.writes)
    cluster.command(abort={})
    cluster.run(until=lambda: cluster.share(V1) == 100)
    assert len(cluster.writes) == before + 2, "decided, and the Service moved"
    cluster.run()
    returned(cluster, "RolledBack")


def test_what_falls_ill_while_it_bakes_is_taken_back() -> None:
    cluster = started(bake="10m")
    until_switched(cluster)
    for pod in cluster.all("Pod"):
        if cluster.pods_ever[pod["metadata"]["name"]] == V2:
            pod["status"] = {**CRASHING}
    cluster.settle()
    cluster.run()
    assert cluster.phase() == "RolledBack"
    assert images(cluster) == {V1}


def test_once_it_has_baked_the_release_completes() -> None:
    cluster = started(bake="10m")
    until_switched(cluster)
    begun = cluster.now
    cluster.run()
    completed(cluster)
    assert timedelta(minutes=10) <= cluster.now - begun < timedelta(minutes=11)


# --- the old pods are kept ---


def kept(**spec: Any) -> Cluster:
    cluster = started(keepOld="1h", **spec)
    approved(cluster).run(until=lambda: cluster.phase() == "Completed")
    return cluster


def test_the_old_pods_stay_for_as_long_as_they_are_kept_and_then_go() -> None:
    cluster = kept()
    finished = cluster.release["status"]["finishedAt"]
    assert cluster.share(V2) == 100
    assert images(cluster) == {V1, V2}
    assert [e.reason for e in cluster.events].count("ReleaseCompleted") == 1
    assert cluster.release["status"]["conditions"][0] | {"lastTransitionTime": ""} == {
        "type": "Ready",
        "status": "True",
        "reason": "Completed",
        "message": "all requests reach hellok8s:v2",
        "lastTransitionTime": "",
    }
    began = cluster.now
    cluster.run()
    assert cluster.now - began >= timedelta(minutes=59)
    completed(cluster)
    assert "keptUntil" not in cluster.release["status"]
    assert cluster.release["status"]["finishedAt"] == finished
    assert [e.reason for e in cluster.events].count("ReleaseCompleted") == 1


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        (lambda cluster: cluster.command(abort={"by": "ann"}), "RolledBack"),
        (lambda cluster: cluster.set_image(V1), "Withdrawn"),
    ],
)
def test_a_person_returns_to_the_kept_pods_at_once(change: Callable[[Cluster], None], phase: str) -> None:
    cluster = kept()
    change(cluster)
    cluster.run()
    returned(cluster, phase)
    assert "keptUntil" not in cluster.release["status"]


def test_a_newer_template_ends_the_keeping_and_is_compared_with_the_new_version() -> None:
    cluster = kept()
    cluster.set_image(V3)
    cluster.run()
    phases = [release["status"]["phase"] for release in cluster.all("Release")]
    assert phases == ["Completed", "Progressing"]
    assert cluster.release["spec"]["stable"]["image"] == V2
    assert images(cluster) == {V2, V3}
    assert cluster.share(V2) == 100
    approved(cluster).run(until=lambda: cluster.phase() == "Completed")
    assert cluster.share(V3) == 100
    assert cluster.violations == []


@pytest.mark.parametrize("kind", ["Release", "ReleasePolicy"])
def test_what_is_deleted_while_old_pods_are_kept_stays_completed(kind: str) -> None:
    cluster = kept()
    cluster.remove(kind, cluster.release["metadata"]["name"] if kind == "Release" else "web")
    cluster.run()
    assert images(cluster) == {V2}
    assert leftovers(cluster) == []
    assert cluster.violations == []


def test_a_promotion_by_hand_skips_the_bake_and_keeps_the_old_pods() -> None:
    cluster = started(bake="10m", keepOld="1h")
    cluster.run()
    begun = cluster.now
    cluster.command(promote={"by": "ann"})
    cluster.run(until=lambda: cluster.phase() == "Completed")
    assert cluster.now - begun < timedelta(minutes=1)
    assert images(cluster) == {V1, V2}
    assert cluster.run(until=lambda: True).reason == "KeepingOld"


def test_scaling_is_followed_while_old_pods_are_kept() -> None:
    cluster = kept()
    cluster.edit("Deployment", "web", lambda obj: obj["spec"].update(replicas=6))
    cluster.run(until=lambda: len(cluster.all("Pod")) == 12)
    cluster.run()
    completed(cluster)


def test_a_pod_that_falls_ill_later_takes_nothing_back() -> None:
    cluster = kept()
    pod = next(p for p in cluster.all("Pod") if cluster.pods_ever[p["metadata"]["name"]] == V2)
    pod["status"] = {**CRASHING}
    cluster.settle()
    assert cluster.look().reason == "KeepingOld"


# --- every write may be the last ---


def ways() -> dict[str, Callable[[Cluster], None]]:
    return {
        "promotion": lambda c: c.command(approved={"step": 1}),
        "rollback": lambda c: c.command(abort={}),
        "withdrawal": lambda c: c.set_image(V1),
        "supersession": lambda c: c.set_image(V3),
        "override": lambda c: c.edit("Deployment", "web", lambda obj: obj["spec"].update(paused=False)),
        "deletion": lambda c: c.remove("Release", c.release["metadata"]["name"]),
        "return from the bake": lambda c: _from_step_two(c, lambda: c.command(abort={})),
        "return from the kept": lambda c: _from_completed(c, lambda: c.command(abort={})),
        "newer while kept": lambda c: _from_completed(c, lambda: c.set_image(V3)),
        "deleted while kept": lambda c: _from_completed(c, lambda: c.remove("Release", c.release["metadata"]["name"])),
        "overridden while kept": lambda c: _from_completed(
            c, lambda: c.edit("Deployment", "web", lambda obj: obj["spec"].update(paused=False))
        ),
    }


def _from_step_two(cluster: Cluster, then: Callable[[], None]) -> None:
    cluster.command(approved={"step": 1})
    _go(cluster, lambda: cluster.release.get("status", {}).get("step") == 2)
    then()


def _from_completed(cluster: Cluster, then: Callable[[], None]) -> None:
    cluster.command(approved={"step": 1})
    _go(cluster, lambda: cluster.phase() == "Completed")
    then()


def _go(cluster: Cluster, until: Callable[[], bool] = lambda: False) -> None:
    try:
        cluster.run(until)
    except Crash:
        cluster.restart()
        if not until():
            cluster.run(until)


def begun(own_preview: bool) -> Cluster:
    cluster = Cluster()
    if own_preview:
        cluster.put("Service", "web-preview", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
    spec = blue_green(traffic=PREVIEW, bake="5m", keepOld="10m")
    cluster.put("ReleasePolicy", "web", spec=spec, metadata={"finalizers": [names.FINALIZER]})
    cluster.set_image(V2)
    return cluster


@pytest.mark.parametrize("way", ways())
@pytest.mark.parametrize("own_preview", [True, False])
def test_a_crash_at_any_write_leads_to_the_same_end(way: str, own_preview: bool) -> None:
    calm = check_crashes(lambda: begun(own_preview), ways()[way], end=final_state)
    begun_anew = way in ("supersession", "newer while kept", "deletion")
    assert begun_anew or [left for left in leftovers(calm) if left != "web-preview"] == []
