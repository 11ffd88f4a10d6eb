"""Merge, JSON and strategic merge patches; server-side apply."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.harness import APPLY, JSON_PATCH, MERGE, STRATEGIC, Answer, Json, Space
from tests.contract.objects import config, deployment, service

DEPLOYMENTS = "deployments.apps"


def test_a_merge_patch_changes_adds_and_removes(space: Space) -> None:
    space.create("configmaps", config(data={"a": "1", "b": "2"}))
    assert space.patch("configmaps", "one", {"data": {"a": None, "c": "3"}})["data"] == {"b": "2", "c": "3"}


def test_a_merge_patch_replaces_lists(space: Space) -> None:
    space.create(DEPLOYMENTS, deployment(replicas=0))
    containers = [{"name": "other", "image": "x:1"}]
    after = space.patch(DEPLOYMENTS, "web", {"spec": {"template": {"spec": {"containers": containers}}}})
    assert [c["name"] for c in after["spec"]["template"]["spec"]["containers"]] == ["other"]


JSON_PATCHES: list[tuple[list[Json], Json]] = [
    ([{"op": "add", "path": "/data/b", "value": "2"}], {"a": "1", "b": "2"}),
    ([{"op": "replace", "path": "/data/a", "value": "2"}], {"a": "2"}),
    ([{"op": "remove", "path": "/data/a"}, {"op": "add", "path": "/data/b", "value": "1"}], {"b": "1"}),
    (
        [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "copy", "from": "/data/a", "path": "/data/b"}],
        {"a": "1", "b": "1"},
    ),
    ([{"op": "replace", "path": "/data/b", "value": "2"}], {"a": "1", "b": "2"}),
    ([{"op": "move", "from": "/data/a", "path": "/data/b"}], {"b": "1"}),
]


@pytest.mark.parametrize(("operations", "expected"), JSON_PATCHES, ids=[row[0][-1]["op"] for row in JSON_PATCHES])
def test_a_json_patch_is_carried_out(space: Space, operations: list[Json], expected: Json) -> None:
    space.create("configmaps", config(data={"a": "1"}))
    assert space.patch("configmaps", "one", operations, JSON_PATCH)["data"] == expected


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "test", "path": "/data/a", "value": "other"}],
        [{"op": "remove", "path": "/data/none"}],
        [{"op": "add", "path": "/none/at/all", "value": "x"}],
    ],
    ids=["test", "remove", "add"],
)
def test_a_json_patch_that_does_not_fit_is_refused(space: Space, operations: list[Json]) -> None:
    space.create("configmaps", config())
    answer = space.request("PATCH", "configmaps", "one", operations, content_type=JSON_PATCH)
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert space.get("configmaps", "one")["data"] == {"a": "1"}


def test_a_json_patch_can_demand_the_resource_version(space: Space) -> None:
    made = space.create("configmaps", config())
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]}
    change = {"op": "replace", "path": "/data/a", "value": "2"}
    space.patch("configmaps", "one", [test, change], JSON_PATCH)
    answer = space.request("PATCH", "configmaps", "one", [test, change], content_type=JSON_PATCH)
    assert answer.code == 422


def test_a_strategic_patch_merges_lists_by_their_keys(space: Space) -> None:
    space.create(DEPLOYMENTS, deployment(replicas=0))
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    _containers(space, [{"name": "app", "env": env}])
    after = _containers(
        space, [{"name": "app", "env": [{"name": "A", "$patch": "delete"}, {"name": "C", "value": "3"}]}]
    )
    (container,) = after
    assert container["image"] == "hellok8s:v1"
    assert [entry["name"] for entry in container["env"]] == ["C", "B"]


def test_a_strategic_patch_puts_new_entries_first_and_keeps_a_given_order(space: Space) -> None:
    space.create(DEPLOYMENTS, deployment(replicas=0))
    assert [c["name"] for c in _containers(space, [{"name": "side", "image": "x:1"}])] == ["side", "app"]
    ordered = {
        "containers": [{"name": "side", "image": "x:2"}],
        "$setElementOrder/containers": [{"name": "app"}, {"name": "side"}],
    }
    after = space.patch(DEPLOYMENTS, "web", {"spec": {"template": {"spec": ordered}}}, STRATEGIC)
    assert [c["name"] for c in after["spec"]["template"]["spec"]["containers"]] == ["app", "side"]


def test_a_strategic_patch_deletes_and_replaces(space: Space) -> None:
    space.create(DEPLOYMENTS, deployment(replicas=0))
    _containers(space, [{"name": "side", "image": "x:1"}])
    assert [c["name"] for c in _containers(space, [{"name": "app", "$patch": "delete"}])] == ["side"]
    after = space.patch(
        DEPLOYMENTS, "web", {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}, STRATEGIC
    )
    assert after["spec"]["strategy"] == {"type": "Recreate"}


def _containers(space: Space, containers: list[Json]) -> list[Json]:
    body = {"spec": {"template": {"spec": {"containers": containers}}}}
    found: list[Json] = space.patch(DEPLOYMENTS, "web", body, STRATEGIC)["spec"]["template"]["spec"]["containers"]
    return found


def test_service_ports_merge_by_their_number(space: Space) -> None:
    space.create("services", service(ports=[{"port": 80, "name": "http"}]))
    ports = [{"port": 443, "name": "https"}, {"port": 80, "name": "web"}]
    after = space.patch("services", "web", {"spec": {"ports": ports}}, STRATEGIC)
    assert {(port["port"], port["name"]) for port in after["spec"]["ports"]} == {(443, "https"), (80, "web")}


def test_an_unknown_type_of_patch_is_refused(space: Space) -> None:
    space.create("configmaps", config())
    assert space.request("PATCH", "configmaps", "one", {}, content_type="application/json").code == 415


# --- server-side apply ---


def _apply(space: Space, plural: str, body: Json, manager: str = "ann", **params: Any) -> Answer:
    return space.request(
        "PATCH", plural, body["metadata"]["name"], body, content_type=APPLY, fieldManager=manager, **params
    )


def _managers(obj: Json) -> dict[str, Json]:
    return {f"{entry['manager']} {entry['operation']}": entry["fieldsV1"] for entry in obj["metadata"]["managedFields"]}


def test_apply_creates_and_owns_what_it_says(space: Space) -> None:
    answer = _apply(space, "configmaps", config(labels={"x": "y"}))
    assert answer.code == 201
    assert _managers(answer.body) == {"ann Apply": {"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {"f:x": {}}}}}
    assert _apply(space, "configmaps", config(labels={"x": "y"})).code == 200


def test_applying_the_same_again_changes_nothing(space: Space) -> None:
    first = _apply(space, DEPLOYMENTS, deployment(replicas=0, paused=True)).body
    again = _apply(space, DEPLOYMENTS, deployment(replicas=0, paused=True)).body
    assert again["metadata"]["generation"] == first["metadata"]["generation"] == 1


def test_apply_removes_what_it_no_longer_says(space: Space) -> None:
    _apply(space, "configmaps", config(data={"a": "1", "b": "2"}))
    assert _apply(space, "configmaps", config(data={"b": "2"})).body["data"] == {"b": "2"}


def test_apply_leaves_what_others_have(space: Space) -> None:
    _apply(space, "configmaps", config(data={"a": "1"}))
    space.patch("configmaps", "one", {"data": {"b": "2"}})
    assert _apply(space, "configmaps", config(data={"c": "3"})).body["data"] == {"b": "2", "c": "3"}


def test_apply_of_what_others_own_is_a_conflict_that_names_them(space: Space) -> None:
    _apply(space, "configmaps", config(data={"a": "1"}))
    answer = _apply(space, "configmaps", config(data={"a": "2"}), "bob")
    assert (answer.code, answer.reason) == (409, "Conflict")
    assert answer.message == 'Apply failed with 1 conflict: conflict with "ann": .data.a'
    assert answer.body["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "ann"', "field": ".data.a"}
    ]
    forced = _apply(space, "configmaps", config(data={"a": "2"}), "bob", force="true")
    assert forced.body["data"] == {"a": "2"}
    assert _managers(forced.body) == {"bob Apply": {"f:data": {"f:a": {}}}}


def test_apply_of_the_same_value_is_shared_and_stays_until_the_last_lets_go(space: Space) -> None:
    _apply(space, "configmaps", config(data={"a": "1"}))
    _apply(space, "configmaps", config(data={"a": "1"}), "bob")
    nothing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
    assert _apply(space, "configmaps", nothing).body["data"] == {"a": "1"}
    assert "data" not in _apply(space, "configmaps", nothing, "bob").body


def test_an_update_takes_over_what_it_changes(space: Space) -> None:
    _apply(space, "configmaps", config(data={"a": "1", "b": "1"}))
    after = space.patch("configmaps", "one", {"data": {"a": "2"}}, fieldManager="carl")
    assert _managers(after) == {"ann Apply": {"f:data": {"f:b": {}}}, "carl Update": {"f:data": {"f:a": {}}}}
    answer = _apply(space, "configmaps", config(data={"a": "3", "b": "1"}))
    assert answer.message == 'Apply failed with 1 conflict: conflict with "carl" using v1: .data.a'


def test_lists_of_a_deployment_are_owned_entry_by_entry(space: Space) -> None:
    _apply(space, DEPLOYMENTS, deployment(replicas=0))
    side = deployment(replicas=0)
    side["spec"] = {"template": {"spec": {"containers": [{"name": "side", "image": "x:1"}]}}}
    both = _apply(space, DEPLOYMENTS, side, "bob").body["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in both] == ["app", "side"]
    side["spec"] = {"paused": True}
    alone = _apply(space, DEPLOYMENTS, side, "bob").body
    assert [c["name"] for c in alone["spec"]["template"]["spec"]["containers"]] == ["app"]
    assert _managers(alone)["bob Apply"] == {"f:spec": {"f:paused": {}}}


def test_defaults_are_not_the_appliers(space: Space) -> None:
    made = _apply(space, "services", service()).body
    assert _managers(made)["ann Apply"] == {
        "f:spec": {
            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:targetPort": {}}},
            "f:selector": {},
        }
    }


def test_apply_needs_a_manager(space: Space) -> None:
    answer = space.request("PATCH", "configmaps", "one", config(), content_type=APPLY)
    assert answer.code == 422
    assert "fieldManager: Required value" in answer.message


def test_a_dry_run_of_apply_stores_nothing(space: Space) -> None:
    assert _apply(space, "configmaps", config(), dryRun="All").code == 201
    assert space.find("configmaps", "one") is None


def test_a_merge_patch_says_nothing_of_managed_fields(space: Space) -> None:
    made = space.create("configmaps", config(), fieldManager="dora")
    assert _managers(made) == {"dora Update": {"f:data": {".": {}, "f:a": {}}}}
    after = space.request("PATCH", "configmaps", "one", {"metadata": {"managedFields": []}}, content_type=MERGE)
    assert after.code == 200
