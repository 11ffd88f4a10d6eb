"""Blue/green without a route: the Service's own selector decides, on all requests or on none.

Without a route every ready pod of a Service gets its share. So a canary that is to have pods and no requests needs the
Service pinned to the stable pods from the start; then there is nothing between 0 and 100 %.
"""

from __future__ import annotations

from collections.abc import Iterable

from davylamp.api.types import Step


def waits(step: Step, preview: str) -> bool:
    """Whether the canary has pods in this step, and no requests by weight."""
    return step.weight == 0 and (step.replicas not in (None, 0, "0%") or bool(preview))


def all_or_nothing(steps: Iterable[Step], *, services: Iterable[str], routed: bool, preview: str) -> bool:
    """True for steps that only the Service's selector can bring about: at least one in which the canary waits with
    pods, and no weight but 0 and 100."""
    found = tuple(steps)
    return (
        not routed
        and any(True for _ in services)
        and any(waits(step, preview) for step in found)
        and all(step.weight in (0, 100) for step in found)
    )
