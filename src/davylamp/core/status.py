"""What is written into a Release's status, and when an Event goes with it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from davylamp.api.objects import Condition
from davylamp.api.types import End, Phase, Release, ReleaseStatus, Transition, WeightStatus
from davylamp.core.actions import Patch, Ref

HISTORY = 20
"""How many transitions a Release remembers."""
DRIFTS = 5
"""How many of them may be about what was put right."""


def entered(release: Release, now: datetime, *, phase: Phase, reason: str, message: str, **fields: object) -> Patch:
    """The status write of a transition: the phase, its reason and message, and conditions that kstatus reads."""
    now = now.astimezone(UTC)
    status = msgspec.structs.replace(
        release.status,
        phase=phase,
        message=message,
        observed_generation=release.metadata.generation,
        started_at=release.status.started_at or release.metadata.creation_timestamp or now,
        finished_at=(release.status.finished_at or now) if phase.final else None,
        conditions=conditions(release, phase, reason, message, now),
        history=(*_before(release), Transition(now, reason, message))[-HISTORY:],
        **fields,
    )
    return Patch(
        Ref("Release", release.metadata.namespace, release.metadata.name),
        {"metadata": {"resourceVersion": release.metadata.resource_version}, "status": _content(status)},
        subresource="status",
    )


def _before(release: Release) -> tuple[Transition, ...]:
    """The history so far. The start has no write of its own: it is the Release's creation. Of what was put right the
    last few are kept, so that a fight leaves room for the rest."""
    created = release.metadata.creation_timestamp
    drifts = [one for one in release.status.history if one.reason == "Drift"][:-DRIFTS]
    if release.status.history or created is None:
        return tuple(one for one in release.status.history if one not in drifts)
    return (Transition(created, "Started", f"{release.spec.canary.image}, against {release.spec.stable.image}"),)


def _content(status: ReleaseStatus) -> dict[str, object]:
    """A status as a merge patch that also clears what has gone back to its default."""
    content = msgspec.to_builtins(status)
    # What the analysis has found is written by whoever looks, at moments of its own.
    if content.pop("analysis", None) is not None and status.phase.final:
        content["analysis"] = {"state": None}
    cleared = {name: None for name in ("finishedAt", "end", "stepSince", "keptUntil") if name not in content}
    weight = {"askedAt": None, **_weight(status.weight)}
    return {"phase": status.phase, "step": status.step, **content, "weight": weight, **cleared}


def _weight(weight: WeightStatus) -> dict[str, object]:
    """Every field that is not absent, also where it has its default."""
    made: dict[str, object] = {"asked": weight.asked, "inEffect": weight.in_effect, "how": weight.how}
    return made if weight.asked_at is None else made | {"askedAt": msgspec.to_builtins(weight.asked_at)}


def in_effect(release: Release, now: datetime, number: int, weight: WeightStatus, message: str) -> Patch:
    """Step `number` (from 1) is in effect since `now`."""
    return entered(
        release,
        now,
        phase=Phase.PROGRESSING,
        reason="StepInEffect",
        message=message,
        step=number,
        step_since=now.astimezone(UTC),
        weight=weight,
    )


def turned_back(release: Release, now: datetime, end: End) -> Patch:
    """The release is being taken back: written before anything is undone, so that a restart goes the same way."""
    return entered(
        release, now, phase=Phase.ROLLING_BACK, reason=end.reason, message=end.message, end=end, kept_until=None
    )


def conditions(release: Release, phase: Phase, reason: str, message: str, now: datetime) -> tuple[Condition, ...]:
    """Ready, Reconciling and Stalled as kstatus reads them: exactly one of them is True.

    https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus
    """
    true = "Stalled" if phase is Phase.ROLLED_BACK else "Ready" if phase.final else "Reconciling"
    before = {condition.type: condition for condition in release.status.conditions}
    made = []
    for kind in ("Ready", "Reconciling", "Stalled"):
        value = "True" if kind == true else "False"
        old = before.get(kind)
        since = old.last_transition_time if old is not None and old.status == value else now
        made.append(Condition(kind, value, reason, message, since))
    return tuple(made)
