"""What a server tells of itself, what it refuses, and kinds that are only data."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml

from tests.contract.harness import JSON, MERGE, Cluster, Json, Space

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
RELEASED = {
    "v1": ["configmaps", "events", "namespaces", "nodes", "pods", "secrets", "serviceaccounts", "services"],
    "apps/v1": ["deployments", "replicasets"],
    "autoscaling/v2": ["horizontalpodautoscalers"],
    "coordination.k8s.io/v1": ["leases"],
    "discovery.k8s.io/v1": ["endpointslices"],
    "networking.k8s.io/v1": ["ingresses", "ingressclasses"],
    "apiextensions.k8s.io/v1": ["customresourcedefinitions"],
    "admissionregistration.k8s.io/v1": ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"],
}


def told(cluster: Cluster) -> dict[str, dict[str, Json]]:
    """The resources of each group version, by plural, as aggregated discovery has them."""
    found: dict[str, dict[str, Json]] = {}
    for path in ("/api", "/apis"):
        answer = cluster.request("GET", path, accept=f"{AGGREGATED},application/json")
        assert answer.headers["content-type"] == AGGREGATED
        assert answer.body["kind"] == "APIGroupDiscoveryList"
        for group in answer.body["items"]:
            for version in group["versions"]:
                name = "/".join(filter(None, (group["metadata"].get("name"), version["version"])))
                found[name] = {entry["resource"]: entry for entry in version["resources"]}
    return found


def test_aggregated_discovery_tells_of_all_kinds_at_once(cluster: Cluster) -> None:
    found = told(cluster)
    for group_version, plurals in RELEASED.items():
        assert set(plurals) <= found[group_version].keys()
    deployments = found["apps/v1"]["deployments"]
    assert deployments["scope"] == "Namespaced"
    assert deployments["shortNames"] == ["deploy"]
    assert {sub["subresource"] for sub in deployments["subresources"]} == {"scale", "status"}
    assert {"log", "status", "proxy"} <= {sub["subresource"] for sub in found["v1"]["pods"]["subresources"]}


def test_discovery_of_one_group_tells_the_same(cluster: Cluster) -> None:
    found = told(cluster)
    for group_version, plurals in RELEASED.items():
        path = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
        rows = {row["name"]: row for row in cluster.ask("GET", path)["resources"]}
        for plural in plurals:
            row, entry = rows[plural], found[group_version][plural]
            assert row["kind"] == entry["responseKind"]["kind"]
            assert row["singularName"] == entry["singularResource"]
            assert row["namespaced"] is (entry["scope"] == "Namespaced")
            assert sorted(row["verbs"]) == sorted(entry["verbs"])
            assert row.get("shortNames") == entry.get("shortNames")


@pytest.mark.parametrize(
    "path", ["/metric", "/nothing/here", "/apis/none.example", "/apis/apps/v9", "/api/v9", "/api/v1/nothings"]
)
def test_a_path_that_leads_nowhere_is_not_found(cluster: Cluster, path: str) -> None:
    assert cluster.request("GET", path).code == 404


# --- formats and shapes ---

PROTOBUF = "application/vnd.kubernetes.protobuf"
METADATA_LIST = "PartialObjectMetadataList"
METADATA = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
PARTIAL = "application/json;as={};g=meta.k8s.io;v=v1"


@pytest.mark.parametrize(
    ("accept", "formats"),
    [
        ("", (JSON,)),
        ("*/*", (JSON,)),
        ("application/json;q=0.9, text/html", (JSON,)),
        ("application/yaml", ("application/yaml",)),
        ("application/json;q=0.5, application/yaml", ("application/yaml",)),
        (f"{PROTOBUF}, application/json", (PROTOBUF, JSON)),
        (f"{PROTOBUF}, */*", (PROTOBUF, JSON)),
        (PARTIAL.format("Nothing") + ",application/yaml", ("application/yaml",)),
    ],
)
def test_an_answer_is_in_a_format_that_the_client_accepts(space: Space, accept: str, formats: tuple[str, ...]) -> None:
    space.create("configmaps", {"metadata": {"name": "one"}})
    for name in ("one", ""):
        answer = space.request("GET", "configmaps", name, accept=accept)
        assert answer.code == 200
        assert answer.headers["content-type"] in formats


@pytest.mark.parametrize("accept", ["text/html", "application/xml, image/*", PARTIAL.format("Nothing")])
def test_an_answer_in_a_format_that_there_is_none_of_is_refused(space: Space, accept: str) -> None:
    answer = space.request("GET", "configmaps", accept=accept)
    assert (answer.code, answer.reason) == (406, "NotAcceptable")
    assert "application/json, application/yaml" in answer.message
    assert space.request("GET", "configmaps", accept="application/yaml", watch="true").code == 406


def test_whoever_asks_for_metadata_gets_no_more(space: Space) -> None:
    """Garbage collectors and caches of metadata ask like this: protobuf, JSON, and the whole object at last."""
    made = space.create("configmaps", {"metadata": {"name": "one", "labels": {"a": "b"}}, "data": {"a": "1"}})
    kind, kinds = (f"{PARTIAL.format(name)},application/json" for name in ("PartialObjectMetadata", METADATA_LIST))
    one = space.request("GET", "configmaps", "one", accept=kind).body
    assert one == {**METADATA, "metadata": made["metadata"]}
    labelled = {"metadata": {"labels": {"a": "c"}}}
    patched = space.request("PATCH", "configmaps", "one", labelled, content_type=MERGE, accept=kind).body
    assert (patched["kind"], patched["metadata"]["labels"]) == ("PartialObjectMetadata", {"a": "c"})
    many = space.request("GET", "configmaps", accept=kinds, labelSelector="a=c").body
    assert (many["kind"], many["apiVersion"]) == (METADATA_LIST, "meta.k8s.io/v1")
    assert [(item["kind"], sorted(item)) for item in many["items"]] == [
        ("PartialObjectMetadata", ["apiVersion", "kind", "metadata"])
    ]
    watch = space.cluster.watch(
        space.path("configmaps"),
        accept=kind,
        sendInitialEvents="true",
        resourceVersionMatch="NotOlderThan",
        allowWatchBookmarks="true",
        labelSelector="a=c",
    )
    added, mark = next(watch), next(watch)
    assert (added["type"], sorted(added["object"])) == ("ADDED", ["apiVersion", "kind", "metadata"])
    assert (mark["type"], mark["object"]["kind"]) == ("BOOKMARK", "PartialObjectMetadata")
    for name, wrong in (("one", kinds), ("", kind)):
        refused = space.request("GET", "configmaps", name, accept=wrong.partition(",")[0])
        assert (refused.code, refused.reason) == (406, "NotAcceptable")


# --- data ---


def hpa() -> Json:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5, "metrics": [metric]},
    }


def test_an_autoscaler_is_kept(space: Space) -> None:
    space.kubectl("apply", "-f", "-", input=yaml.safe_dump(hpa()))
    spec = space.get("horizontalpodautoscalers.autoscaling", "web")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], spec["scaleTargetRef"]["name"]) == (2, 5, "web")
    space.patch("horizontalpodautoscalers.autoscaling", "web", {"spec": {"maxReplicas": 9}})
    row = space.kubectl("get", "hpa", "web", "--no-headers").out.split()
    assert row[:2] == ["web", "Deployment/web"]
    assert "9" in row


def lease(holder: str, **meta: Any) -> Json:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.123456Z"}
    meta = {"name": "leader", **meta}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}


def test_of_two_that_take_a_lease_one_is_refused(space: Space) -> None:
    made = space.create("leases.coordination.k8s.io", lease("ann"))
    assert made["spec"]["renewTime"] == "2026-01-01T00:00:00.123456Z"
    version = made["metadata"]["resourceVersion"]
    answers = [
        space.request("PUT", "leases.coordination.k8s.io", "leader", lease(who, resourceVersion=version))
        for who in ("bob", "eve")
    ]
    assert [answer.code for answer in answers] == [200, 409]
    assert space.get("leases.coordination.k8s.io", "leader")["spec"]["holderIdentity"] == "bob"


def test_a_secret_takes_text_and_keeps_it_in_base64(space: Space) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}, "stringData": {"a": "word"}}
    made = space.create("secrets", body)
    assert made["data"] == {"a": base64.b64encode(b"word").decode()}
    assert made["type"] == "Opaque"
    assert "stringData" not in made
    answer = space.request("POST", "secrets", body={**body, "metadata": {"name": "two"}, "data": {"b": "no base64!"}})
    assert (answer.code, answer.reason) == (400, "BadRequest")
    assert "illegal base64 data" in answer.message


def test_jobs_can_be_watched_also_where_there_are_none(space: Space) -> None:
    assert space.list("jobs.batch") == []
    assert next(space.cluster.watch(space.path("jobs.batch"), seconds=1), None) is None
