"""Whether a change of who reaches the canary is in effect, and how that is known.

Seen, where the pods' counters of requests say so. Settled, where they can't: nothing counts, too few ask, or no share
could tell. Where they say that the old split is still served it is waited for, whatever the settling time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from davylamp.api.types import Step
from davylamp.api.units import readable
from davylamp.core.actions import Action, Ref
from davylamp.core.case import Case
from davylamp.core.world import Awaited, Exposure, Observation

PATIENCE = 6
"""Times the settling time, until it is told that something is not in effect."""
AT_LEAST = 30.0
"""Seconds that this takes at least."""


class Reached(msgspec.Struct, frozen=True):
    """The exposure is in effect: `weight` percent reach the canary, known by `how`."""

    weight: float
    how: str
    asked: datetime | None = None
    """When it was there to be taken, where that was seen."""


class Missing(msgspec.Struct, frozen=True):
    """The exposure is not in effect yet: what to write, what is waited for, and until when."""

    message: str
    actions: tuple[Action, ...] = ()
    wake_at: datetime | None = None
    awaited: Awaited | None = None
    overdue: bool = False
    """Counted requests say that it should have been long ago."""


class Settle(msgspec.Struct, frozen=True):
    """How long a change is given where nothing can be measured."""

    seconds: float
    how: str


def share(exposure: Exposure) -> float:
    """Of all requests that pods count, those of the canary, where nobody is chosen: copies count, too."""
    weight, copied = exposure.weight / 100, exposure.mirror / 100 * (1 - exposure.weight / 100)
    return (weight + copied) / (1 + copied)


def exposure_of(case: Case, step: Step) -> Exposure:
    """What `step` wants of the routes: the release's matches hold in every step, its own besides."""
    return Exposure(step.weight, (*case.release.spec.match, *step.match), step.mirror or 0)


def awaited(case: Case, step: Step) -> Awaited:
    """What `step` changes of who reaches the canary, after the step that is in effect."""
    before, sure = _before(case)
    wanted = exposure_of(case, step)
    change = f"{case.release.status.step}>{step.weight}.{step.mirror or 0}"
    settle = case.release.spec.settle_seconds
    if step.weight == 100:
        return Awaited(_key(case, change), before, 1.0, sure, all_of_it=True, kinds=("Service",), settle=settle)
    after: float | None = share(wanted)
    if any(route.sticky for route in case.world.routes) or after == before:
        after = None
    return Awaited(_key(case, change), before, after, sure, kinds=kinds(case), settle=settle)


def awaited_back(case: Case) -> Awaited:
    """That nobody reaches the canary any more."""
    before, sure = _share_of(case, case.step(max(case.release.status.step, 1)))
    written = ("Service",) if before == 1 else kinds(case) or ("Service",)
    settle = case.release.spec.settle_seconds
    return Awaited(_key(case, "back"), before, 0.0, sure, all_of_it=True, kinds=written, settle=settle)


def _before(case: Case) -> tuple[float, bool]:
    """The share of the requests that reaches the canary by the step in effect, and whether that is all there is."""
    number = case.release.status.step
    if not number:
        return 0.0, True
    return _share_of(case, case.step(number))


def _share_of(case: Case, step: Step) -> tuple[float, bool]:
    if step.weight == 100:
        return 1.0, True
    exposure = exposure_of(case, step)
    pinned = any(route.sticky for route in case.world.routes)
    return share(exposure), case.pins and not (exposure.match or pinned or case.release.spec.preview)


def _key(case: Case, change: str) -> str:
    """Evidence from before a change was put right says nothing."""
    right = [one.time for one in case.release.status.history if one.reason == "Drift"]
    return f"{change}@{right[-1]:%H%M%S.%f}" if right else change


def kinds(case: Case) -> tuple[str, ...]:
    """Of the objects in which the routes are split."""
    return tuple(dict.fromkeys(ref.kind for route in case.world.routes for ref in route.refs[:1]))


def settle_of(case: Case, kinds: tuple[str, ...]) -> Settle:
    """What was learned of all these kinds in this process, or else what the policy says."""
    given = case.release.spec.settle_seconds
    learned = [case.world.learned.get(kind) for kind in kinds]
    known = [one for one in learned if one is not None]
    if not known or len(known) < len(learned):
        return Settle(given, f"settled for {readable(given)}")
    slowest = max(known, key=lambda one: one.seconds)
    took = f"learned from {slowest.changes} changes"
    return Settle(slowest.seconds, f"settled for {readable(slowest.seconds)}, {took}")


