from __future__ import annotations

from typing import Any

import pytest

from davylamp.api.objects import Meta, Service, ServiceSpec
from davylamp.kube.store import Store, same


def service(name: str = "web", version: str = "1", uid: str = "u1", **selector: str) -> Service:
    return Service(Meta(name=name, namespace="shop", uid=uid, resource_version=version), ServiceSpec(selector=selector))


class Recorder:
    def __init__(self, store: Store[Any]) -> None:
        self.told: list[tuple[str | None, str | None]] = []
        store.listeners.append(self.tell)

    def tell(self, kind: str, old: Any, new: Any) -> None:
        self.told.append((old and old.metadata.resource_version, new and new.metadata.resource_version))


@pytest.fixture
def store() -> Store[Service]:
    return Store("Service", {"app": lambda s: [s.spec.selector["app"]] if "app" in s.spec.selector else []})


def version_of(store: Store[Service], name: str = "web") -> str | None:
    found = store.get("shop", name)
    return found.metadata.resource_version if found else None


def test_our_own_write_is_read_at_once_and_its_echo_tells_nobody(store: Store[Service]) -> None:
    recorder = Recorder(store)
    store.offer(service(version="5", app="a"))
    store.saw(service(version="5", app="a"))
    assert version_of(store) == "5"
    assert recorder.told == [(None, "5")]


def test_an_older_state_that_comes_late_does_not_win(store: Store[Service]) -> None:
    store.offer(service(version="10", app="new"))
    store.saw(service(version="9", app="old"))
    assert version_of(store) == "10"


def test_ten_is_newer_than_nine(store: Store[Service]) -> None:
    store.saw(service(version="9", app="a"))
    store.saw(service(version="10", app="b"))
    assert version_of(store) == "10"


def test_without_numbers_the_newer_arrival_counts(store: Store[Service]) -> None:
    store.saw(service(version="b", app="a"))
    store.saw(service(version="a", app="b"))
    assert version_of(store) == "a"


def test_the_late_answer_to_a_write_does_not_bring_back_what_was_deleted_after_it(store: Store[Service]) -> None:
    store.saw(service(version="1"))
    store.saw_deleted(service(version="7"))
    store.offer(service(version="6"))
    assert version_of(store) is None


def test_what_we_deleted_stays_away_whatever_the_watch_still_says(store: Store[Service]) -> None:
    store.saw(service(version="1"))
    store.forget("shop", "web", "u1")
    store.saw(service(version="2", app="late"))
    assert version_of(store) is None
    store.saw_deleted(service(version="3"))
    store.saw(service(version="4", uid="u2"))
    assert version_of(store) == "4"


def test_the_end_of_a_predecessor_does_not_take_its_successor_away(store: Store[Service]) -> None:
    store.offer(service(version="8", uid="u2"))
    store.saw_deleted(service(version="7", uid="u1"))
    assert version_of(store) == "8"


def test_a_change_in_fields_that_are_not_read_is_told_and_known_as_such(store: Store[Service]) -> None:
    recorder = Recorder(store)
    store.saw(service(version="1", app="a"))
    store.saw(service(version="2", app="a"))
    assert recorder.told == [(None, "1"), ("1", "2")]
    assert same(service(version="1", app="a"), service(version="2", app="a"))
    assert not same(service(version="1", app="a"), service(version="2", app="b"))


def test_a_new_listing_drops_what_is_gone_but_keeps_newer_writes_of_ours(store: Store[Service]) -> None:
    store.saw(service("kept", "1", "a"))
    store.saw(service("gone", "2", "b"))
    store.begin_listing()
    store.offer(service("ours", "30", "c"))
    store.saw(service("kept", "1", "a"))
    store.end_listing("20")
    assert sorted(s.metadata.name for s in store) == ["kept", "ours"]


def test_a_listing_that_saw_what_we_deleted_meanwhile_does_not_bring_it_back(store: Store[Service]) -> None:
    store.saw(service(version="1"))
    store.forget("shop", "web", "u1")
    store.begin_listing()
    store.saw(service(version="1"))
    store.end_listing("20")
    store.saw(service(version="21", app="finalizing"))
    assert version_of(store) is None


def test_an_index_follows_the_objects(store: Store[Service]) -> None:
    store.saw(service("one", "1", "a", app="x"))
    store.saw(service("two", "2", "b", app="x"))
    assert [s.metadata.name for s in store.by("app", "x")] == ["one", "two"]
    store.saw(service("one", "3", "a", app="y"))
    store.saw_deleted(service("two", "4", "b", app="x"))
    assert store.by("app", "x") == []
    assert [s.metadata.name for s in store.by("app", "y")] == ["one"]


def test_a_listing_of_one_namespace_leaves_the_others_alone(store: Store[Service]) -> None:
    other = Service(Meta(name="web", namespace="other", uid="u9", resource_version="3"))
    store.saw(service(version="1"), "shop")
    store.saw(other, "other")
    store.begin_listing("shop")
    store.end_listing("20", "shop")
    assert [s.metadata.namespace for s in store] == ["other"]
