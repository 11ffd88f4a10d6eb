"""Create, update, delete: identity, concurrency, dry run, finalizers, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.harness import Json, Space
from tests.contract.objects import config, deployment, ingress, service


def test_a_new_object_gets_its_identity_from_the_server(space: Space) -> None:
    given = config(uid="mine", creationTimestamp="2001-01-01T00:00:00Z")
    meta = space.create("configmaps", given)["metadata"]
    assert meta["uid"] != "mine"
    assert meta["creationTimestamp"] > "2020"
    assert meta["namespace"] == space.name
    assert int(meta["resourceVersion"]) > 0
    assert "generation" not in meta


def test_a_name_is_generated_with_five_letters(space: Space) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "made-"}}
    names = {space.create("configmaps", body)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("made-") and len(name) == 10 for name in names)


def test_creating_twice_is_refused(space: Space) -> None:
    space.create("configmaps", config())
    answer = space.request("POST", "configmaps", body=config())
    assert (answer.code, answer.reason) == (409, "AlreadyExists")
    assert answer.message == 'configmaps "one" already exists'
    assert answer.body["details"] == {"name": "one", "kind": "configmaps"}


def test_an_object_that_is_not_there_is_not_found(space: Space) -> None:
    answer = space.request("GET", "deployments.apps", "none")
    assert (answer.code, answer.reason) == (404, "NotFound")
    assert answer.message == 'deployments.apps "none" not found'


def test_a_namespace_that_is_not_there_takes_nothing(space: Space) -> None:
    path = "/api/v1/namespaces/there-is-none/configmaps"
    answer = space.cluster.request("POST", path, config())
    assert (answer.code, answer.message) == (404, 'namespaces "there-is-none" not found')


def test_a_stale_update_is_refused(space: Space) -> None:
    first = space.create("configmaps", config())
    space.patch("configmaps", "one", {"data": {"a": "2"}})
    answer = space.request("PUT", "configmaps", "one", {**first, "data": {"a": "3"}})
    assert (answer.code, answer.reason) == (409, "Conflict")
    assert answer.message == (
        'Operation cannot be fulfilled on configmaps "one": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert space.get("configmaps", "one")["data"] == {"a": "2"}


def test_a_patch_with_a_stale_resource_version_is_refused(space: Space) -> None:
    version = space.create("configmaps", config())["metadata"]["resourceVersion"]
    body = {"metadata": {"resourceVersion": version}, "data": {"a": "2"}}
    space.patch("configmaps", "one", body)
    answer = space.request("PATCH", "configmaps", "one", body, content_type="application/merge-patch+json")
    assert (answer.code, answer.reason) == (409, "Conflict")


def test_an_update_without_a_resource_version_overwrites(space: Space) -> None:
    space.create("configmaps", config())
    assert space.request("PUT", "configmaps", "one", config(data={"b": "2"})).body["data"] == {"b": "2"}


def test_a_write_that_changes_nothing_keeps_the_resource_version(space: Space) -> None:
    first = space.create("configmaps", config())
    again = space.patch("configmaps", "one", {"data": {"a": "1"}})
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_dry_run_answers_as_if_and_stores_nothing(space: Space) -> None:
    made = space.create("configmaps", config(), dryRun="All")
    assert made["metadata"]["uid"]
    assert space.find("configmaps", "one") is None
    space.create("configmaps", config())
    assert space.patch("configmaps", "one", {"data": {"a": "2"}}, dryRun="All")["data"] == {"a": "2"}
    space.cluster.ask("DELETE", space.path("configmaps", "one"), dryRun="All")
    assert space.get("configmaps", "one")["data"] == {"a": "1"}


def test_the_generation_counts_changes_of_the_spec_only(space: Space) -> None:
    space.create("ingresses.networking.k8s.io", ingress())
    plural = "ingresses.networking.k8s.io"
    assert space.get(plural, "web")["metadata"]["generation"] == 1
    assert space.patch(plural, "web", {"metadata": {"labels": {"a": "b"}}})["metadata"]["generation"] == 1
    assert space.patch(plural, "web", {"spec": {"ingressClassName": "other"}})["metadata"]["generation"] == 2


def test_a_write_of_the_object_leaves_the_status_and_the_other_way_round(space: Space) -> None:
    plural = "ingresses.networking.k8s.io"
    balancer = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}
    made = space.create(plural, ingress() | {"status": balancer})
    assert made["status"] == {"loadBalancer": {}}
    both = {"status": balancer, "spec": {"ingressClassName": "other"}}
    assert space.patch(plural, "web", both)["status"] == {"loadBalancer": {}}
    shown = space.patch(
        plural, "web", {"status": balancer, "spec": {"ingressClassName": "third"}}, subresource="status"
    )
    assert shown["status"] == balancer
    assert shown["spec"]["ingressClassName"] == "other"
    assert shown["metadata"]["generation"] == 2


# --- deletion ---


def test_deletion_with_a_wrong_uid_is_refused(space: Space) -> None:
    space.create("configmaps", config())
    body = {"preconditions": {"uid": "somebody else"}}
    answer = space.request("DELETE", "configmaps", "one", body)
    assert (answer.code, answer.reason) == (409, "Conflict")
    assert answer.message.startswith(
        'Operation cannot be fulfilled on ConfigMap "one": the UID in the precondition (somebody else) does not match '
    )
    assert space.find("configmaps", "one") is not None


def test_a_deleted_object_is_answered_with_a_status(space: Space) -> None:
    uid = space.create("configmaps", config())["metadata"]["uid"]
    answer = space.delete("configmaps", "one")
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "one", "kind": "configmaps", "uid": uid}


def test_a_finalizer_holds_a_deleted_object_until_it_is_taken_off(space: Space) -> None:
    space.create("configmaps", config(finalizers=["example.com/hold"]))
    left = space.delete("configmaps", "one")
    assert left["metadata"]["deletionTimestamp"]
    assert left["metadata"]["deletionGracePeriodSeconds"] == 0
    before = space.get("configmaps", "one")
    assert space.delete("configmaps", "one")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    space.patch("configmaps", "one", {"metadata": {"finalizers": None}})
    assert space.find("configmaps", "one") is None


def test_a_deletion_timestamp_can_not_be_taken_back(space: Space) -> None:
    space.create("configmaps", config(finalizers=["example.com/hold"]))
    space.delete("configmaps", "one")
    after = space.patch("configmaps", "one", {"metadata": {"deletionTimestamp": None, "labels": {"a": "b"}}})
    assert after["metadata"]["deletionTimestamp"]
    space.patch("configmaps", "one", {"metadata": {"finalizers": None}})


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_propagation_is_a_finalizer_of_the_garbage_collector(space: Space, policy: str, finalizer: str) -> None:
    space.create("configmaps", config(finalizers=["example.com/hold"]))
    left = space.delete("configmaps", "one", {"propagationPolicy": policy})
    assert finalizer in left["metadata"]["finalizers"]
    space.patch("configmaps", "one", {"metadata": {"finalizers": None}})


def test_all_of_a_collection_that_match_are_deleted(space: Space) -> None:
    for name, label in (("one", "x"), ("two", "y"), ("three", "x")):
        space.create("configmaps", config(name, labels={"is": label}))
    space.cluster.ask("DELETE", space.path("configmaps"), labelSelector="is=x")
    names = {obj["metadata"]["name"] for obj in space.list("configmaps")}
    assert "two" in names
    assert not names & {"one", "three"}


# --- what is refused ---


def _without(body: Json, *path: str) -> Json:
    *parents, last = path
    place: Any = body
    for part in parents:
        place = place[part]
    del place[last]
    return body


REFUSED = [
    (
        "deployments.apps",
        deployment(selector={"matchLabels": {"app": "other"}}),
        'Deployment.apps "web" is invalid: spec.template.metadata.labels: Invalid value: {"app":"web"}: '
        "`selector` does not match template `labels`",
    ),
    ("services", service("web.one"), 'metadata.name: Invalid value: "web.one": must not contain dots'),
    ("configmaps", config("Upper"), 'metadata.name: Invalid value: "Upper": a lowercase RFC 1123 subdomain'),
    ("configmaps", config(labels={"a": "no spaces"}), "a valid label must be an empty string or consist of"),
    ("services", _without(service(), "spec", "ports"), 'Service "web" is invalid: spec.ports: Required value'),
    (
        "deployments.apps",
        deployment(replicas=-1),
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
    ),
    (
        "deployments.apps",
        deployment(strategy={"type": "Sideways"}),
        'spec.strategy: Unsupported value: {"Type":"Sideways","RollingUpdate":null}: '
        'supported values: "Recreate", "RollingUpdate"',
    ),
    (
        "endpointslices.discovery.k8s.io",
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "web"},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"]}],
        },
        "may not be in the loopback range",
    ),
]


@pytest.mark.parametrize(("plural", "body", "message"), REFUSED, ids=[f"{row[0]} {row[2][:40]}" for row in REFUSED])
def test_an_invalid_object_is_refused_with_its_field(space: Space, plural: str, body: Json, message: str) -> None:
    answer = space.request("POST", plural, body=body)
    assert (answer.code, answer.reason) == (422, "Invalid"), answer.body
    assert message in answer.message


def test_a_selector_is_immutable(space: Space) -> None:
    space.create("deployments.apps", deployment(replicas=0))
    body = {"spec": {"selector": {"matchLabels": {"b": "c"}}, "template": {"metadata": {"labels": {"b": "c"}}}}}
    answer = space.request("PATCH", "deployments.apps", "web", body, content_type="application/merge-patch+json")
    assert answer.code == 422
    assert "spec.selector: Invalid value" in answer.message
    assert "field is immutable" in answer.message


@pytest.mark.parametrize("replicas", ["three", 1.5, 3_000_000_000])
def test_a_field_of_a_wrong_type_is_a_bad_request(space: Space, replicas: Any) -> None:
    body = deployment()
    body["spec"]["replicas"] = replicas
    answer = space.request("POST", "deployments.apps", body=body)
    assert (answer.code, answer.reason) == (400, "BadRequest")
    assert "cannot be handled as a Deployment" in answer.message


def test_an_unknown_field_is_dropped_warned_about_or_refused_as_asked(space: Space) -> None:
    body = deployment(replicas=0, replica=3)
    strict = space.request("POST", "deployments.apps", body=body, fieldValidation="Strict")
    assert strict.code == 400
    assert 'unknown field "spec.replica"' in strict.message
    warned = space.request("POST", "deployments.apps", body=body, fieldValidation="Warn")
    assert warned.code == 201
    assert 'unknown field "spec.replica"' in warned.headers["warning"].replace("\\", "")
    assert "replica" not in warned.body["spec"]


def test_defaults_are_filled_in(space: Space) -> None:
    made = space.create("deployments.apps", deployment(replicas=0))["spec"]
    assert made["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert (made["revisionHistoryLimit"], made["progressDeadlineSeconds"]) == (10, 600)
    pod = made["template"]["spec"]
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"], pod["dnsPolicy"]) == (
        "Always",
        30,
        "ClusterFirst",
    )
    assert pod["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    ports = space.create("services", service())["spec"]
    assert (ports["type"], ports["sessionAffinity"]) == ("ClusterIP", "None")
    assert ports["ports"] == [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]
    assert ports["clusterIP"].startswith("10.96.")


def test_whole_templates_have_the_same_defaults_as_on_the_real_one(space: Space) -> None:
    """Template hashes compare what the server has made of a template."""
    probe = {"httpGet": {"port": 8080}}
    container = {
        "name": "app",
        "image": "shop/web",
        "ports": [{"containerPort": 8080}],
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": probe,
        "lifecycle": {"preStop": {"httpGet": {"port": 1}}},
        "resources": {"limits": {"cpu": 1, "memory": "64Mi"}},
    }
    volumes = [{"name": "a"}, {"name": "b", "configMap": {"name": "x"}}]
    body = deployment(replicas=0)
    body["spec"]["template"]["spec"] = {"containers": [container], "volumes": volumes, "serviceAccountName": "web"}
    assert space.create("deployments.apps", body)["spec"]["template"] == {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "containers": [
                {
                    "name": "app",
                    "image": "shop/web",
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                    "env": [
                        {"name": "POD", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
                    ],
                    "readinessProbe": {
                        "httpGet": {"path": "/", "port": 8080, "scheme": "HTTP"},
                        "timeoutSeconds": 1,
                        "periodSeconds": 10,
                        "successThreshold": 1,
                        "failureThreshold": 3,
                    },
                    "lifecycle": {"preStop": {"httpGet": {"path": "/", "port": 1, "scheme": "HTTP"}}},
                    "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "imagePullPolicy": "Always",
                }
            ],
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "x", "defaultMode": 420}}],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "web",
            "serviceAccount": "web",
            "securityContext": {},
            "schedulerName": "default-scheduler",
        },
    }


def test_events_of_both_groups_are_the_same_objects(space: Space) -> None:
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "told"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "davylamp.dev/controller",
        "reportingInstance": "x",
        "action": "Told",
        "reason": "Told",
        "note": "what happened",
        "type": "Normal",
        "regarding": {"kind": "ConfigMap", "name": "one", "namespace": space.name},
    }
    space.create("events.events.k8s.io", body)
    core = space.get("events", "told")
    assert core["message"] == "what happened"
    assert core["involvedObject"]["name"] == "one"
    assert core["reportingComponent"] == "davylamp.dev/controller"
    assert space.get("events.events.k8s.io", "told")["note"] == "what happened"
    assert space.list("events", fieldSelector="involvedObject.name=one")[0]["metadata"]["name"] == "told"


def test_scale_shows_and_sets_the_replicas(space: Space) -> None:
    space.create("deployments.apps", deployment(replicas=0, paused=True))
    path = space.path("deployments.apps", "web", "scale")
    shown = space.cluster.ask("GET", path)
    assert (shown["kind"], shown["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert (shown["spec"], shown["status"]["selector"]) == ({}, "app=web")
    shown["spec"]["replicas"] = 2
    del shown["metadata"]["resourceVersion"]
    assert space.cluster.ask("PUT", path, shown)["spec"] == {"replicas": 2}
    assert space.cluster.ask("PATCH", path, {"spec": {"replicas": 1}}, "application/merge-patch+json")
    assert space.get("deployments.apps", "web")["spec"]["replicas"] == 1


def test_a_method_or_a_place_that_there_is_none_of_is_refused(space: Space) -> None:
    assert space.request("POST", "configmaps", "one", config()).code == 405
    assert space.request("GET", "configmap").code == 404
    assert space.cluster.request("GET", "/apis/no.such.group/v1/things").code == 404
    assert space.request("GET", "configmaps", "one", subresource="scale").code == 404


def test_a_wrong_token_is_unauthorized(space: Space) -> None:
    answer = space.cluster.request("GET", "/api/v1/namespaces", token="wrong")
    assert (answer.code, answer.reason) == (401, "Unauthorized")


def test_who_is_asking_is_told(space: Space) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = space.cluster.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    assert "system:masters" in answer["status"]["userInfo"]["groups"]
