"""Custom kinds: Davylamp's own, and one made for a test; the gate."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from davylamp.api.crd import crds
from davylamp.kube import gate
from tests.contract.harness import APPLY, MERGE, STRATEGIC, Cluster, Json, Space
from tests.contract.objects import deployment

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
POLICIES = "releasepolicies.davylamp.dev"
WRITER = "contract-writer"
_numbers = itertools.count(1)


def serve(cluster: Cluster, crd: Json) -> None:
    """Until the kind is served."""
    name = crd["metadata"]["name"]
    cluster.ask("PATCH", f"{CRDS}/{name}", crd, APPLY, fieldManager="contract", force="true")
    cluster.wait(lambda: _established(cluster.ask("GET", f"{CRDS}/{name}")), f"{name} to be served")
    version = next(v["name"] for v in crd["spec"]["versions"])
    path = f"/apis/{crd['spec']['group']}/{version}/{crd['spec']['names']['plural']}"
    cluster.wait(lambda: cluster.request("GET", path).code == 200, f"{path} to be served")


def _established(crd: Json) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


@pytest.fixture(scope="module")
def ours(cluster: Cluster) -> Cluster:
    """With our kinds."""
    for crd in crds():
        serve(cluster, crd)
    return cluster


@pytest.fixture
def shop(ours: Cluster, space: Space) -> Space:
    return space


def policy(name: str = "web", **spec: Any) -> Json:
    given = {"target": {"name": name}, "steps": [{"weight": 50, "hold": "10s"}, {"weight": 100}], **spec}
    meta = {"name": name}
    return {"apiVersion": "davylamp.dev/v1alpha1", "kind": "ReleasePolicy", "metadata": meta, "spec": given}


# --- validation ---


def test_defaults_of_the_schema_are_filled_in(shop: Space) -> None:
    made = shop.create(POLICIES, policy(traffic={"service": "web"}))
    assert made["spec"]["onFailure"] == "hold"
    assert made["spec"]["traffic"]["settle"] == "5s"
    assert made["metadata"]["generation"] == 1
    assert "status" not in made


PROBLEMS: list[tuple[Json, str]] = [
    ({"steps": [{"weight": 101}]}, "spec.steps[0].weight in body should be less than or equal to 100"),
    ({"steps": []}, "spec.steps in body should have at least 1 items"),
    ({"steps": [{"hold": "1s"}]}, "spec.steps[0].weight: Required value"),
    ({"steps": [{"weight": "x"}]}, 'spec.steps[0].weight in body must be of type integer: "string"'),
    ({"onFailure": "panic"}, 'spec.onFailure: Unsupported value: "panic": supported values: "hold", "revert"'),
    ({"target": {}}, "a policy targets one Deployment, all with some labels, or a pair"),
    ({"target": {"name": "a", "matchLabels": {"a": "b"}}}, "set exactly one of name, matchLabels"),
    ({"target": {"matchLabels": {}}}, "name at least one label: none would target every Deployment"),
    ({"steps": [{"weight": 50}, {"weight": 10}]}, "weights must rise from step to step"),
    ({"steps": [{"weight": 50}, {"weight": 50}]}, "two steps may share one if both give replicas"),
    ({"traffic": {}}, "set service, or detect: true"),
    ({"traffic": {"service": "a", "detect": True}}, "leave out service and routes, or set detect to false"),
    ({"progressDeadline": "soon!"}, "spec.progressDeadline in body should match"),
    ({"maxExtraPods": True}, 'spec.maxExtraPods in body must be of type integer,string: "boolean"'),
    ({"target": {"name": "x" * 254}}, "spec.target.name: Too long: may not be more than 253 bytes"),
]


@pytest.mark.parametrize(("spec", "message"), PROBLEMS, ids=[row[1][:50] for row in PROBLEMS])
def test_what_the_schema_or_a_rule_forbids_is_refused(shop: Space, spec: Json, message: str) -> None:
    answer = shop.request("POST", POLICIES, body=policy(**spec))
    assert (answer.code, answer.reason) == (422, "Invalid"), answer.body
    assert message in answer.message


def test_steps_of_one_weight_may_differ_in_replicas(shop: Space) -> None:
    shop.create(POLICIES, policy(steps=[{"weight": 50, "replicas": 1}, {"weight": 50, "replicas": "50%"}]))


def test_an_unknown_field_is_pruned_or_refused(shop: Space) -> None:
    assert "wieght" not in shop.create(POLICIES, policy(wieght=1), dryRun="All")["spec"]
    answer = shop.request("POST", POLICIES, body=policy(wieght=1), fieldValidation="Strict")
    assert (answer.code, answer.reason) == (400, "BadRequest")
    assert answer.message.endswith('strict decoding error: unknown field "spec.wieght"')


def release(**spec: Any) -> Json:
    given: Json = {
        "policy": "web",
        "deployment": "web",
        "template": "0123456789",
        "stable": {"replicaSet": "web-1", "hash": "1"},
        "canary": {"replicaSet": "web-2", "hash": "2"},
        "steps": [{"weight": 100}],
    }
    meta = {"name": "web-1"}
    return {"apiVersion": "davylamp.dev/v1alpha1", "kind": "Release", "metadata": meta, "spec": {**given, **spec}}


def test_a_rule_about_changes_compares_with_what_was(shop: Space) -> None:
    made = shop.create("releases.davylamp.dev", release())
    answer = shop.request(
        "PATCH", "releases.davylamp.dev", "web-1", {"spec": {"deployment": "other"}}, content_type=MERGE
    )
    assert answer.code == 422
    assert "spec.deployment" in answer.message or "deployment" in answer.message
    same = shop.patch("releases.davylamp.dev", "web-1", {"metadata": {"labels": {"a": "b"}}})
    assert same["metadata"]["generation"] == made["metadata"]["generation"]


def test_the_status_is_written_apart(shop: Space) -> None:
    shop.create(POLICIES, policy())
    condition = {"type": "Ready", "status": "True", "reason": "Good", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    body = {"status": {"targets": 2, "conditions": [condition]}}
    assert "status" not in shop.patch(POLICIES, "web", body)
    after = shop.patch(POLICIES, "web", body, subresource="status")
    assert after["status"]["targets"] == 2
    assert after["metadata"]["generation"] == 1
    rows = shop.kubectl("get", "rpol").out.split("\n")
    assert rows[0].split() == ["NAME", "TARGET", "READY", "REASON", "AGE"]
    assert rows[1].split()[:4] == ["web", "web", "True", "Good"]
    double = {"status": {"conditions": [condition, condition]}}
    refused = shop.request("PATCH", POLICIES, "web", double, content_type=MERGE, subresource="status")
    assert refused.code == 422
    assert 'status.conditions[1]: Duplicate value: {"type":"Ready"}' in refused.message


def test_an_update_of_a_custom_object_needs_a_resource_version(shop: Space) -> None:
    shop.create(POLICIES, policy())
    answer = shop.request("PUT", POLICIES, "web", policy())
    assert answer.code == 422
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in answer.message


def test_a_strategic_patch_of_a_custom_object_is_refused(shop: Space) -> None:
    shop.create(POLICIES, policy())
    assert shop.request("PATCH", POLICIES, "web", {}, content_type=STRATEGIC).code == 415


def test_conditions_are_owned_one_by_one(shop: Space) -> None:
    shop.create(POLICIES, policy())
    for manager, kind in (("ann", "Ready"), ("bob", "Stalled")):
        body = {**policy(), "status": {"conditions": [{"type": kind, "status": "True"}]}}
        del body["spec"]
        shop.patch(POLICIES, "web", body, APPLY, subresource="status", fieldManager=manager)
    assert [c["type"] for c in shop.get(POLICIES, "web")["status"]["conditions"]] == ["Ready", "Stalled"]


def test_a_watch_from_a_version_that_is_forgotten_ends_with_410_and_a_list_begins_anew(shop: Space) -> None:
    """A real server remembers nothing of a kind from before its CRD; the embedded one is told to forget."""
    shop.create(POLICIES, policy())
    shop.cluster.forget()
    version = shop.cluster.ask("GET", shop.path(POLICIES))["metadata"]["resourceVersion"]
    with contextlib.closing(shop.cluster.watch(shop.path(POLICIES), resourceVersion="1")) as events:  # type: ignore[type-var]
        (event,) = events
    told = event["object"]
    assert (event["type"], told["kind"], told["code"], told["reason"]) == ("ERROR", "Status", 410, "Expired")
    assert told["message"].startswith("too old resource version: 1 (")
    with contextlib.closing(shop.cluster.watch(shop.path(POLICIES), resourceVersion=version)) as events:  # type: ignore[type-var]
        shop.patch(POLICIES, "web", {"metadata": {"labels": {"a": "b"}}})
        assert next(events)["type"] == "MODIFIED"


# --- a kind that comes and goes ---


@pytest.fixture
def thing(cluster: Cluster) -> Iterator[Json]:
    """A CRD whose kind another group has already (Service)."""
    group = f"g{next(_numbers)}.contract.example"
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": {"type": "integer"},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            },
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        },
    }
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Service", "plural": "things", "singular": "thing"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {
                        "status": {},
                        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                    },
                }
            ],
        },
    }
    serve(cluster, crd)
    yield crd
    cluster.request("DELETE", f"{CRDS}/things.{group}")


def test_a_kind_of_the_same_name_in_another_group_is_another_kind(thing: Json, space: Space) -> None:
    plural = thing["metadata"]["name"]
    body = {"apiVersion": f"{thing['spec']['group']}/v1", "kind": "Service", "metadata": {"name": "one"}}
    free = {"anything": [1, {"goes": None}]}
    space.create(plural, {**body, "spec": {"replicas": 2, "free": free, "other": 1}})
    found = space.get(plural, "one")
    assert found["spec"] == {"replicas": 2, "free": free}
    assert space.list("services") == []
    assert space.cluster.ask("GET", space.path(plural, "one", "scale"))["spec"] == {"replicas": 2}
    space.kubectl("scale", f"{plural}/one", "--replicas=3")
    assert space.get(plural, "one")["spec"]["replicas"] == 3
    assert "thing" in space.kubectl("api-resources", "--api-group", thing["spec"]["group"]).out


def test_the_objects_go_with_their_kind(thing: Json, space: Space) -> None:
    plural = thing["metadata"]["name"]
    body = {"apiVersion": f"{thing['spec']['group']}/v1", "kind": "Service", "metadata": {"name": "one"}}
    space.create(plural, body)
    space.cluster.ask("DELETE", f"{CRDS}/{plural}")
    space.wait(lambda: space.cluster.request("GET", f"{CRDS}/{plural}").code == 404, "the CRD gone")
    space.wait(lambda: space.request("GET", plural, "one").code == 404, "the object gone")


def test_a_crd_whose_rule_is_no_cel_is_refused(cluster: Cluster) -> None:
    (first, *_) = crds()
    version = first["spec"]["versions"][0]
    schema = {"type": "object", "x-kubernetes-validations": [{"rule": "self.(", "message": "x"}]}
    broken = {**version, "schema": {"openAPIV3Schema": schema}}
    spec = {**first["spec"], "group": "broken.example", "versions": [broken]}
    body = {**first, "metadata": {"name": "releasepolicies.broken.example"}, "spec": spec}
    answer = cluster.request("POST", CRDS, body)
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert "x-kubernetes-validations[0].rule" in answer.message
    assert "compilation failed" in answer.message


@pytest.mark.cluster
@pytest.mark.parametrize("source", ["Gateway API", "Istio"])
def test_the_published_kinds_of_routers_are_all_served(source: str) -> None:
    """By the embedded one; that the real one serves them is seen wherever a router is tested on it."""
    from davylab import istio, traefik

    from davylamp.embedded.store import Store
    from davylamp.kube.clock import SystemClock

    store = Store(SystemClock())
    published = traefik.gateway_crds() if source == "Gateway API" else istio.definitions()
    for crd in published:
        store.create(crd)
    served = {resource.kind for resource in store.resources}
    assert served >= {crd["spec"]["names"]["kind"] for crd in published}
    assert served & {"HTTPRoute", "VirtualService"}


# --- the gate ---


@pytest.fixture(scope="module")
def gated(ours: Cluster) -> Cluster:
    """With the gate, seen at work."""
    for manifest in gate.manifests(WRITER):
        plural = "mutatingadmissionpolic" + ("ybindings" if manifest["kind"].endswith("Binding") else "ies")
        path = f"{ADMISSION}/{plural}/{manifest['metadata']['name']}"
        ours.ask("PATCH", path, manifest, APPLY, fieldManager="contract", force="true")
    name = f"gate-{next(_numbers)}"
    ours.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    probe = Space(ours, name)
    probe.create(POLICIES, policy())
    probe.create("deployments.apps", deployment(replicas=0))
    tries = itertools.count(1)

    def held() -> bool:
        change = {"spec": {"template": {"metadata": {"annotations": {"try": str(next(tries))}}}}}
        return bool(probe.patch("deployments.apps", "web", change, dryRun="All")["spec"].get("paused"))

    ours.wait(held, "the gate at work", 60)
    ours.request("DELETE", f"/api/v1/namespaces/{name}")
    return ours


@pytest.fixture
def guarded(gated: Cluster, space: Space) -> Space:
    return space


def image(value: str) -> Json:
    return {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": value}]}}}}


TARGETS = [
    ({"name": "web"}, {}, True),
    ({"name": "other"}, {}, False),
    ({"matchLabels": {"tier": "front"}}, {"tier": "front"}, True),
    ({"matchLabels": {"tier": "front"}}, {"tier": "back"}, False),
    ({"matchLabels": {"tier": "front"}}, {}, False),
]


@pytest.mark.parametrize(("target", "labels", "held"), TARGETS)
def test_a_targeted_deployment_is_paused_in_the_write_that_changes_its_template(
    guarded: Space, target: Json, labels: Json, held: bool
) -> None:
    guarded.create(POLICIES, policy(target=target))
    body = deployment(replicas=0)
    body["metadata"]["labels"] = labels
    assert "paused" not in guarded.create("deployments.apps", body)["spec"]
    after = guarded.patch("deployments.apps", "web", image("hellok8s:v2"))
    assert after["spec"].get("paused", False) is held
    annotation = (after["metadata"].get("annotations") or {}).get("davylamp.dev/paused-by")
    assert annotation == ("gate" if held else None)


def test_every_way_to_change_a_template_is_held(guarded: Space) -> None:
    guarded.create(POLICIES, policy())
    guarded.apply(deployment(replicas=0))
    guarded.kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    ways: list[tuple[str, Callable[[], object]]] = [
        ("v2", lambda: guarded.kubectl("set", "image", "deploy/web", "app=hellok8s:v2")),
        ("v3", lambda: guarded.apply(deployment(image="hellok8s:v3", replicas=0))),
        ("v4", lambda: guarded.kubectl("edit", "deploy/web", EDITOR="sed -i s/hellok8s:v3/hellok8s:v4/")),
        ("v3", lambda: guarded.kubectl("rollout", "undo", "deploy/web")),
    ]
    for tag, change in ways:
        change()
        found = guarded.get("deployments.apps", "web")
        assert found["spec"]["template"]["spec"]["containers"][0]["image"] == f"hellok8s:{tag}"
        assert found["spec"]["paused"] is True, tag
        guarded.kubectl("rollout", "resume", "deploy/web")
        guarded.kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    text = yaml.safe_dump(deployment(image="hellok8s:v5", replicas=0))
    guarded.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text)
    undo = guarded.kubectl("rollout", "undo", "deploy/web", check=False)
    assert (undo.code, "you cannot rollback a paused deployment" in undo.err) == (1, True)
    assert guarded.get("deployments.apps", "web")["spec"]["paused"] is True


def test_other_changes_and_the_writer_go_through(guarded: Space) -> None:
    guarded.create(POLICIES, policy())
    guarded.create("deployments.apps", deployment(replicas=0))
    assert "paused" not in guarded.patch("deployments.apps", "web", {"spec": {"minReadySeconds": 1}})["spec"]
    as_writer = ["--as", WRITER, "--as-group", "system:masters"]
    guarded.kubectl("set", "image", "deploy/web", "app=hellok8s:v2", *as_writer)
    assert "paused" not in guarded.get("deployments.apps", "web")["spec"]
    guarded.kubectl("set", "image", "deploy/web", "app=hellok8s:v3")
    assert guarded.get("deployments.apps", "web")["spec"]["paused"] is True
    guarded.kubectl("rollout", "resume", "deploy/web")
    assert "paused" not in guarded.get("deployments.apps", "web")["spec"]


def test_a_write_that_would_resume_it_is_held_as_well(guarded: Space) -> None:
    guarded.create(POLICIES, policy())
    guarded.create("deployments.apps", deployment(replicas=0, paused=True))
    change = image("hellok8s:v2")
    change["spec"]["paused"] = False
    assert guarded.patch("deployments.apps", "web", change)["spec"]["paused"] is True


def test_the_mark_alone_holds_a_deployment(guarded: Space) -> None:
    body = deployment(replicas=0)
    body["metadata"]["labels"] = {gate.MARK: "web"}
    guarded.create("deployments.apps", body)
    assert guarded.patch("deployments.apps", "web", image("hellok8s:v2"))["spec"]["paused"] is True


def test_a_policy_that_is_being_deleted_holds_nothing(guarded: Space) -> None:
    body = policy()
    body["metadata"]["finalizers"] = ["contract.example/hold"]
    guarded.create(POLICIES, body)
    guarded.create("deployments.apps", deployment(replicas=0))
    guarded.delete(POLICIES, "web")
    assert "paused" not in guarded.patch("deployments.apps", "web", image("hellok8s:v2"))["spec"]
    guarded.patch(POLICIES, "web", {"metadata": {"finalizers": None}})
