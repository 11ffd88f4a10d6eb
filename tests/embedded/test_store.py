"""What the store promises beyond the contract that tests/contract has in common with a real API server."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from davylamp.embedded.status import StatusError
from davylamp.embedded.store import Object, Store
from tests.kube.controllers import deployment
from tests.kube.fake import FakeClock


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def config(name: str = "", **meta: Any) -> Object:
    named = {"name": name} if name else {"generateName": "made-"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "shop", **named, **meta},
        "data": {"a": "1"},
    }


@pytest.fixture
def store() -> Store:
    store = Store(FakeClock())
    store.create(namespace("shop"))
    return store


def test_the_same_seed_gives_the_same_uids_and_names() -> None:
    def run() -> list[Object]:
        store = Store(FakeClock(), seed=7)
        store.create(namespace("shop"))
        return [store.create(config()) for _ in range(3)]

    assert run() == run()


def test_a_stored_object_is_never_mutated(store: Store) -> None:
    first = store.create(deployment())
    before = repr(first)
    store.patch(
        "Deployment", "shop", "web", {"spec": {"replicas": 9, "template": {"metadata": {"labels": {"x": "y"}}}}}
    )
    store.patch("Deployment", "shop", "web", [{"op": "add", "path": "/spec/paused", "value": True}], "json")
    store.delete("Deployment", "shop", "web")
    assert repr(first) == before


def test_a_patch_leaves_untouched_parts_the_same_objects(store: Store) -> None:
    first = store.create(deployment())
    second = store.patch("Deployment", "shop", "web", {"spec": {"replicas": 9}})
    assert second["spec"]["template"] is first["spec"]["template"]


def test_listeners_are_told_in_the_write_with_the_object_before(store: Store) -> None:
    told: list[tuple[str, str, bool]] = []
    unsubscribe = store.subscribe(
        lambda type_, new, old: told.append((type_, new["data"]["a"], old is None)), "ConfigMap"
    )
    store.create(config("one"))
    store.create(deployment())
    store.patch("ConfigMap", "shop", "one", {"data": {"a": "2"}})
    store.patch("ConfigMap", "shop", "one", {"data": {"a": "2"}})
    store.delete("ConfigMap", "shop", "one")
    unsubscribe()
    store.create(config("two"))
    assert told == [("ADDED", "1", True), ("MODIFIED", "2", False), ("DELETED", "2", False)]


def test_an_admission_hook_changes_what_is_stored_and_may_refuse(store: Store) -> None:
    def admit(old: Object | None, new: Object, request: Any) -> Object:
        if new["data"]["a"] == "bad":
            raise StatusError(403, "Forbidden", "no")
        return {**new, "data": {**new["data"], "by": request.user}}

    store.admission.append(admit)
    assert store.create(config("one"), user="ann")["data"] == {"a": "1", "by": "ann"}
    with pytest.raises(StatusError, match="no"):
        store.patch("ConfigMap", "shop", "one", {"data": {"a": "bad"}})


def test_history_that_is_compacted_is_refused(store: Store) -> None:
    before = store.version
    store.create(config("one"))
    assert [change.type for change in store.since(before)] == ["ADDED"]
    store.compact()
    with pytest.raises(StatusError) as refused:
        store.since(before)
    assert refused.value.code == 410
    assert store.since(store.version) == []


@pytest.mark.parametrize(("manager", "written"), [("endpointslice-controller.k8s.io", True), ("somebody", False)])
def test_only_the_controllers_endpoint_slices_may_name_pods_on_loopback(
    store: Store, manager: str, written: bool
) -> None:
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "labels": {"endpointslice.kubernetes.io/managed-by": manager},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.18.0.1"], "targetRef": {"kind": "Pod", "name": "web-1"}}],
    }
    with contextlib.nullcontext() if written else pytest.raises(StatusError, match="loopback range"):
        store.create(slice_)
