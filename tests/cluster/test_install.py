"""Installing and uninstalling on a real control plane of its own: what the API server refuses, what the gate holds,
and what is left when everything is gone."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from davylab import Lab, LabError

from davylamp.api.objects import HASH_LABEL
from davylamp.core.actions import Patch, Ref
from davylamp.embedded.load.process import Load
from davylamp.kube.client import connect
from davylamp.kube.gate import MARK
from tests.cluster.shop import Controller, Json, Shop, davy, deployment, marks, policy_manifest

V1, V2, V3 = "hellok8s:v1", "hellok8s:v2", "hellok8s:v3"
PAUSED_BY = "davylamp.dev/paused-by"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Not the one of the other tests: here Davylamp comes and goes."""
    with Lab(traefik=True) as lab:
        yield lab


@pytest.fixture
def installed(lab: Lab) -> Lab:
    """Davylamp as it comes. (The gate is what an uninstallation takes away first, and an installation makes last.)"""
    if "davylamp-gate-marked" not in lab.kubectl("get", "mutatingadmissionpolicybinding", "-o", "name"):
        davy(lab, "install")
    return lab


@pytest.fixture
def shop(installed: Lab) -> Iterator[Shop]:
    shop = Shop(installed, f"yard-{next(_numbers)}")
    shop.kubectl("create", "namespace", shop.namespace)
    yield shop
    shop.close()


def refusal(lab: Lab, spec: Json) -> str:
    with pytest.raises(LabError) as refused:
        lab.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(policy_manifest("web", spec)))
    return str(refused.value)


# --- what the API server refuses by itself ---

GOOD_POLICY: Json = {"target": {"name": "web"}, "steps": [{"weight": 10, "hold": "10m"}, {"weight": 100}]}
BAD_POLICIES: dict[str, tuple[Json, str]] = {
    "two targets": ({"target": {"name": "web", "matchLabels": {"a": "b"}}}, "set exactly one of name, matchLabels"),
    "no target": ({"target": {}}, "set exactly one of name, matchLabels"),
    "empty labels": ({"target": {"matchLabels": {}}}, "name at least one label"),
    "no steps": ({"steps": []}, "spec.steps in body should have at least 1 items"),
    "falling": ({"steps": [{"weight": 50}, {"weight": 10}]}, "weights must rise from step to step"),
    "equal": ({"steps": [{"weight": 50}, {"weight": 50}]}, "weights must rise from step to step"),
    "equal, one with replicas": (
        {"steps": [{"weight": 50, "replicas": 2}, {"weight": 50}]},
        "weights must rise from step to step",
    ),
    "over 100": ({"steps": [{"weight": 101}]}, "should be less than or equal to 100"),
    "below 0": ({"steps": [{"weight": -1}]}, "should be greater than or equal to 0"),
    "hold without unit": ({"steps": [{"weight": 1, "hold": "10"}]}, '"10" is not a duration: write for example 30s'),
    "hold as a number": ({"steps": [{"weight": 1, "hold": 10}]}, "must be of type string"),
    "deadline": ({"progressDeadline": "ten"}, '"ten" is not a duration'),
    "detect and service": ({"traffic": {"detect": True, "service": "web"}}, "leave out service and routes"),
    "detect and routes": (
        {"traffic": {"detect": True, "routes": [{"ingress": {"name": "web"}}]}},
        "leave out service and routes",
    ),
    "routes without service": ({"traffic": {"routes": [{"ingress": {"name": "web"}}]}}, "set service, or detect: true"),
    "empty traffic": ({"traffic": {}}, "leave traffic out for a workload without a Service"),
    "empty route": ({"traffic": {"service": "web", "routes": [{}]}}, "set exactly one of ingress, httpRoute"),
    "one Service for a fleet": (
        {"target": {"matchLabels": {"a": "b"}}, "traffic": {"service": "web"}},
        "use traffic: {detect: true}",
    ),
    "percentage": ({"maxExtraPods": "10"}, "should match '^[0-9]{1,5}%$'"),
    "negative": ({"maxExtraPods": -1}, "should be greater than or equal to 0"),
    "on failure": ({"onFailure": "ignore"}, 'supported values: "hold", "revert"'),
    "history": ({"historyLimit": 0}, "should be greater than or equal to 1"),
    "unknown field": ({"stepz": []}, 'unknown field "spec.stepz"'),
}


@pytest.mark.parametrize("case", BAD_POLICIES)
def test_a_bad_policy_is_refused_with_a_reason(installed: Lab, case: str) -> None:
    change, message = BAD_POLICIES[case]
    assert message in refusal(installed, GOOD_POLICY | change)


