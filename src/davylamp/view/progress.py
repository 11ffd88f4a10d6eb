"""Where a release under way stands: its steps, the weight that is asked for, and what it waits for until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from davylamp.api.objects import template_hash
from davylamp.api.types import Phase, Release, Step
from davylamp.api.units import seconds
from davylamp.core import health
from davylamp.core.actions import Patch
from davylamp.core.case import Case, rolling_back
from davylamp.core.decision import Plan
from davylamp.core.judging import judged
from davylamp.core.matching import words
from davylamp.core.world import World

StepState = Literal["done", "now", "coming", "ahead", "failed", "stopped"]


class StepView(msgspec.Struct, frozen=True, rename="camel"):
    """One step. `now` is in effect, `coming` is being brought about, `failed` and `stopped` are where it ended."""

    number: int
    weight: int
    match: str
    """Who reaches the canary besides, in words."""
    mirror: int
    replicas: int | str | None
    hold: str | None
    approve: bool
    state: StepState


class WaitsView(msgspec.Struct, frozen=True, rename="camel"):
    """What a release waits for."""

    what: str
    until: datetime | None = None
    """When that is over by itself."""
    then: str = ""
    """What comes after `until`."""
    deadline: datetime | None = None
    """When the release is taken back if it still waits for this."""


class Progress(msgspec.Struct, frozen=True):
    """Where a release stands."""

    state: str
    aim: int
    """The step, from 1, that the release is in or is bringing about."""
    asked: int
    """The weight that it wants now, in percent."""
    message: str
    waits: WaitsView | None
    end: Phase | None = None
    """Where it ends, where it is being taken back or will be by the next write."""
    trouble: str = ""
    """In a few words, why it doesn't get on although nobody is asked anything."""


def of(case: Case, decided: Plan, now: datetime) -> Progress:
    """Where the release of `case` stands, given what the controller decides for this very world."""
    release = case.release
    end = _end(release, decided)
    if end is not None:
        message = decided.message if rolling_back(release) else "taking it back"
        if release.status.end is not None and message == release.status.end.message:
            message = "it is taken back"
        waits = WaitsView(message, decided.wake_at)
        return Progress("RollingBack", max(release.status.step, 1), 0, message, waits, end)
    if release.keeping:
        waits = WaitsView("the old pods stay", release.status.kept_until, "they go")
        return Progress("Completed", len(release.spec.steps), 100, decided.message, waits)
    if case.adopted or decided.reason == "Promoting":
        deadline = None if case.adopted else _deadline(case, now)
        waits = WaitsView(decided.message, _unless(decided.wake_at, deadline), deadline=deadline)
        return Progress("Promoting", len(release.spec.steps), 100, decided.message, waits)
    aim = _aim(release, decided, now)
    trouble = _TROUBLE.get(release.status.history[-1].reason, "") if release.status.history else ""
    if trouble and release.spec.paused is None:
        # The controller has counted; who doesn't can't know better.
        message = release.status.message
        return Progress(
            release.status.phase.value,
            aim,
            release.spec.steps[aim - 1].weight,
            message,
            WaitsView(message),
            None,
            trouble,
        )
    waits = _waits(case, decided, now)
    state = decided.reason if decided.reason in ("Paused", "AwaitingApproval") else release.status.phase.value
    return Progress(state, aim, release.spec.steps[aim - 1].weight, waits.what, waits)


_TROUBLE = {"NotInEffect": "not in effect", "Fight": "others change its routing again and again"}
"""What the last transition says of a release that waits for it to be over."""


def _end(release: Release, decided: Plan) -> Phase | None:
    """Where a way back leads that is under way, about to be written, or waits for a container's last words."""
    if rolling_back(release) and release.status.end is not None:
        return release.status.end.phase
    if decided.log_wanted is not None:
        return Phase.ROLLED_BACK
    for action in decided.actions:
        if isinstance(action, Patch) and action.subresource == "status" and isinstance(action.patch, dict):
            status = action.patch["status"]
            if status["phase"] == Phase.ROLLING_BACK:
                return Phase(status["end"]["phase"])
    return None


STAYING = ("AwaitingVerdict", "NoData", "AwaitingApproval", "Unclear")
"""Reasons of a plan that keeps the step in effect although its `hold` is over."""