def seen_of(case: Case, awaited: Awaited) -> Observation | None:
    """What was counted since this very change."""
    found = case.world.observation
    return found if about(found, awaited) else None


def about(found: Observation | None, awaited: Awaited) -> bool:
    """Whether something was counted since this very change."""
    return found is not None and found.awaited.key == awaited.key


def in_effect(case: Case, awaited: Awaited, weight: int, now: datetime, *refs: Ref) -> Reached | Missing:
    """Whether `awaited`, which gives the canary `weight` percent by way of `refs`, is in effect."""
    found = seen_of(case, awaited)
    since = max((case.world.since[ref] for ref in refs if ref in case.world.since), default=None)
    asked = found.asked if found is not None else since
    if found is not None and found.answer == "seen":
        return Reached(weight, f"seen in effect after {found.seconds:.1f} s ({counted(found)})", asked)
    settle = settle_of(case, awaited.kinds)
    if since is not None and since + timedelta(seconds=settle.seconds) > now:
        counts = " unless it is seen before" if found is not None and found.answer != "blind" else ""
        after = f"it counts as in effect {readable(settle.seconds)} after that{counts}"
        return Missing(f"{weight} % is set; {after}", wake_at=since + _of(settle.seconds), awaited=awaited)
    if found is None and case.world.onlooker and since is not None and since + _patience(settle) > now:
        return Missing(f"{weight} % is set; it counts when requests show it", awaited=awaited)
    if found is None or found.answer != "against":
        return Reached(weight, f"{settle.how}, {_unmeasured(awaited, found)}", asked)
    bound = found.asked + _patience(settle)
    if bound <= now and not found.counts:
        return Reached(weight, f"{settle.how}, not measured: the canary shows no counter of requests", asked)
    if bound <= now and (found.moved or awaited.all_of_it or not awaited.sure):
        waited = readable((now - found.asked).total_seconds())
        return Reached(_percent(found), f"as far as can be seen after {waited}: {counted(found)}", asked)
    text = f"{weight} % is set, but {reached(found)}"
    return Missing(text, wake_at=bound if bound > now else None, awaited=awaited, overdue=bound <= now)


def back(case: Case, awaited: Awaited, now: datetime, *refs: Ref) -> Missing | None:
    """What the way back still waits for until the canary gets nothing; None for nothing. Never for ever: its pods
    are to go."""
    found = seen_of(case, awaited)
    since = max((case.world.since[ref] for ref in refs if ref in case.world.since), default=None)
    if since is None or (found is not None and found.answer == "seen"):
        return None
    settle = settle_of(case, awaited.kinds)
    at = since + _of(settle.seconds)
    if at > now:
        return Missing("waiting until that is in effect", wake_at=at, awaited=awaited)
    bound = since + _patience(settle)
    if found is None and case.world.onlooker and bound > now:
        return Missing("waiting until requests show it", awaited=awaited)
    if found is None or found.answer != "against" or bound <= now:
        return None
    return Missing(f"waiting for that to take effect: {reached(found)}", wake_at=bound, awaited=awaited)


def _patience(settle: Settle) -> timedelta:
    return _of(max(PATIENCE * settle.seconds, AT_LEAST))


def _percent(found: Observation) -> float:
    return round(100 * found.canary / max(found.stable + found.canary, 1), 1)


def _of(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def counted(found: Observation) -> str:
    """`9.8 % of 1,337 requests`."""
    total = found.stable + found.canary
    return f"{100 * found.canary / total:.1f} % of {requests(total)}" if total else "no requests"


def reached(found: Observation) -> str:
    """`3 of 1,337 requests lately reached the canary`."""
    return f"{found.canary:,} of {requests(found.stable + found.canary)} lately reached the canary"


def requests(number: int) -> str:
    return "1 request" if number == 1 else f"{number:,} requests"


def _unmeasured(awaited: Awaited, found: Observation | None) -> str:
    """Why the settling time had to do."""
    if found is None or found.answer == "blind" or not found.stable + found.canary:
        return "not measured"
    why = "too few to tell" if awaited.after is not None and awaited.sure else "which can't tell"
    return f"not measured: {counted(found)}, {why}"
