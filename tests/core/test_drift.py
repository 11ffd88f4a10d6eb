"""What others change of a release's routing is put right and told; a fight is named, and not fought for ever."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from davylamp.api.objects import HASH_LABEL
from davylamp.core.actions import Delete
from tests.core.counted import Counted, reasons, releasing, step
from tests.core.model import Cluster, Gateway, Json
from tests.core.test_gateway import as_before, routed
from tests.core.test_release import completed, rolled_back

WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"
OURS = "web-davylamp"
APPROVE: list[Json] = [{"weight": 10, "approve": True}, {"weight": 50, "approve": True}, {"weight": 100}]


def weigh(cluster: Cluster, weight: str = "70", by: str = "argocd-controller") -> None:
    cluster.edit("Ingress", OURS, lambda obj: obj["metadata"]["annotations"].update({WEIGHT: weight}), by)


def in_step_one(**spec: object) -> Counted:
    cluster = releasing(Counted(1), **{"steps": APPROVE, **spec})
    cluster.run()
    assert step(cluster) == 1
    return cluster


def told(cluster: Cluster, reason: str) -> list[str]:
    return [event.message for event in cluster.events if event.reason == reason]


def unpin(cluster: Cluster) -> None:
    cluster.edit("Service", "web", lambda obj: obj["spec"]["selector"].pop(HASH_LABEL), "kubectl-replace")


CHANGES: dict[str, tuple[Callable[[Cluster], None], str]] = {
    "a weight": (weigh, "Ingress web-davylamp was changed by argocd-controller; it is put right"),
    "the Service": (unpin, "Service web was changed by kubectl-replace; it is put right"),
    "our Ingress": (lambda c: c.remove("Ingress", OURS), "Ingress web-davylamp was deleted; it is put right"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_what_others_change_of_a_step_in_effect_is_put_right_and_told_with_their_name(
    change: Callable[[Cluster], None], message: str
) -> None:
    cluster = in_step_one()
    change(cluster)
    cluster.run()
    assert cluster.share("hellok8s:v2") == 10
    assert told(cluster, "Drift") == [message]
    assert cluster.release["status"]["history"][-1]["message"] == message
    assert step(cluster) == 1
    cluster.command(promote={})
    cluster.run()
    completed(cluster)


def test_a_weight_that_is_changed_before_it_is_in_effect_is_waited_for_anew() -> None:
    cluster = releasing(Counted(2), steps=APPROVE)
    cluster.run(until=lambda: cluster.awaited is not None)
    first = cluster.awaited
    cluster.now += timedelta(seconds=1)
    weigh(cluster)
    cluster.run()
    assert reasons(cluster) == ["Started", "Drift", "StepInEffect"]
    assert (cluster.share("hellok8s:v2"), step(cluster)) == (10, 1)
    assert cluster.awaited is not None
    assert first is not None
    assert cluster.awaited.key != first.key, "what was counted before says nothing"


def test_a_field_manager_that_is_not_known_is_somebody_else() -> None:
    cluster = in_step_one()
    weigh(cluster, by="")
    cluster.run()
    assert told(cluster, "Drift") == ["Ingress web-davylamp was changed by other hands; it is put right"]


def test_following_what_the_user_changes_in_their_own_ingress_is_no_drift() -> None:
    cluster = in_step_one()

    def another_path(obj: Json) -> None:
        paths = obj["spec"]["rules"][0]["http"]["paths"]
        paths.append(paths[0] | {"path": "/api"})

    cluster.edit("Ingress", "web", another_path)
    cluster.run()
    assert len(cluster.get("Ingress", OURS)["spec"]["rules"][0]["http"]["paths"]) == 2
    assert told(cluster, "Drift") == []


def test_a_pause_while_a_step_is_brought_about_is_no_drift() -> None:
    cluster = in_step_one()
    cluster.delay = None
    cluster.command(approved={"step": 1})
    cluster.run(until=lambda: cluster.share("hellok8s:v2") == 50)
    cluster.command(paused={})
    cluster.run()
    assert cluster.share("hellok8s:v2") == 10
    assert told(cluster, "Drift") == []


# --- fights ---


def fight(cluster: Cluster, seconds: float = 3, until: Callable[[], bool] = lambda: False) -> None:
    """Somebody who changes the weight whenever we have put it right, for a minute or until."""
    for _ in range(20):
        if until():
            return
        weigh(cluster)
        act(cluster)
        cluster.now += timedelta(seconds=seconds)


def act(cluster: Cluster) -> None:
    """The controller, in no time."""
    while cluster.look().actions:
        pass


def test_a_fight_is_named_and_not_fought_for_ever() -> None:
    cluster = in_step_one()
    fight(cluster)
    assert len(told(cluster, "Drift")) == 5
    assert told(cluster, "Fight") == [
        "Ingress web-davylamp was changed by argocd-controller, again and again: it was put right 5 times in the last "
        "10 min, and is left alone for now; stop that"
    ]
    assert cluster.share("hellok8s:v2") == 70


def test_a_step_is_held_during_a_fight_and_tried_again_later() -> None:
    cluster = in_step_one()
    fight(cluster, until=lambda: reasons(cluster)[-1] == "Fight")
    decided = cluster.look()
    first = next(one for one in cluster.release["status"]["history"] if one["reason"] == "Drift")
    begun = datetime.fromisoformat(first["time"])
    assert (decided.reason, decided.actions) == ("Fight", ())
    assert decided.wake_at == begun + timedelta(minutes=10)
    writes = len(cluster.writes)
    cluster.now = decided.wake_at
    cluster.look()
    assert cluster.share("hellok8s:v2") == 10
    assert len(cluster.writes) == writes + 2, "the route and the status"
    cluster.command(approved={"step": 2})
    cluster.run()
    completed(cluster)


def test_a_fight_leaves_room_in_the_history() -> None:
    cluster = in_step_one()
    for _ in range(30):
        weigh(cluster)
        cluster.run(until=lambda: cluster.share("hellok8s:v2") == 10)
        cluster.now += timedelta(minutes=3)
    assert reasons(cluster).count("Drift") <= 6
    assert reasons(cluster)[:2] == ["Started", "StepInEffect"]


def test_a_fight_keeps_no_release_from_being_taken_back() -> None:
    cluster = in_step_one()
    cluster.delay = None
    cluster.command(abort={})
    cluster.run(until=lambda: cluster.awaited is not None and cluster.awaited.after == 0)
    for _ in range(20):
        cluster.edit("Service", "web", lambda obj: obj["spec"]["selector"].pop(HASH_LABEL, None), "helm")
        act(cluster)
        cluster.now += timedelta(seconds=2)
        if any(isinstance(one, Delete) and one.ref.kind == "ReplicaSet" for one in cluster.writes):
            break
    cluster.run()
    rolled_back(cluster)
    assert "Service web was changed by helm, again and again" in told(cluster, "Fight")[0]


def test_an_http_route_that_somebody_applies_again_is_put_right() -> None:
    cluster = routed(steps=APPROVE)
    cluster.run(until=lambda: step(cluster) == 1)
    assert isinstance(cluster.gateway, Gateway)
    rules = [{"backendRefs": [{"name": "web", "port": 80, "weight": 3}], "timeouts": {"request": "5s"}}]
    cluster.edit("HTTPRoute", "web", lambda obj: obj["spec"].update(rules=rules), "flux")
    cluster.run()
    assert round(cluster.share("hellok8s:v2")) == 10
    assert told(cluster, "Drift") == ["HTTPRoute web was changed by flux; it is put right"]
    cluster.command(promote={})
    cluster.run()
    completed(cluster)
    assert as_before(cluster)
