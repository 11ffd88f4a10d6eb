"""Uninstalling, on an API server in memory with Kubernetes' own controllers, in the middle of everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from davylamp.api.objects import HASH_LABEL
from davylamp.core import names
from davylamp.core.actions import Ref
from davylamp.kube.gate import MARK
from davylamp.kube.install import Change, InstallProblem, _applied
from davylamp.kube.manifests import Options, manifests
from davylamp.kube.uninstall import UninstallReport, uninstall
from tests.controller.rig import Rig
from tests.kube.controllers import NAMESPACE, ROUTED, deployment, ingress, policy, service
from tests.kube.fake import Object
from tests.kube.test_install import ended

OURS = (
    "ReleasePolicy",
    "Release",
    "CustomResourceDefinition",
    "ClusterRole",
    "Role",
    "ClusterRoleBinding",
    "RoleBinding",
)
GATE = ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
APPROVED = {"steps": [{"weight": 50, "approve": True}, {"weight": 100, "approve": True}]}
WEB = Ref("Deployment", NAMESPACE, "web")


class Crash(Exception):
    """The process that uninstalls has died."""


class Yard(Rig):
    """With Davylamp installed, and without its controller where `orphaned`."""

    def __init__(self) -> None:
        super().__init__()
        self.api.apis |= {("davylamp.dev/v1alpha1", kind) for kind in ("releases", "releasepolicies")}

    async def install(self) -> None:
        for manifest in manifests(Options()):
            await _applied(self.api, manifest)

    async def orphaned(self) -> None:
        """The controller is gone, Kubernetes goes on."""
        await self.stop(*self.controller_tasks)
        del self._tasks[1:]

    async def releasing(self, step: int = 1, **spec: Any) -> None:
        """v2 in a step that waits for approval."""
        await self.start(deployment(), service(), ingress(), policy(**(ROUTED | APPROVED | spec)))
        self.set_image("hellok8s:v2")
        await self.clock.advance(20)
        if step == 2:
            ref = Ref("Release", NAMESPACE, self.release["metadata"]["name"])
            self.api.change(ref, {"spec": {"approved": {"step": 1}}})
            await self.clock.advance(20)
        assert self.release["status"]["step"] == step

    async def uninstall(self, *, force: bool = True, within: float = 300.0) -> UninstallReport:
        return await ended(self.clock, uninstall(self.api, self.clock, force=force, within=within))

    def left(self) -> list[str]:
        return [str(ref) for ref in self.api.objects if ref.kind in OURS + GATE]

    def world(self) -> Object:
        """What a person sees of the workload."""
        web = self.get("Deployment")
        return {
            "image": web["spec"]["template"]["spec"]["containers"][0]["image"],
            "paused": bool(web["spec"].get("paused")),
            "mark": web["metadata"].get("labels", {}).get(MARK),
            "selector": self.get("Service")["spec"]["selector"],
            "pinned by": self.get("Service")["metadata"].get("annotations", {}).get(names.PINNED_BY),
            "objects": sorted(str(ref) for ref in self.api.objects if ref.kind in ("Ingress", "Service")),
            "pods": sorted(pod["spec"]["containers"][0]["image"] for pod in self.api.of_kind("Pod")),
        }


TAKEN_BACK = {
    "image": "hellok8s:v2",
    "paused": True,
    "mark": None,
    "selector": {"app": "web"},
    "pinned by": None,
    "objects": ["Ingress shop/web", "Service shop/web"],
    "pods": ["hellok8s:v1"] * 4,
}


@pytest.fixture
async def yard() -> AsyncIterator[Yard]:
    yard = Yard()
    await yard.install()
    yield yard
    await yard.stop()


# --- releases under way ---


async def test_a_release_under_way_is_named_and_nothing_is_touched(yard: Yard) -> None:
    await yard.releasing()
    before = len(yard.api.writes)
    with pytest.raises(
        InstallProblem, match=rf"1 release is under way: {NAMESPACE}/web-\w+-1 \(Progressing\)"
    ) as error:
        await yard.uninstall(force=False)
    assert error.value.kind == "refused"
    assert len(yard.api.writes) == before


def begins_before(yard: Yard, verb: str, kind: str) -> None:
    """A release begins just before the first such request."""
    release = {
        "apiVersion": "davylamp.dev/v1alpha1",
        "kind": "Release",
        "metadata": {"name": "web-1", "namespace": NAMESPACE, "finalizers": [names.FINALIZER]},
        "spec": {
            "policy": "web",
            "deployment": "web",
            "template": "x",
            "stable": {"replicaSet": "web-native1", "hash": "native1"},
            "canary": {"replicaSet": "web-1", "hash": "x-1"},
            "steps": [{"weight": 50}],
        },
    }

    def before(verb_: str, ref: Ref) -> None:
        if (verb_, ref.kind) == (verb, kind) and not yard.api.of_kind("Release"):
            yard.api.put(release)

    yard.api.before = before


async def test_a_release_that_begins_while_the_gate_goes_is_not_pulled_away_either(yard: Yard) -> None:
    await yard.start(deployment())
    begins_before(yard, "delete", "MutatingAdmissionPolicy")
    with pytest.raises(InstallProblem, match="the gate is removed already") as error:
        await yard.uninstall(force=False)
    assert error.value.kind == "refused"
    assert Ref("ClusterRole", "", "davylamp") in yard.api.objects


async def test_a_release_that_begins_after_that_is_taken_back(yard: Yard) -> None:
    await yard.start(deployment())
    begins_before(yard, "delete", "ClusterRoleBinding")
    await yard.uninstall(force=False)
    assert yard.left() == []
    said = [obj for _, _, ref, obj, _ in yard.api._history if ref.kind == "Release" and obj.get("status")]
    assert said[-1]["status"]["phase"] in ("RolledBack", "Withdrawn"), "ended, not torn"


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("alive", [True, False], ids=["by the controller", "without a controller"])
async def test_force_takes_the_release_back_first(yard: Yard, step: int, alive: bool) -> None:
    await yard.releasing(step)
    if not alive:
        await yard.orphaned()
    report = await yard.uninstall()
    assert yard.world() == TAKEN_BACK
    assert yard.left() == []
    (held,) = report.held
    assert (held.name, held.wanted, held.running) == ("web", "hellok8s:v2", "hellok8s:v1")


@pytest.mark.parametrize("alive", [True, False], ids=["by the controller", "without a controller"])
async def test_a_completed_release_that_keeps_old_pods_is_not_taken_back(yard: Yard, alive: bool) -> None:
    steps = [{"weight": 50, "approve": True}, {"weight": 100}]
    await yard.releasing(steps=steps, keepOld="1h")
    yard.api.change(Ref("Release", NAMESPACE, yard.release["metadata"]["name"]), {"spec": {"approved": {"step": 1}}})
    await yard.clock.advance(30)
    assert (yard.phase, sorted(yard.world()["pods"])) == ("Completed", ["hellok8s:v1"] * 4 + ["hellok8s:v2"] * 4)
    if not alive:
        await yard.orphaned()
    await yard.uninstall()
    assert yard.world() == TAKEN_BACK | {"paused": False, "pods": ["hellok8s:v2"] * 4}
    assert yard.left() == []


async def test_without_a_controller_a_policy_that_reverts_gets_its_stable_template_back(yard: Yard) -> None:
    await yard.releasing(onFailure="revert")
    await yard.orphaned()
    report = await yard.uninstall()
    assert yard.world() == TAKEN_BACK | {"image": "hellok8s:v1", "paused": False}
    assert report.held == ()


async def test_several_releases_are_taken_back_at_once(yard: Yard) -> None:
    fleet = [f"web{number}" for number in range(5)]
    await yard.start(*(deployment(name=name) for name in fleet), *(policy(name, **APPROVED) for name in fleet))
    for name in fleet:
        yard.set_image("hellok8s:v2", name)
    await yard.clock.advance(20)
    await yard.orphaned()
    began = yard.clock.passed
    report = await yard.uninstall()
    assert sorted(held.name for held in report.held) == fleet
    assert yard.clock.passed - began < 15


async def test_a_rollback_that_does_not_end_is_reported_with_what_it_waits_for(yard: Yard) -> None:
    await yard.releasing(2)
    await yard.orphaned()
    yard.kubernetes.sick["hellok8s:v1"] = {}
    yard.kubernetes.settle()
    with pytest.raises(InstallProblem, match=r"could not be taken back: .*stable pod") as error:
        await yard.uninstall(within=30)
    assert error.value.kind == "timed out"
    assert yard.get("Service")["spec"]["selector"][HASH_LABEL].endswith("-1"), "the traffic stays where pods are ready"


@pytest.mark.parametrize("alive", [True, False], ids=["by the controller", "without a controller"])
async def test_a_crash_at_any_write_is_mended_by_running_it_again(alive: bool) -> None:
    crashes, number = 0, 0
    while True:
        number += 1
        yard = Yard()
        await yard.install()
        await yard.releasing()
        if not alive:
            await yard.orphaned()
        crashed = await _crashing_at(yard, number)
        report = await yard.uninstall()
        assert (yard.world(), yard.left()) == (TAKEN_BACK, []), f"after a crash at write {number}"
        assert [held.name for held in report.held] == ["web"]
        await yard.stop()
        if not crashed:
            break
        crashes += 1
    assert crashes > 20


async def _crashing_at(yard: Yard, number: int) -> bool:
    """Uninstall, and die before our write `number`. False if there were fewer."""
    mine = asyncio.current_task()
    count = 0

    def crash(verb: str, ref: Ref) -> None:
        nonlocal count
        if asyncio.current_task() in tasks and verb in ("patch", "create", "delete", "apply"):
            count += 1
            if count == number:
                raise Crash

    tasks = {mine}
    yard.api.before = crash
    task = asyncio.create_task(uninstall(yard.api, yard.clock, force=True))
    tasks.add(task)
    try:
        await ended(yard.clock, _joined(task))
    except Crash:
        return True
    finally:
        yard.api.before = None
    return False


async def _joined(task: asyncio.Task[UninstallReport]) -> UninstallReport:
    return await task


# --- what stays paused, and what does not ---


def held_by_hand(yard: Yard, *, image: str, by: str | None = "gate", **spec: Any) -> None:
    """The Deployment as the gate (or somebody) leaves it, with no controller around."""
    annotations = {names.PAUSED_BY: by} if by else {}
    template = {"spec": {"containers": [{"name": "app", "image": image}]}}
    patch = {"metadata": {"annotations": annotations}, "spec": {"paused": True, "template": template, **spec}}
    yard.api.change(WEB, patch)


@pytest.mark.parametrize("by", ["gate", "davylamp"])
async def test_a_deployment_whose_template_runs_already_goes_on(yard: Yard, by: str) -> None:
    await yard.start(deployment())
    held_by_hand(yard, image="hellok8s:v1", by=by)
    report = await yard.uninstall(force=False)
    assert report.held == ()
    web = yard.get("Deployment")
    assert (web["spec"]["paused"], web["metadata"]["annotations"]) == (False, {})
    assert Change("Deployment", "web", "changed", NAMESPACE) in report.changes


async def test_a_deployment_that_holds_another_template_stays_paused_and_says_why(yard: Yard) -> None:
    await yard.start(deployment())
    held_by_hand(yard, image="hellok8s:v2")
    await yard.uninstall(force=False)
    (held,) = (await yard.uninstall(force=False)).held
    assert yard.get("Deployment")["spec"]["paused"]
    assert held.accept == "kubectl -n shop rollout resume deployment/web"
    assert held.keep == (
        "kubectl -n shop set image deployment/web app=hellok8s:v1 && kubectl -n shop rollout resume deployment/web"
    )


async def test_where_more_than_images_differ_the_whole_template_is_put_back(yard: Yard) -> None:
    await yard.start(deployment())
    held_by_hand(yard, image="hellok8s:v2")
    yard.api.change(WEB, {"spec": {"template": {"spec": {"hostNetwork": True}}}})
    (held,) = (await yard.uninstall(force=False)).held
    assert "op: replace, path: /spec/template, value: $(kubectl -n shop get replicaset web-native1" in held.keep


async def test_a_deployment_that_a_person_paused_stays_as_it_is(yard: Yard) -> None:
    await yard.start(deployment())
    held_by_hand(yard, image="hellok8s:v2", by=None)
    await yard.clock.advance(1)
    version = yard.get("Deployment")["metadata"]["resourceVersion"]
    report = await yard.uninstall(force=False)
    assert report.held == ()
    assert yard.get("Deployment")["metadata"]["resourceVersion"] == version


async def test_a_deployment_without_pods_goes_on(yard: Yard) -> None:
    await yard.start(deployment(replicas=0))
    held_by_hand(yard, image="hellok8s:v2")
    assert (await yard.uninstall(force=False)).held == ()
    assert not yard.get("Deployment")["spec"]["paused"]


async def test_a_deployment_that_somebody_writes_at_the_same_time_is_looked_at_again(yard: Yard) -> None:
    await yard.start(deployment())
    held_by_hand(yard, image="hellok8s:v1")
    changes = iter([{"spec": {"replicas": 5}}, {"spec": {"replicas": 6}}])

    def somebody(verb: str, ref: Ref) -> None:
        change = next(changes, None) if (verb, ref) == ("patch", WEB) else None
        if change:
            yard.api.change(WEB, change)

    yard.api.before = somebody
    await yard.uninstall(force=False)
    web = yard.get("Deployment")
    assert (web["spec"]["paused"], web["spec"]["replicas"]) == (False, 6)


async def test_a_service_that_was_left_pinned_is_given_back(yard: Yard) -> None:
    await yard.start(deployment(), service())
    ref = Ref("Service", NAMESPACE, "web")
    marked = {"metadata": {"annotations": {names.PINNED_BY: "web-1"}}, "spec": {"selector": {HASH_LABEL: "x"}}}
    yard.api.change(ref, marked)
    await yard.uninstall(force=False)
    assert yard.get("Service")["spec"]["selector"] == {"app": "web"}
    assert yard.get("Service")["metadata"]["annotations"] == {}


# --- what is ours ---


async def test_the_controllers_rights_go_before_the_policies_and_the_policies_before_the_releases(yard: Yard) -> None:
    """Or a controller that is still there would start the rejected template anew: a Release is its memory."""
    await yard.start_web()
    yard.set_image("hellok8s:v2")
    await yard.clock.advance(30)
    await yard.uninstall()
    order = list(
        dict.fromkeys(ref.kind for verb, ref in yard.api.writes if verb == "delete" and ref.kind in OURS + GATE)
    )
    wanted = [
        *reversed(GATE),
        "ClusterRoleBinding",
        "ReleasePolicy",
        "Release",
        "CustomResourceDefinition",
        "ClusterRole",
    ]
    assert [kind for kind in order if kind in wanted] == wanted


async def test_a_namespace_in_which_somebody_else_lives_stays(yard: Yard) -> None:
    guest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "guest", "namespace": "davylamp-system"}}
    yard.api.put(guest)
    report = await yard.uninstall(force=False)
    assert Ref("Namespace", "", "davylamp-system") in yard.api.objects
    assert "stays, since it has things that are not ours: Pod guest" in report.notes[0]


async def test_where_nothing_is_installed_there_is_nothing_to_do() -> None:
    yard = Yard()
    yard.api.apis = set()
    report = await ended(yard.clock, uninstall(yard.api, yard.clock))
    assert report == UninstallReport(())
