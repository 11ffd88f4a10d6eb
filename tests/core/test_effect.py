"""A step counts when its exposure is seen in effect, or where that can't be seen, after a settling time."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest

from davylamp.api.objects import Meta, Pod
from davylamp.core.actions import Delete
from davylamp.core.plan import plan
from davylamp.core.world import Learned
from tests.core.counted import Counted, reasons, releasing, step
from tests.core.crashes import check_crashes
from tests.core.model import Cluster, Json
from tests.core.test_release import TESTERS, completed, final_state, rolled_back, ways

APPROVE: list[Json] = [{"weight": 10, "approve": True}, {"weight": 50, "approve": True}, {"weight": 100}]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def weight(cluster: Cluster) -> Json:
    found: Json = cluster.release["status"]["weight"]
    return found


def test_a_step_counts_as_soon_as_its_weight_is_seen_in_effect() -> None:
    cluster = releasing(Counted(1.2), steps=APPROVE)
    cluster.run()
    assert weight(cluster) == {
        "asked": 10,
        "inEffect": 10,
        "how": "seen in effect after 1.7 s (9.8 % of 1,337 requests)",
        "askedAt": "2026-11-23T12:00:00Z",
    }
    since = at(cluster.release["status"]["stepSince"])
    assert since - at(weight(cluster)["askedAt"]) == timedelta(seconds=1.7)


@pytest.mark.parametrize("delay", [0.5, 4.0, 12.0, 25.0])
def test_no_step_counts_before_the_proxies_have_its_weight_however_long_they_take(delay: float) -> None:
    cluster = releasing(Counted(delay), 10, 50, 100)
    cluster.run()
    completed(cluster)
    asked = [when for key, when in cluster.changes if not key.startswith("3>")]
    entered = [at(one["time"]) for one in cluster.release["status"]["history"] if one["reason"] == "StepInEffect"]
    took = {(there - since).total_seconds() for since, there in zip(asked, entered, strict=False)}
    assert took == {delay + 0.5}
    assert "NotInEffect" not in reasons(cluster)


def test_seeing_costs_no_writes() -> None:
    cluster = Counted(12)
    cluster.writes.clear()
    releasing(cluster, 10, 50, 100).run()
    completed(cluster)
    assert len(cluster.writes) + len(cluster.events) <= 18


def test_what_is_not_in_effect_after_a_long_time_is_told_once_and_waited_for() -> None:
    cluster = releasing(Counted(None), 10, 100)
    decided = cluster.run()
    assert decided.message == "step 1: 10 % is set, but 0 of 1,300 requests lately reached the canary"
    assert reasons(cluster) == ["Started", "NotInEffect"]
    assert cluster.now - cluster.changes[0][1] == timedelta(seconds=30)
    cluster.now += timedelta(hours=2)
    writes = len(cluster.writes)
    cluster.run()
    assert (step(cluster), len(cluster.writes), cluster.events[-1].reason) == (0, writes, "NotInEffect")
    cluster.delay = 1
    cluster.run()
    completed(cluster)


def test_a_share_that_has_moved_but_stays_off_counts_after_that_time_as_what_was_counted() -> None:
    cluster = Counted(None)
    cluster.moved = True
    releasing(cluster, steps=[{"weight": 10, "approve": True}]).run()
    assert weight(cluster)["inEffect"] == 2.8
    assert weight(cluster)["how"] == "as far as can be seen after 30 s: 2.8 % of 1,337 requests"


def test_where_testers_make_every_count_doubtful_it_is_not_waited_for_for_ever() -> None:
    cluster = releasing(Counted(1), steps=APPROVE, match=[TESTERS])
    cluster.run()
    cluster.delay = None
    cluster.command(approved={"step": 1})
    cluster.run()
    assert step(cluster) == 2
    assert weight(cluster)["how"] == "as far as can be seen after 30 s: 0.0 % of 1,300 requests"


def test_a_canary_that_shows_no_counter_is_not_waited_for_for_ever() -> None:
    cluster = Counted(None)
    cluster.counts = False
    releasing(cluster, steps=[{"weight": 10, "approve": True}]).run()
    assert weight(cluster)["how"] == "settled for 5 s, not measured: the canary shows no counter of requests"


def test_clients_that_stay_connected_to_the_old_pods_keep_no_release_from_completing() -> None:
    cluster = releasing(Counted(1), 10, steps=APPROVE)
    cluster.run()
    cluster.delay = None
    cluster.command(promote={})
    cluster.run()
    completed(cluster)


@pytest.mark.parametrize(
    ("learned", "seconds", "how"),
    [
        ({}, 5, "settled for 5 s, not measured"),
        ({"Ingress": Learned(2.4, 12)}, 2.4, "settled for 2.4 s, learned from 12 changes, not measured"),
        ({"Ingress": Learned(20, 5)}, 20, "settled for 20 s, learned from 5 changes, not measured"),
        ({"HTTPRoute": Learned(2, 9)}, 5, "settled for 5 s, not measured"),
    ],
)
def test_without_counters_a_settling_time_decides_that_is_learned_where_it_can_be(
    learned: dict[str, Learned], seconds: float, how: str
) -> None:
    cluster = Counted(counters=False)
    cluster.learned = learned
    releasing(cluster, steps=APPROVE).run()
    assert weight(cluster)["how"] == how
    since = at(cluster.release["status"]["stepSince"])
    assert (since - at(weight(cluster)["askedAt"])).total_seconds() == seconds


def test_a_share_that_tells_nothing_is_shown_and_not_waited_for() -> None:
    cluster = Counted(None)
    # Testers only: any share is right, so nothing speaks against it.
    cluster._observation = lambda: None  # type: ignore[method-assign]
    releasing(cluster, steps=[{"weight": 0, "approve": True}, *APPROVE[1:]], match=[TESTERS]).run()
    assert cluster.awaited is not None
    assert (cluster.awaited.after, weight(cluster)["how"]) == (None, "settled for 5 s, not measured")
    cluster.command(approved={"step": 1})
    cluster.run()
    assert (cluster.awaited.before, cluster.awaited.after, cluster.awaited.sure) == (0, 0.5, False)


def test_a_split_by_the_number_of_pods_is_counted_too_and_not_waited_for() -> None:
    cluster = releasing(Counted(4), steps=[{"weight": 20, "hold": "2s"}, APPROVE[1], {"weight": 100}], routed=False)
    cluster.run(until=lambda: step(cluster) == 2)
    assert weight(cluster)["how"] == "4 of 8 pods"
    assert cluster.now - cluster.changes[0][1] < timedelta(seconds=4), "the first step was left before it was counted"
    cluster.run()
    assert weight(cluster)["how"] == "4 of 8 pods, 9.8 % of 1,337 requests"
    assert reasons(cluster) == ["Started", "StepInEffect", "StepInEffect", "Counted"]
    assert cluster.awaited is not None
    assert (cluster.awaited.before, cluster.awaited.after) == (0.2, 0.5)
    cluster.command(approved={"step": 2})
    cluster.run()
    completed(cluster)


def test_a_split_by_the_number_of_pods_that_nobody_can_count_is_not_looked_at_for_ever() -> None:
    cluster = releasing(Counted(None), steps=APPROVE[:1], routed=False)
    assert cluster.run().awaited is None
    assert cluster.now - cluster.changes[0][1] == timedelta(seconds=30)
    assert weight(cluster)["how"] == "1 of 5 pods"


# --- the way back ---


def deleted_at(cluster: Cluster) -> datetime:
    """When the canary's pods were deleted: no time passes between a plan and its writes."""
    assert any(isinstance(one, Delete) and one.ref.kind == "ReplicaSet" for one in cluster.writes)
    return at(cluster.release["status"]["finishedAt"])


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(("delay", "seconds"), [(0.7, 1.2), (9, 9.5), (None, 30)])
def test_pods_go_when_the_canary_is_seen_to_get_nothing_and_are_not_waited_for_for_ever(
    number: int, delay: float | None, seconds: float
) -> None:
    steps = [*APPROVE[:2], {"weight": 100, "approve": True}]
    cluster = releasing(Counted(1), steps=steps)
    for done in range(1, number):
        cluster.run()
        cluster.command(approved={"step": done})
    cluster.run(until=lambda: step(cluster) == number)
    cluster.delay = delay
    cluster.command(abort={})
    begun = cluster.now
    cluster.run()
    rolled_back(cluster)
    assert (deleted_at(cluster) - begun).total_seconds() == seconds
    assert cluster.awaited is not None
    assert (cluster.awaited.after, cluster.awaited.kinds) == (0.0, ("Ingress" if number < 3 else "Service",))


