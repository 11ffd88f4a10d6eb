"""Lists in parts, selectors, watches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.harness import Json, Space
from tests.contract.objects import config

LIST = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}


@contextlib.contextmanager
def watching(space: Space, plural: str = "configmaps", **params: Any) -> Iterator[Iterator[Json]]:
    with contextlib.closing(space.cluster.watch(space.path(plural), **params)) as events:  # type: ignore[type-var]
        yield events


def told(event: Json) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"].get("name", "")


def version_of(space: Space) -> str:
    found: str = space.cluster.ask("GET", space.path("configmaps"))["metadata"]["resourceVersion"]
    return found


@pytest.fixture
def three(space: Space) -> Space:
    """Three ConfigMaps of the same label, and no others that have it."""
    for name, more in (("a", "x"), ("b", "y"), ("c", "x")):
        space.create("configmaps", config(name, labels={"of": "three", "is": more}))
    return space


def test_a_list_comes_in_parts_of_one_version(three: Space) -> None:
    names, token, versions, left = [], "", set(), []
    while True:
        part = three.cluster.ask("GET", three.path("configmaps"), limit=2, **({"continue": token} if token else {}))
        names += [obj["metadata"]["name"] for obj in part["items"] if obj["metadata"]["name"] != "kube-root-ca.crt"]
        versions.add(part["metadata"]["resourceVersion"])
        left.append(part["metadata"].get("remainingItemCount", 0))
        token = part["metadata"].get("continue", "")
        if not token:
            break
    assert (names, len(versions)) == (["a", "b", "c"], 1)
    assert left[0] in (1, 2)  # A real one has kube-root-ca.crt as well.


def test_the_parts_of_a_list_show_what_was_when_it_began(three: Space) -> None:
    path, labels = three.path("configmaps"), "of=three"
    first = three.cluster.ask("GET", path, labelSelector=labels, limit=1)
    three.create("configmaps", config("aa", labels={"of": "three"}))
    three.delete("configmaps", "b")
    three.patch("configmaps", "c", {"data": {"a": "later"}})
    rest = three.cluster.ask("GET", path, labelSelector=labels, **{"continue": first["metadata"]["continue"]})
    assert [(obj["metadata"]["name"], obj["data"]["a"]) for obj in rest["items"]] == [("b", "1"), ("c", "1")]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_list_can_be_of_an_exact_version(three: Space) -> None:
    version = version_of(three)
    three.delete("configmaps", "b")
    exact = {"labelSelector": "of=three", "resourceVersion": version, "resourceVersionMatch": "Exact"}
    assert [obj["metadata"]["name"] for obj in three.list("configmaps", **exact)] == ["a", "b", "c"]
    assert len(three.list("configmaps", **(exact | {"resourceVersionMatch": "NotOlderThan"}))) == 2


def test_a_version_that_is_none_yet_is_not_waited_for_long(three: Space) -> None:
    later = str(int(version_of(three)) + 1_000_000)
    answer = three.request("GET", "configmaps", resourceVersion=later, resourceVersionMatch="NotOlderThan")
    assert (answer.code, answer.reason) == (504, "Timeout")
    assert "Too large resource version" in answer.message


def test_a_list_goes_on_only_with_what_the_server_has_given(space: Space) -> None:
    answer = space.request("GET", "configmaps", **{"continue": "nonsense"})
    assert (answer.code, answer.reason) == (400, "BadRequest")


SELECTORS = [
    ("is=x", ["a", "c"]),
    ("is==x,of=three", ["a", "c"]),
    ("is!=x,of", ["b"]),
    ("is in (x, y),of=three", ["a", "b", "c"]),
    ("is notin (x),of", ["b"]),
    ("of,!is", []),
]


@pytest.mark.parametrize(("selector", "expected"), SELECTORS, ids=[row[0] for row in SELECTORS])
def test_labels_select(three: Space, selector: str, expected: list[str]) -> None:
    found = three.list("configmaps", labelSelector=selector)
    assert [obj["metadata"]["name"] for obj in found] == expected


def test_fields_select(three: Space) -> None:
    found = three.list("configmaps", fieldSelector="metadata.name=b")
    assert [obj["metadata"]["name"] for obj in found] == ["b"]


@pytest.mark.parametrize("watch", ["false", "true"])
@pytest.mark.parametrize("plural", ["configmaps", "pods", "deployments.apps"])
def test_a_field_by_which_a_kind_can_not_be_selected_is_refused(space: Space, plural: str, watch: str) -> None:
    answer = space.request("GET", plural, fieldSelector="spec.colour=red", watch=watch, timeoutSeconds="1")
    assert (answer.code, answer.reason) == (400, "BadRequest")
    assert "spec.colour" in answer.message


def test_events_are_selected_by_what_they_are_about_in_both_groups(space: Space) -> None:
    now = "2026-01-01T00:00:00.000000Z"
    about = {"kind": "ConfigMap", "name": "one", "namespace": space.name}
    space.create(
        "events.events.k8s.io",
        {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": "one.1"},
            "regarding": about,
            "eventTime": now,
            "action": "Look",
            "reason": "Seen",
            "type": "Normal",
            "reportingController": "example.com/contract",
            "reportingInstance": "contract-1",
        },
    )
    for plural, field in (("events", "involvedObject.name"), ("events.events.k8s.io", "regarding.name")):
        assert len(space.list(plural, fieldSelector=f"{field}=one")) == 1
        assert not space.list(plural, fieldSelector=f"{field}=two")


def test_items_of_a_list_have_no_kind_of_their_own(three: Space) -> None:
    found = three.cluster.ask("GET", three.path("configmaps"))
    assert (found["kind"], found["apiVersion"]) == ("ConfigMapList", "v1")
    assert not found["items"][0].keys() & {"kind", "apiVersion"}


def test_a_watch_goes_on_from_a_list(three: Space) -> None:
    version = version_of(three)
    three.patch("configmaps", "a", {"data": {"a": "2"}})
    with watching(three, resourceVersion=version) as events:
        assert told(next(events)) == ("MODIFIED", "a")
        three.delete("configmaps", "b")
        gone = next(events)
        assert told(gone) == ("DELETED", "b")
        assert int(gone["object"]["metadata"]["resourceVersion"]) > int(version)
        three.create("configmaps", config("d"))
        assert told(next(events)) == ("ADDED", "d")


def test_a_watch_can_begin_with_all_there_is_and_a_mark(three: Space) -> None:
    with watching(three, labelSelector="of=three", **LIST) as events:
        first = [next(events) for _ in range(4)]
        assert sorted(told(event) for event in first[:3]) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]
        mark = first[3]
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["kind"] == "ConfigMap"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(mark["object"]["metadata"]["resourceVersion"]) > 0
        three.patch("configmaps", "c", {"data": {"a": "2"}})
        assert told(next(events)) == ("MODIFIED", "c")


def test_initial_events_need_to_say_how_old_they_may_be(space: Space) -> None:
    answer = space.request("GET", "configmaps", watch="true", sendInitialEvents="true", timeoutSeconds="1")
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert "sendInitialEvents" in answer.message


def test_a_watch_without_a_version_begins_with_all_there_is(three: Space) -> None:
    with watching(three, labelSelector="of=three") as events:
        assert sorted(told(next(events)) for _ in range(3)) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]


def test_an_object_that_begins_or_ceases_to_match_comes_or_goes(three: Space) -> None:
    with watching(three, labelSelector="is=x", resourceVersion=version_of(three)) as events:
        three.patch("configmaps", "b", {"metadata": {"labels": {"is": "x"}}})
        assert told(next(events)) == ("ADDED", "b")
        after = three.patch("configmaps", "a", {"metadata": {"labels": {"is": "y"}}})
        gone = next(events)
        assert told(gone) == ("DELETED", "a")
        assert gone["object"]["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        assert gone["object"]["metadata"]["labels"]["is"] == "x"


def test_a_watch_of_one_object_sees_no_other(three: Space) -> None:
    with watching(three, fieldSelector="metadata.name=b", resourceVersion=version_of(three)) as events:
        three.patch("configmaps", "a", {"data": {"a": "2"}})
        three.patch("configmaps", "b", {"data": {"a": "2"}})
        assert told(next(events)) == ("MODIFIED", "b")


def test_a_watch_ends_at_its_timeout(space: Space) -> None:
    with watching(space, seconds=1, resourceVersion=version_of(space)) as events:
        assert [told(event) for event in events] == []


def test_a_watch_that_asks_for_bookmarks_gets_one_before_its_timeout(three: Space) -> None:
    """It tells of what the watch has not seen: here of another namespace's object. (Where nothing is newer than what
    it began with a real server sends none: cacheWatcher.process of k8s.io/apiserver.)"""
    version = version_of(three)
    three.patch("configmaps", "a", {"data": {"a": "2"}})
    elsewhere = {"metadata": {"generateName": "elsewhere-"}}
    with watching(three, seconds=6, resourceVersion=version, allowWatchBookmarks="true") as events:
        assert told(next(events)) == ("MODIFIED", "a")
        made = three.cluster.ask("POST", "/api/v1/namespaces/default/configmaps", elsewhere)["metadata"]
        found = list(events)
    three.cluster.request("DELETE", f"/api/v1/namespaces/default/configmaps/{made['name']}")
    assert {event["type"] for event in found} == {"BOOKMARK"}
    assert found[0]["object"]["kind"] == "ConfigMap"
    assert int(found[0]["object"]["metadata"]["resourceVersion"]) >= int(made["resourceVersion"]) > int(version)
