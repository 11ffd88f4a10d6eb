from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from davylamp.core.actions import Patch, Ref
from davylamp.kube.errors import ApiError
from davylamp.kube.lease import Election
from tests.kube.fake import FakeApi, FakeClock

LEASE = Ref("Lease", "davylamp-system", "davylamp")


class Line:
    """One candidate's connection, which can be cut, and what it did and when."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig, self.name = rig, name
        self.working_since: float | None = None
        self.spells: list[tuple[float, float]] = []
        self.election = Election(rig.api, rig.clock, LEASE, name)
        self.task = asyncio.create_task(self.election.run(self.work))

    async def work(self) -> None:
        assert not [line.name for line in self.rig.lines if line.working_since is not None], "two leaders"
        self.working_since = self.rig.clock.time()
        try:
            await asyncio.Event().wait()
        finally:
            self.spells.append((self.working_since, self.rig.clock.time()))
            self.working_since = None

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Rig:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.api = FakeApi(self.clock)
        self.lines: list[Line] = []

    def join(self, name: str) -> Line:
        line = Line(self, name)
        self.lines.append(line)
        return line

    @property
    def leaders(self) -> list[str]:
        return [line.name for line in self.lines if line.working_since is not None]

    @property
    def holder(self) -> str | None:
        return self.api.objects[LEASE]["spec"].get("holderIdentity")  # type: ignore[no-any-return]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    rig.api.before = None
    for line in rig.lines:
        await line.stop()


def unreachable(verb: str, ref: Ref) -> None:
    raise ApiError(0, "Unreachable", "no answer", verb=verb, ref=ref)


async def test_of_three_one_leads_and_keeps_leading(rig: Rig) -> None:
    for name in "abc":
        rig.join(name)
    await rig.clock.advance(120)
    assert rig.leaders == ["a"]
    assert rig.lines[0].spells == []


async def test_a_leader_that_stops_hands_over_at_once(rig: Rig) -> None:
    first = rig.join("a")
    await rig.clock.advance(20)
    rig.join("b")
    await rig.clock.advance(5)
    await first.stop()
    await rig.clock.advance(3)
    assert rig.leaders == ["b"]
    assert rig.api.objects[LEASE]["spec"]["leaseTransitions"] >= 1


@pytest.mark.parametrize("lands", ["before it stops", "while it gives the lease back"])
async def test_a_renewal_that_is_cut_off_by_the_end_does_not_keep_the_lease(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, lands: str
) -> None:
    first = rig.join("a")
    await rig.clock.advance(1)
    patch, late = rig.api.patch, list[Patch]()

    async def lose_the_answer(action: Patch) -> None:
        monkeypatch.setattr(rig.api, "patch", patch_after_late_ones)
        late.append(action)
        if lands == "before it stops":
            await patch(late.pop())
        await asyncio.Event().wait()

    async def patch_after_late_ones(action: Patch) -> object:
        while late:
            await patch(late.pop())
        return await patch(action)

    monkeypatch.setattr(rig.api, "patch", lose_the_answer)
    await rig.clock.advance(5)
    await first.stop()
    assert not late
    assert rig.holder is None


async def test_a_leader_that_dies_is_followed_within_its_duration_and_a_try(rig: Rig) -> None:
    lease = {
        "kind": "Lease",
        "metadata": {"name": LEASE.name, "namespace": LEASE.namespace},
        "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 15, "renewTime": "2025-12-31T23:59:59.000000Z"},
    }
    rig.api.put(lease)
    rig.join("b")
    await rig.clock.advance(14)
    assert rig.leaders == []
    await rig.clock.advance(4)
    assert rig.leaders == ["b"]


async def test_a_leader_that_cannot_renew_stops_before_another_can_begin(rig: Rig) -> None:
    first = rig.join("a")
    await rig.clock.advance(21)
    rig.join("b")
    await rig.clock.advance(4)
    cut_at = rig.clock.time()

    def cut(verb: str, ref: Ref) -> None:
        # Only a's renewals are patches of a Lease that a holds.
        if verb == "patch" and rig.holder == "a" and rig.leaders == ["a"]:
            unreachable(verb, ref)

    rig.api.before = cut
    await rig.clock.advance(30)
    (began, ended), *_ = first.spells
    assert began == 0
    assert ended <= cut_at + 10
    assert rig.leaders


async def test_a_renewal_that_hangs_does_not_keep_a_leader_at_work(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    line = rig.join("a")
    await rig.clock.advance(1)

    async def hang(*args: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(rig.api, "patch", hang)
    await rig.clock.advance(12)
    assert line.spells
    assert line.spells[0][1] <= 10


async def test_what_the_work_raises_is_not_swallowed(rig: Rig) -> None:
    async def fail() -> None:
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        await Election(rig.api, rig.clock, LEASE, "x").run(fail)
    assert rig.holder is None


async def test_a_lease_that_cannot_be_reached_is_not_held(rig: Rig) -> None:
    rig.api.before = unreachable
    rig.join("a")
    await rig.clock.advance(30)
    assert rig.leaders == []
    assert len(rig.api.requests) < 20
