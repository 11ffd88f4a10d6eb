"""What other hands change of a release's routing is put right and told; whoever does it again and again is named, and
not fought for ever."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from davylamp.api.types import Phase, Release, Step, Transition
from davylamp.api.units import readable
from davylamp.core import names, status
from davylamp.core.actions import Action, Create, Patch, Ref
from davylamp.core.case import Case
from davylamp.core.decision import Plan
from davylamp.core.effect import exposure_of
from davylamp.core.routing import rerouted

AGAIN = 5
"""How often something is put right, within"""
WITHIN = timedelta(minutes=10)
"""this time, before that is left alone until the first of them is so long ago."""


def drifted(case: Case, step: Step) -> tuple[Action, ...]:
    """What is left to write of the routing for `step`, which was there before."""
    spec = case.release.spec
    preview = case.lead("canary") if spec.preview else ()
    if case.by_subsets:
        # The Services' selectors go through several states there.
        return rerouted(case, exposure_of(case, step)) if step.weight < 100 else ()
    if step.weight == 100:
        return (*case.select("canary"), *preview)
    if case.switching:
        return (*case.select("stable"), *preview)
    if not case.routed:
        return preview
    return (*case.select("stable", unpinned=True), *preview, *rerouted(case, exposure_of(case, step)))


def put_right(case: Case, actions: Sequence[Action], now: datetime) -> Plan:
    """Write `actions`, which undo what others did, and tell of it; or, where that has gone on for some time, don't."""
    refs = tuple(dict.fromkeys(one.ref for one in actions if isinstance(one, Patch)))
    unknown = tuple(ref for ref in refs if ref not in case.world.hands)
    if unknown:
        return Plan((), "Drift", "putting the routing right", hands_wanted=unknown)
    told = [_said(ref, case.world.hands[ref]) for ref in refs if case.world.hands[ref] != names.MANAGER]
    told += [f"{one.ref.kind} {one.ref.name} was deleted" for one in actions if isinstance(one, Create)]
    if not told:
        # What the user's own objects ask for has changed: ours follow.
        return Plan(tuple(actions), "Converging", "the routing follows what has changed around it")
    before = recent(case.release, now)
    if len(before) >= AGAIN:
        return _left_alone(case, told, before, now)
    message = f"{', '.join(told)}; it is put right"
    written = status.entered(case.release, now, phase=_phase(case), reason="Drift", message=message)
    event = case.announce("Drift", message, warning=True, key=_key(actions, now))
    return Plan((*actions, event, written), "Drift", message)


def recent(release: Release, now: datetime) -> list[Transition]:
    """When something was put right lately."""
    return [one for one in release.status.history if one.reason == "Drift" and one.time > now - WITHIN]


def _left_alone(case: Case, told: list[str], before: list[Transition], now: datetime) -> Plan:
    """A fight: said once, and waited for."""
    again = before[0].time + WITHIN
    times = f"{len(before)} times in the last {readable(WITHIN.total_seconds())}"
    message = f"{', '.join(told)}, again and again: it was put right {times}, and is left alone for now; stop that"
    if any(one.reason == "Fight" and one.time >= before[0].time for one in case.release.status.history):
        return Plan((), "Fight", message, again)
    written = status.entered(case.release, now, phase=_phase(case), reason="Fight", message=message)
    event = case.announce("Fight", message, warning=True, key=f"{before[0].time:%Y%m%d%H%M%S}")
    return Plan((event, written), "Fight", message, again)


def _said(ref: Ref, hand: str) -> str:
    return f"{ref.kind} {ref.name} was changed by {hand or 'other hands'}"


def _phase(case: Case) -> Phase:
    phase = case.release.status.phase
    return Phase.PROGRESSING if phase is Phase.PENDING else phase


def _key(actions: Sequence[Action], now: datetime) -> str:
    """The same for the same change: by the version of an object that is put right."""
    for one in actions:
        if isinstance(one, Patch) and isinstance(one.patch, dict):
            version = (one.patch.get("metadata") or {}).get("resourceVersion")
            if version:
                return str(version)
    return f"{now:%Y%m%d%H%M%S}"