def test_all_that_is_wrong_with_a_policy_is_said_at_once(installed: Lab) -> None:
    bad = {"target": {}, "traffic": {"detect": True, "service": "web"}, "steps": [{"weight": 5}, {"weight": 5}]}
    said = refusal(installed, bad)
    for part in ("exactly one of", "leave out service", "weights must rise"):
        assert part in said


def test_good_policies_are_taken_and_shown(shop: Shop) -> None:
    fleet = {
        "target": {"matchLabels": {"tier": "front"}},
        "traffic": {"detect": True},
        "steps": [{"weight": 0, "replicas": 1}, {"weight": 10, "replicas": "25%"}, {"weight": 10, "replicas": 3}],
    }
    shop.apply(policy_manifest("web", GOOD_POLICY), policy_manifest("fleet", fleet))
    spec = shop.get("releasepolicy", "web")["spec"]
    assert (spec["onFailure"], spec["maxExtraPods"], spec["historyLimit"]) == ("hold", "100%", 10)
    rows = [line.split() for line in shop.kubectl("get", "rpol").splitlines()]
    assert rows[0] == ["NAME", "TARGET", "READY", "REASON", "AGE"]
    assert [row[:2] for row in rows[1:]] == [["fleet", '{"tier":"front"}'], ["web", "web"]]
    assert "releasepolicy.davylamp.dev/web" in shop.kubectl("get", "davylamp", "-o", "name")


RELEASE: Json = {
    "apiVersion": "davylamp.dev/v1alpha1",
    "kind": "Release",
    "metadata": {"name": "web-1"},
    "spec": {
        "policy": "web",
        "deployment": "web",
        "template": "abc",
        "stable": {"replicaSet": "web-a", "hash": "a"},
        "canary": {"replicaSet": "web-1", "hash": "abc-1"},
        "steps": [{"weight": 10}],
    },
}


def test_a_new_release_shows_its_phase_before_anyone_has_written_a_status(shop: Shop) -> None:
    shop.apply(RELEASE)
    assert shop.get("release", "web-1")["status"] == {
        "phase": "Pending",
        "step": 0,
        "weight": {"asked": 0, "inEffect": 0},
    }
    row = shop.kubectl("get", "rel", "--no-headers", "--field-selector", "spec.deployment=web").split()
    assert row[:5] == ["web-1", "web", "Pending", "0", "0"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({}, {"policy": "other"}, "a release keeps the policy it started with"),
        ({}, {"service": "web"}, "a release keeps the service it started with"),
        ({}, {"steps": [{"weight": 20}]}, "a release keeps the steps it started with"),
        ({}, {"settleSeconds": 6}, "a release keeps the settleSeconds it started with"),
        ({"abort": {"by": "me"}}, {"abort": None}, "abort can't be taken back"),
        ({"promote": {"by": "me"}}, {"promote": None}, "promote can't be taken back"),
        ({"retry": {"by": "me"}}, {"retry": None}, "retry can't be taken back"),
        ({"approved": {"step": 2}}, {"approved": {"step": 1}}, "an approval can't be taken back"),
        ({"approved": {"step": 2}}, {"approved": None}, "an approval can't be taken back"),
        ({"paused": {"by": "me"}}, {"paused": None}, ""),
        ({"approved": {"step": 1}}, {"approved": {"step": 2, "by": "you"}}, ""),
        ({}, {"abort": {"by": "me", "reason": "it is bad"}}, ""),
    ],
)
def test_a_release_can_be_told_what_to_do_and_nothing_else(shop: Shop, before: Json, after: Json, message: str) -> None:
    shop.apply(RELEASE | {"spec": RELEASE["spec"] | before})
    patch = ("patch", "release", "web-1", "--type=merge", "-p", json.dumps({"spec": after}))
    if not message:
        shop.kubectl(*patch)
        return
    with pytest.raises(LabError, match=message):
        shop.kubectl(*patch)


# --- the gate ---


def fill(shop: Shop, *names: str) -> None:
    """Empty Deployments: what the gate does needs no pods."""
    shop.apply(*(deployment(V1, 0, name=name) for name in names))


def gated_by_policy(shop: Shop, target: Json | None = None) -> None:
    """A policy, and wait until the API server has heard of it."""
    shop.apply(policy_manifest("web", GOOD_POLICY | {"target": target or {"name": "web"}}))
    shop.wait(lambda: tried(shop).get("paused"), "the gate to know the policy")


