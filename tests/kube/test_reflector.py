from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from davylamp.core.actions import Ref
from davylamp.kube.errors import ApiError
from davylamp.kube.reflector import Reflector
from davylamp.kube.store import Store
from tests.kube.fake import FakeApi, FakeClock, idle

WEB = Ref("Service", "shop", "web")


def service(name: str = "web", namespace: str = "shop", **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace, "labels": labels}}


class Rig:
    """A reflector of Services on a fake API server."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.api = FakeApi(self.clock)
        self.store: Store[Any] = Store("Service")
        self.restarts: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, **options: Any) -> Reflector:
        reflector = Reflector(
            self.api, self.store, self.clock, on_restart=lambda kind, why: self.restarts.append(why), **options
        )
        self.tasks.append(asyncio.create_task(reflector.run()))
        return reflector

    @property
    def names(self) -> list[str]:
        return sorted(s.metadata.name for s in self.store)

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.api.requests]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    for task in rig.tasks:
        task.cancel()
    await asyncio.gather(*rig.tasks, return_exceptions=True)


async def test_one_request_brings_everything_and_every_change(rig: Rig) -> None:
    rig.api.put(service())
    reflector = rig.start()
    await idle()
    assert reflector.synced.is_set()
    rig.api.put(service("api"))
    rig.api.remove(WEB)
    await idle()
    assert rig.names == ["api"]
    assert rig.verbs == ["watch"]


async def test_a_server_that_cannot_stream_a_list_is_asked_for_pages(rig: Rig) -> None:
    rig.api.streaming = False
    rig.api.page_size = 2
    for name in "abcde":
        rig.api.put(service(name))
    reflector = rig.start()
    await rig.clock.advance(1)
    assert reflector.synced.is_set()
    rig.api.put(service("f"))
    await idle()
    assert rig.names == list("abcdef")
    assert rig.verbs == ["watch", "list", "list", "list", "watch"]


async def test_a_watch_that_the_server_ends_is_resumed_without_a_list(rig: Rig) -> None:
    rig.api.put(service())
    rig.start()
    await rig.clock.advance(60)
    rig.api.cut()
    rig.api.put(service("meanwhile"))
    await rig.clock.advance(1)
    assert rig.names == ["meanwhile", "web"]
    assert rig.verbs == ["watch", "watch"]
    assert rig.restarts == ["closed"]


async def test_too_old_a_resource_version_lists_again_and_notices_what_went(rig: Rig) -> None:
    rig.api.put(service())
    rig.start()
    await rig.clock.advance(60)
    rig.api.cut()
    rig.api.remove(WEB)
    rig.api.put(service("api"))
    rig.api.forget_history()
    await rig.clock.advance(2)
    assert rig.names == ["api"]
    assert rig.restarts == ["expired"]


async def test_a_server_that_is_away_is_asked_again_with_growing_pauses(rig: Rig) -> None:
    def away(verb: str, ref: Ref) -> None:
        raise ApiError(0, "Unreachable", "connection refused", verb=verb, ref=ref)

    rig.api.before = away
    rig.start()
    await rig.clock.advance(120)
    assert 12 <= len(rig.api.requests) <= 40
    rig.api.before = None
    rig.api.put(service())
    await rig.clock.advance(10)
    assert rig.names == ["web"]


async def test_trouble_is_logged_once_and_so_is_its_end(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="davylamp.kube.reflector")

    def missing(verb: str, ref: Ref) -> None:
        raise ApiError(404, "NotFound", "the server could not find the requested resource", verb=verb, ref=ref)

    rig.api.before = missing
    rig.start()
    await rig.clock.advance(60)
    rig.api.before = None
    await rig.clock.advance(10)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_what_we_may_do_without_counts_as_synced_when_forbidden(rig: Rig) -> None:
    def forbidden(verb: str, ref: Ref) -> None:
        raise ApiError(403, "Forbidden", "no", verb=verb, ref=ref)

    rig.api.before = forbidden
    reflector = rig.start(optional=True)
    await idle()
    assert reflector.synced.is_set()


async def test_what_the_server_does_not_know_is_asked_for_rarely_unless_somebody_wants_it(rig: Rig) -> None:
    def unknown(verb: str, ref: Ref) -> None:
        raise ApiError(404, "NotFound", "no such resource", verb=verb, ref=ref)

    rig.api.before = unknown
    reflector = rig.start(optional=True)
    await rig.clock.advance(1800)
    assert reflector.absent
    assert len(rig.api.requests) == 1
    rig.api.before = None
    rig.api.put(service())
    reflector.look_again()
    await idle()
    assert rig.names == ["web"]
    assert not reflector.absent


async def test_only_the_namespace_and_the_labels_that_were_asked_for(rig: Rig) -> None:
    rig.api.put(service("a", app="x"))
    rig.api.put(service("b", app="y"))
    rig.api.put(service("c", "other", app="x"))
    rig.start(namespace="shop", labels="app in (x,z)")
    await idle()
    assert rig.names == ["a"]
    rig.api.change(Ref("Service", "shop", "a"), {"metadata": {"labels": {"app": "y"}}})
    await idle()
    assert rig.names == []
