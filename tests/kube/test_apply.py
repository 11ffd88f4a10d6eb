from __future__ import annotations

import asyncio
from typing import Any

import pytest

from davylamp.core.actions import Announce, Create, Delete, Patch, Ref
from davylamp.kube.apply import Foreign, Writer
from davylamp.kube.errors import ApiError
from davylamp.kube.store import Store
from tests.kube.fake import FakeApi

WEB = Ref("Service", "shop", "web")
OWNER = {"apiVersion": "v1", "kind": "Release", "name": "web-1", "uid": "r1", "controller": True}


def service(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop", **metadata}}


class Rig:
    def __init__(self, *, details: bool = False) -> None:
        self.api = FakeApi()
        self.store: Store[Any] = Store("Service")
        self.written: list[str] = []
        self.untold = 0
        self.writer = Writer(
            self.api,
            {"Service": self.store},
            self.api.clock,
            details=details,
            on_write=self.written.append,
            on_untold=self.miss,
        )

    def miss(self) -> None:
        self.untold += 1


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_what_was_written_is_in_the_store_at_once(rig: Rig) -> None:
    await rig.writer.carry_out(
        [Create(service()), Patch(WEB, {"spec": {"selector": {"app": "web"}}})],
    )
    found = rig.store.get("shop", "web")
    assert found is not None
    assert found.spec.selector == {"app": "web"}
    assert rig.written == ["Service", "Service"]


async def test_the_first_failure_stops_the_rest(rig: Rig) -> None:
    missing = Ref("Service", "shop", "other")
    with pytest.raises(ApiError) as caught:
        await rig.writer.carry_out([Patch(missing, {"spec": {}}), Create(service())])
    assert caught.value.not_found
    assert rig.api.of_kind("Service") == []


@pytest.mark.parametrize(
    "wanted", [{"ownerReferences": [OWNER]}, {"labels": {"app.kubernetes.io/managed-by": "davylamp"}}]
)
async def test_creating_what_is_ours_already_is_fine_and_known_from_then(rig: Rig, wanted: dict[str, Any]) -> None:
    rig.api.put(service(**wanted))
    await rig.writer.carry_out([Create(service(**wanted))])
    assert rig.store.get("shop", "web") is not None


@pytest.mark.parametrize(
    ("wanted", "there", "message"),
    [
        ({"ownerReferences": [OWNER]}, {}, "belongs to nobody, not to Release web-1"),
        ({"ownerReferences": [OWNER]}, {"ownerReferences": [OWNER | {"uid": "r0"}]}, "belongs to Release web-1"),
        ({"labels": {"app": "x"}}, {"labels": {"app": "y"}}, r"no label app=x"),
    ],
)
async def test_what_is_somebody_elses_is_named_and_left_alone(
    rig: Rig, wanted: dict[str, Any], there: dict[str, Any], message: str
) -> None:
    rig.api.put(service(**there))
    with pytest.raises(Foreign, match=f"Service shop/web exists already.*{message}"):
        await rig.writer.carry_out([Create(service(**wanted))])
    assert len(rig.store) == 0


async def test_a_stale_patch_is_a_conflict(rig: Rig) -> None:
    made = rig.api.put(service())
    rig.api.change(WEB, {"spec": {"type": "NodePort"}})
    stale = Patch(WEB, {"metadata": {"resourceVersion": made.metadata.resource_version}, "spec": {"type": "x"}})
    with pytest.raises(ApiError) as caught:
        await rig.writer.carry_out([stale])
    assert caught.value.conflict


async def test_deleting_is_of_this_object_only_and_of_what_is_gone_is_fine(rig: Rig) -> None:
    uid = rig.api.put(service()).metadata.uid
    with pytest.raises(ApiError) as caught:
        await rig.writer.carry_out([Delete(WEB, "another")])
    assert caught.value.conflict
    await rig.writer.carry_out([Delete(WEB, uid), Delete(WEB, uid)])
    assert rig.api.objects == {}


async def test_a_deleted_object_with_finalizers_stays_known_as_being_deleted(rig: Rig) -> None:
    made = rig.api.put(service(finalizers=["x/y"]))
    rig.store.offer(made)
    await rig.writer.carry_out([Delete(WEB, made.metadata.uid)])
    found = rig.store.get("shop", "web")
    assert found is not None
    assert found.metadata.deletion_timestamp is not None


async def test_an_event_is_told_once(rig: Rig) -> None:
    told = Announce("web.started", Ref("Deployment", "shop", "web"), "d1", "Started", "it begins", related=WEB)
    await rig.writer.carry_out([told, told])
    await rig.writer.drain()
    (event,) = rig.api.of_kind("Event")
    assert event["regarding"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "web",
        "namespace": "shop",
        "uid": "d1",
    }
    assert event["related"]["kind"] == "Service"
    assert event["note"] == "it begins"
    assert rig.written == ["Event"]


async def test_an_event_is_not_told_again_after_a_restart_and_nobody_waits_for_it(rig: Rig) -> None:
    told = Announce("web.started", WEB, "", "Started", "it begins")
    await rig.writer.carry_out([told])
    assert rig.api.requests == []
    await rig.writer.drain()
    restarted = Writer(rig.api, {}, rig.api.clock)
    await restarted.carry_out([told])
    await restarted.drain()
    assert len(rig.api.of_kind("Event")) == 1


@pytest.mark.parametrize("details", [True, False])
async def test_a_detail_is_told_by_who_tells_every_step(details: bool) -> None:
    rig = Rig(details=details)
    await rig.writer.carry_out([Announce("web.step.1", WEB, "", "StepInEffect", "x", detail=True)])
    await rig.writer.carry_out([Announce("web.done", WEB, "", "Completed", "y")])
    await rig.writer.drain()
    reasons = [event["reason"] for event in rig.api.of_kind("Event")]
    assert reasons == (["StepInEffect", "Completed"] if details else ["Completed"])


async def test_events_wait_for_the_writes_that_releases_wait_for_but_not_for_ever(rig: Rig) -> None:
    clock, telling = rig.api.clock, asyncio.create_task(rig.writer.tell())
    await rig.writer.carry_out([Announce("one", WEB, "", "Started", "x"), Create(service())])
    told_at: list[float] = []
    while not told_at and clock.time() < 10:
        await clock.advance(0.04)
        await rig.writer.carry_out([Patch(WEB, {"metadata": {"labels": {"at": str(clock.time())}}})])
        told_at += [clock.time()] * len(rig.api.of_kind("Event"))
    assert 4.9 < told_at[0] < 5.2
    telling.cancel()


async def test_an_event_that_cannot_be_written_stops_nothing(rig: Rig) -> None:
    def forbid(verb: str, ref: Ref) -> None:
        if ref.kind == "Event":
            raise ApiError(403, "Forbidden", "no", verb=verb, ref=ref)

    rig.api.before = forbid
    told = Announce("web.started", WEB, "", "Started", "x")
    await rig.writer.carry_out([told, Create(service())])
    await rig.writer.drain()
    assert rig.untold == 1
    assert len(rig.store) == 1


async def test_a_long_message_is_cut_to_what_an_event_takes(rig: Rig) -> None:
    await rig.writer.carry_out([Announce("e", WEB, "", "R", "ü" * 2000)])
    await rig.writer.drain()
    (event,) = rig.api.of_kind("Event")
    assert len(event["note"].encode()) <= 1024
    assert event["note"].endswith("ü…")
