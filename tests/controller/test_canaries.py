from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from davylamp.controller.canaries import Canary, CanaryPods
from davylamp.core.actions import Ref
from tests.kube.fake import FakeApi, FakeClock


def pod(name: str, pod_hash: str) -> dict[str, Any]:
    labels = {"pod-template-hash": pod_hash}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": labels}}


class Rig:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.api = FakeApi(self.clock)
        self.changed: list[Canary] = []
        self.pods = CanaryPods(self.api, self.clock, self.changed.append)

    def names(self, pod_hash: str) -> list[str] | None:
        found = self.pods.of(("shop", pod_hash))
        return None if found is None else [p.metadata.name for p in found]

    @property
    def watches(self) -> int:
        return len(self.api._watchers)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.pods.close()


async def test_pods_are_unknown_until_the_watch_has_told_of_all(rig: Rig) -> None:
    rig.api.put(pod("a-1", "a"))
    rig.api.put(pod("other", "b"))
    assert rig.names("a") is None
    await rig.clock.advance(1)
    assert rig.names("a") == ["a-1"]
    assert rig.changed == [("shop", "a")]
    assert [verb for verb, _ in rig.api.requests] == ["watch"]


async def test_a_change_of_a_pod_asks_to_look(rig: Rig) -> None:
    rig.names("a")
    await rig.clock.advance(1)
    rig.changed.clear()
    rig.api.put(pod("a-1", "a"))
    await rig.clock.advance(0)
    assert rig.changed == [("shop", "a")]
    assert rig.names("a") == ["a-1"]


async def test_canaries_that_come_together_share_a_watch_which_goes_with_the_last(rig: Rig) -> None:
    hashes = [f"h{number}" for number in range(150)]
    for pod_hash in hashes:
        rig.names(pod_hash)
    await rig.clock.advance(1)
    assert all(rig.names(pod_hash) == [] for pod_hash in hashes)
    assert rig.watches == 2
    for pod_hash in hashes[:-1]:
        rig.pods.drop(("shop", pod_hash))
    await rig.clock.advance(0)
    assert rig.watches == 1
    rig.pods.drop(("shop", hashes[-1]))
    await rig.clock.advance(0)
    assert rig.watches == 0


async def test_a_canary_that_goes_before_it_was_watched_is_not_watched(rig: Rig) -> None:
    rig.names("a")
    rig.pods.drop(("shop", "a"))
    await rig.clock.advance(1)
    assert rig.watches == 0
    assert rig.api.requests == []


async def test_the_watch_survives_the_server_ending_it(rig: Rig) -> None:
    rig.names("a")
    await rig.clock.advance(10)
    rig.api.cut()
    rig.api.put(pod("a-1", "a"))
    await rig.clock.advance(1)
    assert rig.names("a") == ["a-1"]
    rig.api.remove(Ref("Pod", "shop", "a-1"))
    await rig.clock.advance(0)
    assert rig.names("a") == []
