"""Releases of two Deployments that take turns, on the model of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from davylamp.api.types import Pair as TakingTurns
from davylamp.api.types import Phase, ReleaseStatus
from davylamp.core import names
from davylamp.core.actions import Delete, Patch
from davylamp.core.pairs import roles
from tests.core.crashes import check_crashes
from tests.core.model import Json
from tests.core.pair_model import V1, V2, V3, Pair, pair_policy, until_step, weights
from tests.core.test_release import CRASHING

APPROVED: list[Json] = [{"weight": 10, "approve": True}, {"weight": 50, "hold": "1m"}, {"weight": 100}]


def of(
    steps: list[Json], *, routed: bool = True, by_hand: int | None = None, through: str = "", **options: Any
) -> Pair:
    """A pair with its policy, in which nothing has been changed."""
    fields = options.pop("policy", {})
    cluster = Pair(routed=routed, by_hand=by_hand, through=through, **options)
    spec = pair_policy(steps, routed=routed, canary=by_hand is not None, through=through, **fields)
    cluster.put("ReleasePolicy", "web", spec=spec, metadata={"finalizers": [names.FINALIZER]})
    cluster.run()
    return cluster


def started(steps: list[Json], **options: Any) -> Pair:
    """The same, when somebody has set the idle one's image to v2."""
    cluster = of(steps, **options)
    cluster.set_image_of("web-v2", V2)
    return cluster


def selected(cluster: Pair, service: str = "web") -> str:
    return str(cluster.get("Service", service)["spec"]["selector"].get("version", ""))


def served_by(cluster: Pair, version: str, image: str) -> None:
    """`version` serves alone, the other one has no pods, and nothing of the user's is gone or of ours left."""
    other = {"v1": "v2", "v2": "v1"}[version]
    assert cluster.violations == []
    assert {cluster.pods_ever[pod] for pod in cluster.endpoints("web")} == {image}
    assert (cluster.size(f"web-{version}"), cluster.size(f"web-{other}")) == (4, 0)
    assert cluster.share(image) == 100
    assert not any(cluster.get("Deployment", name)["spec"].get("paused") for name in ("web-v1", "web-v2"))
    if cluster.routed:
        assert (selected(cluster), selected(cluster, "web-canary")) == (version, other)
    assert cluster.as_before()
    assert not [action for action in cluster.writes if isinstance(action, Delete) and not ours(action)]


def ours(action: Delete) -> bool:
    return (action.ref.kind, action.ref.name) in (("Ingress", "web-davylamp"), ("DestinationRule", "web-canary"))


def test_nothing_is_written_before_the_idle_template_changes() -> None:
    cluster = of(weights(10, 50, 100))
    assert cluster.writes == []
    assert cluster.look().reason == "Stable"


@pytest.mark.parametrize(
    "options",
    [{}, {"by_hand": 0}, {"through": "httpRoute"}, {"through": "virtualService"}],
    ids=["made", "by-hand", "httpRoute", "virtualService"],
)
def test_a_pair_goes_through_its_steps_by_any_route_and_swaps_its_places(options: Json) -> None:
    cluster = started(weights(10, 50, 100), **options)
    cluster.run()
    assert cluster.phase() == "Completed"
    served_by(cluster, "v2", V2)
    seen = [round(weight) for weight in cluster.weights]
    assert [w for i, w in enumerate(seen) if i == 0 or w != seen[i - 1]] == [0, 10, 50, 100]
    assert sorted(cluster.pods_ever.values()) == [V1] * 4 + [V2] * 4, "each pod started once"


def test_the_next_release_goes_the_other_way() -> None:
    cluster = started(weights(10, 100))
    cluster.run()
    cluster.set_image_of("web-v1", V3)
    cluster.run()
    assert [r["spec"]["deployment"] for r in cluster.all("Release")] == ["web-v2", "web-v1"]
    assert cluster.phase() == "Completed"
    served_by(cluster, "v1", V3)


def test_under_one_service_both_are_scaled_and_the_total_stays() -> None:
    cluster = started([*weights(25, 50), {"weight": 75, "hold": "1m"}, {"weight": 100}], routed=False)
    sizes: list[tuple[int, int]] = []
    for step in (1, 2, 3):
        cluster.run(until=until_step(cluster, step))
        sizes.append((cluster.size("web-v1"), cluster.size("web-v2")))
        assert len(cluster.endpoints("web")) == 4
    assert sizes == [(3, 1), (2, 2), (1, 3)]
    cluster.run()
    assert cluster.phase() == "Completed"
    served_by(cluster, "v2", V2)


