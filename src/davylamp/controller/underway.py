"""One release that is being compared, and when to look at it again.

In the canary's first minute of requests most bad versions show, so one looks more often then, and where the next look
may decide; before its first request more often still, since its pods' age counts from there.
"""

from __future__ import annotations

import asyncio

from davylamp.api.types import Release
from davylamp.controller.findings import Findings
from davylamp.controller.looker import Looker
from davylamp.kube.clock import Timer
from davylamp.signals.gather import Pods

SHORTEST = 2.0
"""Seconds between two looks, at least, where one wants to know soon."""
A_SECOND = 50
"""Looks at all releases together that are so frequent; where there are more, each is looked at less often."""
AWAITED = 60.0
"""Seconds for which the canary's first request is looked out for, and"""
EARLY = 60.0
"""seconds from then on in which one wants to know soon."""


class UnderWay:
    """The analysis of one release."""

    def __init__(self, release: Release, interval: float, findings: Findings) -> None:
        self.name = release.metadata.name
        self.title = f"look at {self.name}"
        self.uid = release.metadata.uid
        self.interval = interval
        self.findings = findings
        self.tense = findings.tense
        """Whether the next look may decide, as of the last one."""
        self.stable = (release.metadata.namespace, release.spec.stable.hash)
        self.canary = (release.metadata.namespace, release.spec.canary.hash)
        self.asked: tuple[object, Pods, float] | None = None
        """What the pods that are asked were found from, they, and until when they are the same."""
        self.versions = (release.spec.stable.replica_set, release.spec.canary.replica_set)
        self.looker: Looker | None = None
        self.timer: Timer | None = None
        self.task: asyncio.Task[None] | None = None
        self.aside: asyncio.Task[None] | None = None
        """What tells that the look goes on."""
        self.since = 0.0
        """When the last look began,"""
        self.began: float | None = None
        """When the first look was made,"""
        self.met: float | None = None
        """when one first saw requests of the canary, and"""
        self.written: float | None = None
        """when something was last written, in the clock's seconds."""

    def wanted(self, now: float) -> float:
        """Seconds after which one wants to look again."""
        if self.met is None and self.findings.met:
            self.met = now
        began = now if self.began is None else self.began
        if self.met is None and now - began < AWAITED:
            return SHORTEST
        early = self.met is not None and now - self.met < EARLY
        return self.interval / 2 if early or self.tense else self.interval


def pause(interval: float, wanted: float, releases: int) -> float:
    """Seconds to the next look at one of so many releases, where after `wanted` seconds would be best."""
    return min(interval, max(wanted, SHORTEST, releases / A_SECOND)) if wanted < interval else interval
