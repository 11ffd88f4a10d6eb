"""The model of the cluster with somebody who counts requests, and proxies that take their time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from davylamp.core import names
from davylamp.core.plan import Plan
from davylamp.core.world import Awaited, Learned, Observation, World
from tests.core.model import Cluster, policy_spec

LOOK = timedelta(seconds=0.5)
AGAINST = timedelta(seconds=2)
"""After which requests tell that the old split is still served."""


class Counted(Cluster):
    """`delay` is how long a change takes to be in effect, in seconds; None: it never is. `counters` is False where
    the pods have none, and `moved` says that the share has changed a little."""

    def __init__(self, delay: float | None = 1.0, *, counters: bool = True, replicas: int = 4) -> None:
        self.delay = delay
        self.counters = counters
        self.moved = False
        self.counts = True
        self.learned: dict[str, Learned] = {}
        self.awaited: Awaited | None = None
        self.asked = datetime.min
        self.changes: list[tuple[str, datetime]] = []
        """Keys of what was waited for, and since when."""
        super().__init__(replicas=replicas)

    def look(self) -> Plan:
        decided = super().look()
        wanted = decided.awaited
        if wanted is not None and (self.awaited is None or self.awaited.key != wanted.key):
            self.awaited, self.asked = wanted, self.now
            self.changes.append((wanted.key, self.now))
        return decided

    def restart(self) -> None:
        super().restart()
        self.awaited = None

    def world(self) -> World:
        return msgspec.structs.replace(super().world(), observation=self._observation(), learned=self.learned)

    def _observation(self) -> Observation | None:
        if self.awaited is None:
            return None
        found = Observation(self.awaited, self.asked, moved=self.moved, counts=self.counts)
        age = self.now - self.asked
        if not self.counters:
            return msgspec.structs.replace(found, answer="blind")
        if self.delay is not None and age >= timedelta(seconds=self.delay) + LOOK:
            return msgspec.structs.replace(
                found, answer="seen", seconds=age.total_seconds(), stable=1206, canary=131, moved=True
            )
        if age >= AGAINST:
            return msgspec.structs.replace(found, answer="against", stable=1300, canary=37 if self.moved else 0)
        return found

    def wakes(self, decided: Plan) -> datetime | None:
        at = super().wakes(decided)
        if decided.awaited is None or self.delay is None:
            return at
        seen = self.asked + timedelta(seconds=self.delay) + LOOK
        return min(filter(None, (at, seen)), default=None) if seen > self.now else at


def releasing(cluster: Counted, *weights: int, **spec: Any) -> Counted:
    """With a policy, and somebody who has set the image to v2."""
    spec = policy_spec(*(weights or (10, 50, 100)), **spec)
    cluster.put("ReleasePolicy", "web", spec=spec, metadata={"finalizers": [names.FINALIZER]})
    cluster.run()
    cluster.set_image("hellok8s:v2")
    return cluster


def step(cluster: Cluster) -> int:
    return next((int(one.get("status", {}).get("step", 0)) for one in reversed(cluster.all("Release"))), 0)


def reasons(cluster: Cluster) -> list[str]:
    return [one["reason"] for one in cluster.release["status"]["history"]]