def test_under_one_service_there_are_never_fewer_pods_than_before() -> None:
    cluster = started(APPROVED, routed=False)
    least = 4

    def watched() -> bool:
        nonlocal least
        least = min(least, len(cluster.endpoints("web")))
        return False

    cluster.run(until=watched)
    cluster.command(approved={"step": 1})
    cluster.run(until=lambda: watched() or until_step(cluster, 2)())
    cluster.command(abort={})
    cluster.run(until=watched)
    assert cluster.phase() == "RolledBack"
    assert least == 4
    served_by(cluster, "v1", V1)


@pytest.mark.parametrize("routed", [True, False])
@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_abort_scales_the_canary_back_from_any_step(step: int, routed: bool) -> None:
    steps = [*weights(25, 50), {"weight": 100, "approve": True}]
    cluster = started(steps, routed=routed)
    cluster.run(until=until_step(cluster, step) if step else lambda: bool(cluster.all("Release")))
    cluster.command(abort={"by": "ann"})
    cluster.run()
    assert cluster.phase() == "RolledBack"
    served_by(cluster, "v1", V1)
    assert cluster.look().reason == "Held"


def test_the_idle_pods_that_there_were_are_given_back() -> None:
    cluster = started(APPROVED, idle=3)
    cluster.run()
    cluster.command(abort={})
    cluster.run()
    assert (cluster.size("web-v1"), cluster.size("web-v2")) == (4, 3)
    cluster.set_image_of("web-v2", V3)
    cluster.command()
    cluster.run()
    cluster.command(promote={})
    cluster.run()
    assert cluster.phase() == "Completed"
    assert (cluster.size("web-v1"), cluster.size("web-v2")) == (3, 4)
    assert cluster.violations == []


def test_a_rejected_template_of_the_idle_one_is_held_until_retry() -> None:
    cluster = started(APPROVED)
    cluster.run()
    cluster.command(abort={})
    cluster.run()
    assert cluster.look().reason == "Held"
    cluster.command(retry={"by": "ann"})
    cluster.run()
    assert [r["spec"].get("attempt", 1) for r in cluster.all("Release")] == [1, 2]
    cluster.command(promote={})
    cluster.run()
    served_by(cluster, "v2", V2)


def test_a_start_by_hand_needs_no_new_template_and_happens_once() -> None:
    cluster = of(APPROVED)
    cluster.ask_for_a_start()
    cluster.run()
    assert cluster.phase() == "Progressing"
    assert names.START not in cluster.get("Deployment", "web-v2")["metadata"]["annotations"]
    cluster.command(abort={})
    cluster.run()
    assert len(cluster.all("Release")) == 1
    cluster.ask_for_a_start()
    cluster.run()
    assert [r["spec"].get("attempt", 1) for r in cluster.all("Release")] == [1, 2]


def test_a_template_set_back_withdraws_the_release() -> None:
    cluster = started(APPROVED)
    cluster.run()
    cluster.set_image_of("web-v2", V1)
    cluster.run()
    assert cluster.phase() == "Withdrawn"
    served_by(cluster, "v1", V1)
    assert len(cluster.all("Release")) == 1


@pytest.mark.parametrize("routed", [True, False])
def test_a_newer_template_supersedes_the_release(routed: bool) -> None:
    cluster = started(APPROVED, routed=routed)
    cluster.run()
    cluster.set_image_of("web-v2", V3)
    cluster.run()
    assert [r["status"]["phase"] for r in cluster.all("Release")] == ["Superseded", "Progressing"]
    cluster.command(promote={})
    cluster.run()
    served_by(cluster, "v2", V3)


@pytest.mark.parametrize("routed", [True, False])
def test_a_crashing_canary_is_taken_back_with_its_last_words(routed: bool) -> None:
    cluster = of(weights(25, 100), routed=routed)
    cluster.sick_images[V2] = CRASHING
    cluster.set_image_of("web-v2", V2)
    cluster.run()
    assert cluster.phase() == "RolledBack"
    assert 'its last words: "fatal: no database"' in cluster.release["status"]["end"]["message"]
    served_by(cluster, "v1", V1)