def tried(shop: Shop, *args: str) -> Json:
    """What would become of web's spec if its template were changed."""
    patch = json.dumps({"spec": {"template": {"metadata": {"annotations": {"try": "1"}}}}})
    answer = shop.kubectl("patch", "deployment", "web", "--dry-run=server", "-o", "json", "-p", patch, *args)
    return json.loads(answer)["spec"]  # type: ignore[no-any-return]


def held(shop: Shop, name: str = "web") -> bool:
    """Paused, and marked by the gate; or neither."""
    found = shop.get("deployment", name)
    paused = bool(found["spec"].get("paused"))
    assert (found["metadata"].get("annotations", {}).get(PAUSED_BY) == "gate") == paused
    return paused


def patched(shop: Shop, patch: Json | list[Json], kind: str = "merge", *args: str) -> None:
    shop.kubectl("patch", "deployment", "web", f"--type={kind}", "-p", json.dumps(patch), *args)


def changed(how: str, shop: Shop) -> None:
    """Another template in web, in one of the ways in which people and tools write it."""
    manifest = json.dumps(deployment(V2, 0))
    match how:
        case "set image":
            shop.set_image(V2)
        case "apply":
            shop.kubectl("apply", "-f", "-", input=manifest)
        case "server-side apply":
            shop.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=manifest)
        case "replace":
            shop.kubectl("replace", "-f", "-", input=manifest)
        case "rollout restart":
            shop.kubectl("rollout", "restart", "deployment/web")
        case "rollout undo":
            shop.kubectl("rollout", "undo", "deployment/web")
        case "a patch that also resumes":
            patched(shop, {"spec": {"paused": False, "template": {"metadata": {"annotations": {"a": "b"}}}}})
        case "a patch that also takes all annotations away":
            image = {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": V2}
            patched(shop, [{"op": "remove", "path": "/metadata/annotations"}, image], "json")


HOW = (
    "set image",
    "apply",
    "server-side apply",
    "replace",
    "rollout restart",
    "rollout undo",
    "a patch that also resumes",
    "a patch that also takes all annotations away",
)


@pytest.mark.parametrize("how", HOW)
def test_however_a_template_is_changed_the_deployment_is_paused_in_that_write(shop: Shop, how: str) -> None:
    fill(shop, "web", "other")
    if how == "rollout undo":
        shop.wait(lambda: len(shop.all("replicasets", "app=web")) == 1, "the first revision")
        shop.set_image(V3)
        shop.wait(lambda: len(shop.all("replicasets", "app=web")) == 2, "the second revision")
    gated_by_policy(shop)
    changed(how, shop)
    shop.set_image(V2, "other")
    assert held(shop)
    assert not held(shop, "other")


def test_a_policy_with_labels_gates_every_deployment_that_has_them_all(shop: Shop) -> None:
    fill(shop, "web", "other")
    shop.kubectl("label", "deployment", "web", "tier=front", "team=a")
    shop.kubectl("label", "deployment", "other", "tier=front")
    gated_by_policy(shop, {"matchLabels": {"tier": "front", "team": "a"}})
    for name in ("web", "other"):
        shop.set_image(V2, name)
    assert (held(shop), held(shop, "other")) == (True, False)


def test_what_leaves_the_template_alone_passes_the_gate(shop: Shop) -> None:
    fill(shop, "web")
    gated_by_policy(shop)
    shop.kubectl("scale", "deployment/web", "--replicas=1")
    shop.kubectl("label", "deployment", "web", "a=b")
    patched(shop, {"spec": {"minReadySeconds": 3}})
    assert not held(shop)


def test_a_held_deployment_can_be_resumed_and_is_held_again_at_the_next_change(shop: Shop) -> None:
    fill(shop, "web")
    gated_by_policy(shop)
    shop.set_image(V2)
    shop.kubectl("rollout", "resume", "deployment/web")
    assert not shop.get("deployment", "web")["spec"].get("paused")
    shop.set_image(V3)
    assert held(shop)


def test_a_pause_that_a_person_made_is_not_taken_for_the_gates(shop: Shop) -> None:
    fill(shop, "web")
    gated_by_policy(shop)
    shop.kubectl("rollout", "pause", "deployment/web")
    shop.set_image(V2)
    found = shop.get("deployment", "web")
    assert found["spec"]["paused"]
    assert PAUSED_BY not in found["metadata"].get("annotations", {})


async def test_the_controller_is_let_through(shop: Shop) -> None:
    fill(shop, "web")
    gated_by_policy(shop)
    shop.kubectl("label", "deployment", "web", f"{MARK}=web")
    assert tried(shop).get("paused")
    template = {"spec": {"template": {"metadata": {"annotations": {"try": "1"}}}}}
    # Not by kubectl, which reads an object before it patches it: the controller may not, and needs not.
    async with connect(str(shop.lab.kubeconfig_of("davylamp"))) as kube:
        await kube.patch(Patch(Ref("Deployment", shop.namespace, "web"), template))
    assert not held(shop)


def test_a_policy_that_is_being_deleted_gates_no_more(shop: Shop) -> None:
    fill(shop, "web")
    gated_by_policy(shop)
    shop.kubectl("patch", "releasepolicy", "web", "--type=merge", "-p", '{"metadata":{"finalizers":["test.dev/stay"]}}')
    shop.kubectl("delete", "releasepolicy", "web", "--wait=false")
    shop.wait(lambda: "paused" not in tried(shop), "the gate to see it")


def test_a_marked_deployment_is_gated_even_by_the_write_that_takes_the_mark_away(shop: Shop) -> None:
    fill(shop, "web")
    shop.kubectl("label", "deployment", "web", f"{MARK}=web")
    assert tried(shop).get("paused")
    shop.kubectl("replace", "-f", "-", input=json.dumps(deployment(V2, 0)))
    assert held(shop)


# --- installing ---


@pytest.fixture
def alone(installed: Lab) -> Lab:
    """When the namespaces of the tests before are gone."""
    installed.wait(
        lambda: "/yard-" not in installed.kubectl("get", "namespaces", "-o", "name"), 240, "the namespaces to go"
    )
    return installed


def results(done: str) -> set[str]:
    return {change["result"] for change in json.loads(done)["changes"]}


def everything(lab: Lab) -> set[str]:
    """All objects that there are, but those that come and go by themselves."""
    kinds = lab.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    kept = [
        kind for kind in kinds if kind.partition(".")[0] not in ("events", "leases", "endpoints", "componentstatuses")
    ]
    return set(lab.kubectl("get", ",".join(kept), "-A", "-o", "name", "--ignore-not-found").split())


def test_installing_twice_changes_nothing(alone: Lab) -> None:
    before = everything(alone)
    assert results(davy(alone, "install", "-o", "json").stdout) == {"unchanged"}
    assert everything(alone) == before


def test_the_second_installation_takes_away_what_only_the_first_one_wanted(alone: Lab) -> None:
    before = everything(alone)
    davy(alone, "install", "--namespace-only", "default")
    namespaced = everything(alone)
    assert "clusterrolebinding.rbac.authorization.k8s.io/davylamp" in before - namespaced
    assert "rolebinding.rbac.authorization.k8s.io/davylamp" in namespaced - before
    davy(alone, "install")
    assert everything(alone) == before


def test_with_one_namespace_the_gate_works_there_only(lab: Lab, shop: Shop) -> None:
    fill(shop, "web")
    shop.kubectl("label", "deployment", "web", f"{MARK}=web")
    davy(lab, "install", "--namespace-only", "default")
    shop.wait(lambda: "paused" not in tried(shop), "the gate to let go of this namespace")
    davy(lab, "install", "--namespace-only", shop.namespace)
    shop.wait(lambda: tried(shop).get("paused"), "the gate to hold here")
    davy(lab, "install")


def test_uninstalling_leaves_nothing_and_a_dry_run_makes_nothing(alone: Lab) -> None:
    davy(alone, "uninstall")
    before = everything(alone)
    done = davy(alone, "install", "--dry-run=server", "-o", "json")
    assert results(done.stdout) == {"created"}
    assert everything(alone) == before
    davy(alone, "install", "--image", "hellok8s:v1")
    assert len(everything(alone) - before) >= 18
    done = davy(alone, "uninstall", "-o", "json")
    assert everything(alone) == before
    assert (results(done.stdout), json.loads(done.stdout)["held"]) == ({"deleted"}, [])
    assert json.loads(davy(alone, "uninstall", "-o", "json").stdout)["changes"] == []


# --- uninstalling in the middle ---


@pytest.fixture
def load(shop: Shop) -> Iterator[Load]:
    shop.open()
    load = Load(shop.lab, host=shop.host, rps=100)
    shop.wait(lambda: load.snapshot().by_version["v1"] > 100, "answers of v1")
    before = load.snapshot()  # Until Traefik knows the Ingress it answers with 503 itself.
    yield load
    during = load.snapshot().minus(before)
    load.stop()
    assert (during.lost, during.failed) == (0, 0)


def as_it_was(shop: Shop, stable: dict[str, str]) -> None:
    """Nothing of a release is left, and no stable pod was touched."""
    shop.wait(lambda: shop.pods() == stable, "only the stable pods")
    left = shop.all("ingresses") + shop.all("services") + shop.all("replicasets")
    names = sorted(obj["metadata"]["name"].split("-")[0] for obj in left)
    assert names == ["web", "web", "web"], "one Ingress, one Service, one ReplicaSet"
    service = shop.get("service", "web")
    assert service["spec"]["selector"] == {"app": "web"}
    assert marks(service) == []
    assert HASH_LABEL not in shop.get("deployment", "web")["spec"]["template"]["metadata"]["labels"]


def run(command: str) -> None:
    """A command that was suggested, as a person would paste it."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, shell=True, check=True, capture_output=True, env=env, timeout=120)


def only_held(done: subprocess.CompletedProcess[str], shop: Shop) -> Json:
    (found,) = json.loads(done.stdout)["held"]
    assert (found["namespace"], found["name"], found["wanted"], found["running"]) == (shop.namespace, "web", V2, V1)
    assert shop.get("deployment", "web")["spec"]["paused"]
    return found  # type: ignore[no-any-return]


def test_a_release_under_way_is_not_pulled_away_but_named(
    alone: Lab, shop: Shop, load: Load, controller: Controller
) -> None:
    shop.policy({"weight": 50, "approve": True})
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    before = everything(shop.lab)
    done = davy(shop.lab, "uninstall", check=False)
    assert done.returncode == 6
    assert f"{shop.namespace}/{shop.release(V2)['metadata']['name']} (Progressing)" in done.stderr
    assert everything(shop.lab) == before
    stable = {name: image for name, image in shop.pods().items() if image == V1}
    done = davy(shop.lab, "uninstall", "--force", "-o", "json")
    as_it_was(shop, stable)
    run(only_held(done, shop)["keep"])
    assert not shop.get("deployment", "web")["spec"].get("paused")
    shop.wait(lambda: shop.get("deployment", "web")["status"]["updatedReplicas"] == 4, "the Deployment at rest")
    as_it_was(shop, stable)


@pytest.mark.parametrize("weight", [50, 100])
def test_without_a_controller_the_release_is_taken_back_all_the_same(
    shop: Shop, load: Load, controller: Controller, weight: int
) -> None:
    shop.policy({"weight": weight, "approve": True})
    stable = shop.pods()
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    controller.kill()
    done = davy(shop.lab, "uninstall", "--force", "-o", "json")
    as_it_was(shop, stable)
    run(only_held(done, shop)["accept"])
    shop.wait_quiet(V2)


def test_a_deployment_goes_on_where_its_template_runs_already_and_stays_paused_where_it_does_not(shop: Shop) -> None:
    shop.apply(*(deployment(V1, 1, name=name) for name in ("web", "same")))
    for name in ("web", "same"):
        shop.wait_available(1, name)
    shop.apply(*(policy_manifest(name, GOOD_POLICY | {"target": {"name": name}}) for name in ("web", "same")))
    shop.wait(lambda: tried(shop).get("paused"), "the gate to know the policy")
    shop.kubectl("set", "env", "deployment/web", "NEW=1")
    for image in (V2, V1):
        shop.set_image(image, "same")
    assert held(shop)
    assert held(shop, "same")
    done = davy(shop.lab, "uninstall")
    assert not held(shop, "same")
    assert held(shop)
    assert f"{shop.namespace}/web holds" in done.stdout
    keep = next(line.strip() for line in done.stdout.splitlines() if " patch deployment web " in line)
    pods = shop.pods()
    run(keep)
    found = shop.get("deployment", "web")
    assert not found["spec"].get("paused")
    variables = [v["name"] for v in found["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert variables == ["ACCESS_LOG"]
    shop.wait(
        lambda: shop.get("deployment", "web")["status"]["observedGeneration"] == found["metadata"]["generation"], ""
    )
    assert shop.pods() == pods


# --- last, since it costs the others half a minute ---


def test_after_a_restart_the_api_server_holds_marked_deployments_from_its_first_answer_on(shop: Shop) -> None:
    fill(shop, "web", "other")
    shop.kubectl("label", "deployment", "web", f"{MARK}=web")
    os.kill(shop.lab.pids()["kube-apiserver"], signal.SIGKILL)
    assert shop.wait(lambda: tried(shop), "the first answer").get("paused")
    shop.set_image(V2, "other")
    assert not held(shop, "other")