def test_a_rollback_says_that_it_frees_clients_that_a_cookie_pins_to_the_canary() -> None:
    cluster = Counted()
    cluster.edit("Ingress", "web", lambda obj: obj["metadata"].update(annotations={AFFINITY: "cookie"}))
    releasing(cluster, steps=APPROVE).run()
    assert cluster.awaited is not None
    assert cluster.awaited.after is None, "a share tells nothing where clients stay where they are"
    cluster.command(abort={"by": "ann"})
    cluster.run()
    rolled_back(cluster)
    (event,) = [one for one in cluster.events if one.reason == "ReleaseRollingBack"]
    freed = "which also frees the clients that the cookie affinity of Ingress web keeps there"
    assert freed in event.message


def test_where_a_cookie_keeps_clients_the_service_does_not_select_the_canarys_pods_again_while_they_go() -> None:
    cluster = Counted()
    cluster.edit("Ingress", "web", lambda obj: obj["metadata"].update(annotations={AFFINITY: "cookie"}))
    releasing(cluster, steps=APPROVE).run()
    cluster.command(abort={"by": "ann"})
    cluster.run(until=lambda: len(cluster.all("ReplicaSet")) == 1)
    gone = cluster.now + timedelta(seconds=30)
    going = Pod(metadata=Meta(name="web-canary-1", namespace=cluster.world().namespace, deletion_timestamp=gone))
    world = msgspec.structs.replace(cluster.world(), pods=(going,))
    decided = plan(world, cluster.now)
    assert (decided.actions, decided.wake_at) == ((), gone)
    assert "1 of the canary's pods are going, where a cookie keeps clients" in decided.message
    assert plan(world, gone).actions, "a pod whose node is dead is not waited for"
    cluster.run()
    rolled_back(cluster)


AFFINITY = "nginx.ingress.kubernetes.io/affinity"


# --- crashes ---


def moved(delay: float | None) -> Counted:
    cluster = Counted(delay)
    cluster.moved = True
    return cluster


@pytest.mark.parametrize("way", ways())
@pytest.mark.parametrize("delay", [1.0, None])
def test_a_crash_at_any_write_forgets_what_was_counted_and_leads_to_the_same_end(way: str, delay: float | None) -> None:
    steps = [APPROVE[0], {"weight": 50, "hold": "1m"}, {"weight": 100}]
    check_crashes(lambda: moved(delay), lambda cluster: releasing(cluster, steps=steps), ways()[way], end=final_state)


def test_who_only_looks_does_not_claim_what_the_controller_has_to_count_first() -> None:
    cluster = Counted(None)
    releasing(cluster, steps=APPROVE).run(until=lambda: cluster.awaited is not None)
    cluster.now += timedelta(seconds=6)
    looking = msgspec.structs.replace(cluster.world(), observation=None, onlooker=True)
    decided = plan(looking, cluster.now)
    assert (decided.actions, decided.message) == ((), "step 1: 10 % is set; it counts when requests show it")