def test_a_new_template_of_the_one_that_serves_is_held_and_told() -> None:
    cluster = of(APPROVED)
    cluster.set_image_of("web-v1", V2)
    decided = cluster.run()
    assert decided.reason == "ServingHeld"
    assert "Change web-v2's instead" in decided.message
    assert cluster.all("Release") == []
    assert set(cluster.pods_ever.values()) == {V1}


def test_a_template_changed_while_it_served_is_released_when_it_is_idle() -> None:
    cluster = started(APPROVED)
    cluster.run()
    cluster.set_image_of("web-v1", V3)
    cluster.command(promote={})
    cluster.run()
    assert [r["spec"]["deployment"] for r in cluster.all("Release")] == ["web-v2", "web-v1"]
    cluster.command(promote={})
    cluster.run()
    served_by(cluster, "v1", V3)


def test_a_service_that_is_pointed_at_no_pods_is_pointed_back() -> None:
    cluster = started(weights(10, 100))
    cluster.run()
    cluster.violations.clear()
    cluster.edit("Service", "web", lambda obj: obj["spec"]["selector"].update(version="v1"))
    cluster.run()
    assert selected(cluster) == "v2"
    assert cluster.events[-1].reason == "ServicePointedBack"


def test_who_the_service_selects_is_who_serves() -> None:
    cluster = started(APPROVED, idle=4)
    cluster.run()
    cluster.command(promote={})
    cluster.run()
    cluster.edit("Service", "web", lambda obj: obj["spec"]["selector"].update(version="v1"))
    cluster.run()
    assert cluster.look().message.startswith("web-v1 ")
    cluster.set_image_of("web-v2", V3)
    cluster.run()
    assert cluster.release["spec"]["deployment"] == "web-v2"


@pytest.mark.parametrize("routed", [True, False])
def test_the_policy_can_be_made_anew_after_the_places_were_swapped(routed: bool) -> None:
    cluster = started(weights(50, 100), routed=routed)
    cluster.run()
    for release in cluster.all("Release"):
        del cluster.objects["Release", release["metadata"]["name"]]
    assert cluster.look().message.startswith("web-v2 ")
    cluster.set_image_of("web-v1", V3)
    cluster.run()
    served_by(cluster, "v1", V3)


def test_scaling_the_one_that_serves_is_followed() -> None:
    cluster = started(APPROVED)
    cluster.run()
    cluster.edit("Deployment", "web-v1", lambda obj: obj["spec"].update(replicas=10))
    cluster.command(promote={})
    cluster.run()
    assert cluster.size("web-v2") == 10
    assert cluster.size("web-v1") == 0


@pytest.mark.parametrize("name", ["web-v1", "web-v2"])
def test_a_deployment_that_is_deleted_during_a_release_leaves_one_that_serves(name: str) -> None:
    cluster = started(APPROVED)
    cluster.run()
    cluster.remove("Deployment", name)
    cluster.run(until=lambda: name == "web-v2" or selected(cluster) == "v2")
    cluster.violations.clear()  # of pods that somebody deletes there is nothing left to answer
    cluster.run()
    left = "v1" if name == "web-v2" else "v2"
    assert cluster.phase() == ("Withdrawn" if name == "web-v2" else "Completed")
    assert selected(cluster) == left
    assert cluster.endpoints("web")
    assert cluster.violations == []


@pytest.mark.parametrize("kind", ["Release", "ReleasePolicy"])
def test_deleting_during_a_release_scales_the_canary_back(kind: str) -> None:
    cluster = started(APPROVED)
    cluster.run()
    cluster.remove(kind, cluster.release["metadata"]["name"] if kind == "Release" else "web")
    cluster.run(until=lambda: cluster.size("web-v2") == 0)
    assert cluster.share(V1) == 100
    assert cluster.violations == []