def _aim(release: Release, decided: Plan, now: datetime) -> int:
    number, count = release.status.step, len(release.spec.steps)
    if number == 0:
        return 1
    step = release.spec.steps[number - 1]
    approved = release.spec.approved.step if release.spec.approved else 0
    held = hold_over(release) > now and not (release.status.cleared >= number and decided.reason != "Holding")
    stays = release.spec.paused is not None or held or (step.approve and approved < number)
    stays = stays or decided.reason in STAYING
    return number if stays or number == count else number + 1


def hold_over(release: Release) -> datetime:
    """When the step in effect has held for as long as it must; long ago where none is in effect."""
    if release.status.step == 0 or release.status.step_since is None:
        return datetime(1970, 1, 1, tzinfo=UTC)
    step = release.spec.steps[release.status.step - 1]
    return release.status.step_since + timedelta(seconds=seconds(step.hold) if step.hold else 0)


def _waits(case: Case, decided: Plan, now: datetime) -> WaitsView:
    release = case.release
    number = release.status.step
    if decided.reason == "Holding":
        return WaitsView(f"step {number} holds", hold_over(release), _after(release))
    if decided.reason in ("Paused", "AwaitingApproval"):
        return WaitsView(decided.message.partition(": `")[0])
    if decided.reason == "StepInEffect":
        aim = _aim(release, decided, now)
        return WaitsView(f"step {aim}: {release.spec.steps[aim - 1].weight} % has taken effect")
    deadline = _deadline(case, now)
    return WaitsView(decided.message, _unless(decided.wake_at, deadline), deadline=deadline)


def _after(release: Release) -> str:
    """What follows the hold of the step in effect."""
    number, steps = release.status.step, release.spec.steps
    approved = release.spec.approved.step if release.spec.approved else 0
    if steps[number - 1].approve and approved < number:
        return "approval"
    only_if = ""
    if judged(release, number) and release.status.cleared < number:
        worst = release.spec.analysis is not None and release.spec.analysis.leave_when == "notWorse"
        only_if = " unless it is worse" if worst else " if it is good enough"
    if number == len(steps):
        return f"completion{only_if}"
    return f"step {number + 1}, {steps[number].weight} %{',' if only_if else ''}{only_if}"


def _deadline(case: Case, now: datetime) -> datetime | None:
    """When the canary's pods count as failed if they stay as they are."""
    found = health.diagnose(
        case.living_pods,
        case.canary,
        deadline=timedelta(seconds=case.release.spec.progress_deadline_seconds),
        served=case.release.status.step > 0,
        logs=case.world.logs,
        now=now,
    )
    return found if isinstance(found, datetime) else None


def _unless(wake_at: datetime | None, deadline: datetime | None) -> datetime | None:
    """The controller looks again at `deadline` too; that isn't what is waited for."""
    return None if wake_at == deadline else wake_at


def steps(release: Release, going: Progress | None) -> tuple[StepView, ...]:
    """The step line of a release, under way or finished."""
    return tuple(_step(release, going, number, step) for number, step in enumerate(release.spec.steps, 1))


def _step(release: Release, going: Progress | None, number: int, step: Step) -> StepView:
    return StepView(
        number=number,
        weight=step.weight,
        match=_chosen(release, step),
        mirror=step.mirror or 0,
        replicas=step.replicas,
        hold=step.hold,
        approve=step.approve,
        state=_state(release, going, number),
    )


def _chosen(release: Release, step: Step) -> str:
    """Who reaches the canary whatever the weight."""
    preview = f"Service {release.spec.preview}" if release.spec.preview and step.weight < 100 else ""
    return " or ".join(filter(None, (words((*release.spec.match, *step.match)), preview)))


def _state(release: Release, going: Progress | None, number: int) -> StepState:
    current, phase = release.status.step, release.status.phase
    if phase is Phase.COMPLETED or number < current:
        return "done"
    if going is None or going.end is not None:
        if number > max(current, 1):
            return "ahead"
        return "failed" if (going.end if going is not None else phase) is Phase.ROLLED_BACK else "stopped"
    if number == going.aim:
        return "now" if number == current else "coming"
    return "done" if number == current else "ahead"


def template(world: World) -> str:
    """Hash of the template that the Deployment asks for, "" where there is none."""
    return template_hash(world.deployment.spec.template) if world.deployment is not None else ""


def rejected(world: World) -> Release | None:
    """The release that rejected the template that the Deployment asks for now."""
    wanted = template(world)
    tried = [release for release in world.releases if release.spec.template == wanted]
    last = max(tried, key=lambda release: release.spec.attempt, default=None)
    return last if last is not None and last.status.phase is Phase.ROLLED_BACK else None