def test_a_canary_ingress_made_by_hand_is_taken_over_at_its_weight() -> None:
    cluster = Pair(by_hand=10, idle=1)
    cluster.set_image_of("web-v2", V2)
    steps: list[Json] = [{"weight": 10, "approve": True}, {"weight": 50, "approve": True}, {"weight": 100}]
    cluster.put("ReleasePolicy", "web", spec=pair_policy(steps, canary=True))
    cluster.ask_for_a_start()
    before = cluster.get("Ingress", "web-canary")["metadata"]["resourceVersion"]
    assert cluster.run().reason == "AwaitingApproval"
    assert cluster.get("Ingress", "web-canary")["metadata"]["resourceVersion"] == before, "not written at all"
    assert set(cluster.weights) == {10}
    cluster.command(approved={"step": 1})
    cluster.run()
    cluster.command(approved={"step": 2})
    cluster.run()
    assert cluster.phase() == "Completed"
    assert [w for i, w in enumerate(cluster.weights) if i == 0 or w != cluster.weights[i - 1]] == [10, 50, 100]
    annotations = cluster.get("Ingress", "web-canary")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/canary-weight"] == "0"
    assert cluster.violations == []


def test_without_a_gate_a_pair_is_paused_at_rest() -> None:
    cluster = started(weights(10, 100), gate="fallback")
    cluster.run()
    assert cluster.phase() == "Completed"
    assert cluster.share(V2) == 100
    assert all(cluster.get("Deployment", name)["spec"]["paused"] for name in ("web-v1", "web-v2"))
    cluster.set_image_of("web-v1", V3)
    cluster.run()
    assert cluster.share(V3) == 100


def ways() -> dict[str, Callable[[Pair], None]]:
    """Each way of a release as what is done to it once it stands at its first step."""
    return {
        "promotion": lambda c: c.command(promote={}),
        "rollback": lambda c: c.command(abort={}),
        "withdrawal": lambda c: c.set_image_of("web-v2", V1),
        "supersession": lambda c: c.set_image_of("web-v2", V3),
        "deletion": lambda c: c.remove("Release", c.release["metadata"]["name"]),
    }


def final_state(cluster: Pair) -> list[Any]:
    deployments = [cluster.get("Deployment", name)["spec"] for name in ("web-v1", "web-v2")]
    services = [service["spec"]["selector"] for service in cluster.all("Service")]
    ingresses = [(i["metadata"]["name"], i["metadata"].get("annotations")) for i in cluster.all("Ingress")]
    phases = [release["status"]["phase"] for release in cluster.all("Release")]
    return [phases, deployments, services, ingresses, cluster.as_before() or phases[-1] == "Progressing"]


@pytest.mark.parametrize("way", ways())
@pytest.mark.parametrize(
    "options",
    [{}, {"by_hand": 0}, {"idle": 2}, {"routed": False}, {"through": "httpRoute"}, {"through": "virtualService"}],
    ids=["routed", "adopted", "idle", "one-service", "httpRoute", "virtualService"],
)
def test_a_crash_at_any_write_leads_to_the_same_end(way: str, options: dict[str, Any]) -> None:
    check_crashes(lambda: started(APPROVED, **options), ways()[way], end=final_state)


def test_a_write_on_a_stale_view_is_refused() -> None:
    cluster = started(weights(10, 50, 100), by_hand=0)
    cluster.run()
    shared = [a for a in cluster.writes if isinstance(a, Patch) and a.ref.kind != "Release"]
    assert {a.ref.kind for a in shared} == {"Service", "Deployment", "Ingress"}
    for action in shared:
        assert isinstance(action.patch, dict)
        assert "resourceVersion" in action.patch["metadata"]


def test_nothing_is_written_while_nothing_changes() -> None:
    for routed in (True, False):
        cluster = started(APPROVED, routed=routed)
        cluster.run()
        before = len(cluster.writes)
        for _ in range(5):
            cluster.now += timedelta(minutes=5)
            cluster.look()
        assert len(cluster.writes) == before


def test_of_two_releases_made_in_one_second_the_one_under_way_says_who_serves() -> None:
    """Their names decide their order then, which says nothing."""
    cluster = started([{"weight": 100, "approve": True}], routed=False)
    cluster.run()
    assert (cluster.size("web-v1"), cluster.size("web-v2")) == (0, 4)
    world = cluster.world()
    (under_way,) = world.releases
    over = msgspec.structs.replace(under_way, status=ReleaseStatus(phase=Phase.SUPERSEDED))
    deployments = {d.metadata.name: d for d in (world.deployment, world.partner) if d is not None}
    pair = TakingTurns("web-v1", "web-v2")
    assert roles(pair, (under_way, over), None, deployments) == pair
