"""What people ask of a release, as patches of its spec: pure, so that each refusal can be read and tested here.

Never a status write: the controller sees the field, acts on it, and its name and reason stay for everyone to read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from davylamp.api.types import Approval, Command, Phase, Release
from davylamp.cli.exits import BAD_INPUT, NOT_FOUND, REFUSED, Failure
from davylamp.core import names
from davylamp.core.actions import Patch, Ref
from davylamp.core.case import case_of, rolling_back
from davylamp.core.judging import judged
from davylamp.core.pair_start import next_name
from davylamp.core.world import World
from davylamp.view.model import WorkloadView
from davylamp.view.progress import rejected

Verb = Literal["pause", "resume", "approve", "abort", "promote", "retry", "start"]


class Request(msgspec.Struct, frozen=True):
    """`step` is for `approve`; None means the one that the release is in."""

    verb: Verb
    by: str
    reason: str = ""
    step: int | None = None

    @property
    def command(self) -> dict[str, str]:
        given = Command(by=self.by, reason=self.reason)
        return msgspec.to_builtins(given)  # type: ignore[no-any-return]


class Answer(msgspec.Struct, frozen=True):
    """`patch` is None where it is so already. `message` says what is so then."""

    release: str
    patch: Patch | None
    message: str
    next: str = ""


def ask(request: Request, world: World, view: WorkloadView) -> Answer:
    """What to write for `request`. Raises Failure with REFUSED where it makes no sense as things are."""
    if world.deployment is None and world.release is None:
        raise Failure(f"{view.headline}", NOT_FOUND)
    if request.verb == "start":
        return start(request, world, view)
    if request.verb == "retry":
        return _retry(request, world, view)
    release = world.release
    if release is None:
        raise _refused(request, world, f"there is no release of it yet ({view.headline})")
    case = case_of(world)
    if case is None:
        return _over(request, world, view, release)
    if case.adopted and request.verb != "promote":
        raise _refused(request, world, _TOO_LATE.get(request.verb, _TOO_LATE["pause"]).format(release.metadata.name))
    if release.keeping and request.verb != "abort":
        raise _refused(request, world, _KEPT.format(release.metadata.name, world.name))
    return _ASKS[request.verb](request, world, release)


_KEPT = "release {} is complete and only keeps the old pods for a while: `davy abort {}` returns to them"
_TOO_LATE = {
    "abort": "release {} is complete but for clearing up: its pods serve alone, so there is nothing to take back. "
    "Release the old image again",
    "pause": "release {} is complete but for clearing up",
}


def _over(request: Request, world: World, view: WorkloadView, release: Release) -> Answer:
    """No release is under way. The same command again, on a release that it has ended, is no failure."""
    phase, name = release.status.phase, release.metadata.name
    asked = {"abort": (release.spec.abort, Phase.ROLLED_BACK), "promote": (release.spec.promote, Phase.COMPLETED)}
    command, end = asked.get(request.verb, (None, None))
    if command is not None and phase is end:
        return Answer(name, None, f"release {name} is {phase} already{_by(command)}")
    if view.state == "Starting":
        raise _refused(request, world, f"no release is under way yet; {view.message}")
    raise _refused(request, world, f"no release is under way; the last one, {name}, is {phase}")


def _refused(request: Request, world: World, why: str) -> Failure:
    return Failure(f"can't {request.verb} {world.namespace}/{world.title}: {why}", REFUSED)


def _by(command: Command | Approval) -> str:
    by = f" by {command.by}" if command.by else ""
    return f",{by}: {command.reason}" if command.reason else f",{by}" if by else ""


def _patch(release: Release, **fields: Any) -> Patch:
    ref = Ref("Release", release.metadata.namespace, release.metadata.name)
    return Patch(ref, {"spec": fields})


def _pause(request: Request, world: World, release: Release) -> Answer:
    name = release.metadata.name
    _not_turning(request, world, release)
    if release.spec.promote is not None:
        raise _refused(request, world, f"release {name} is being completed{_by(release.spec.promote)}")
    if release.spec.paused is not None:
        return Answer(name, None, f"release {name} is paused already{_by(release.spec.paused)}")
    where = f"in step {release.status.step}" if release.status.step else "before its first step"
    message = f"release {name} paused {where}"
    return Answer(name, _patch(release, paused=request.command), message, f"`davy resume {world.spoken}` goes on")


def _resume(request: Request, world: World, release: Release) -> Answer:
    name = release.metadata.name
    if release.spec.paused is None:
        return Answer(name, None, f"release {name} is not paused", _awaited(world, release))
    return Answer(name, _patch(release, paused=None), f"release {name} goes on", _awaited(world, release))


def _awaited(world: World, release: Release) -> str:
    number = release.status.step
    approved = release.spec.approved.step if release.spec.approved else 0
    if number and release.spec.steps[number - 1].approve and approved < number:
        return f"step {number} waits for approval: `davy approve {world.spoken}`"
    return ""


def _approve(request: Request, world: World, release: Release) -> Answer:
    name, steps, current = release.metadata.name, release.spec.steps, release.status.step
    _not_turning(request, world, release)
    number = current if request.step is None else request.step
    needing = [str(index) for index, step in enumerate(steps, 1) if step.approve or judged(release, index)]
    those = f"the steps that do: {', '.join(needing)}" if needing else "no step of it does"
    if request.step is not None and not 1 <= number <= len(steps):
        raise Failure(f"--step {number}: release {name} has steps 1 to {len(steps)}", BAD_INPUT)
    if number == 0:
        raise _refused(request, world, f"release {name} has not reached its first step yet")
    if not (steps[number - 1].approve or judged(release, number)):
        raise _refused(request, world, f"step {number} ({steps[number - 1].weight} %) needs no approval; {those}")
    if number > current:
        raise _refused(request, world, f"step {number} is not reached yet, release {name} is in step {current}")
    approved = release.spec.approved
    if number < current or (approved is not None and approved.step >= number):
        said = _by(approved) if approved is not None and approved.step == number else ""
        return Answer(name, None, f"step {number} of release {name} is approved already{said}")
    paused = release.spec.paused
    hint = f"it is paused{_by(paused)}: `davy resume {world.spoken}` goes on" if paused is not None else ""
    patch = _patch(release, approved={"step": number, **request.command})
    return Answer(name, patch, f"step {number} of release {name} approved", hint)


def _abort(request: Request, world: World, release: Release) -> Answer:
    name, end = release.metadata.name, release.status.end
    if rolling_back(release) and end is not None:
        return Answer(name, None, f"release {name} is being taken back already: {end.message}")
    if release.spec.abort is not None:
        return Answer(name, None, f"release {name} is being taken back already{_by(release.spec.abort)}")
    message = f"release {name} is being taken back"
    return Answer(name, _patch(release, abort=request.command), message, f"`davy watch {world.spoken}` shows how")


def _promote(request: Request, world: World, release: Release) -> Answer:
    name = release.metadata.name
    _not_turning(request, world, release)
    if release.spec.promote is not None:
        return Answer(name, None, f"release {name} is being completed already{_by(release.spec.promote)}")
    message = f"release {name} is being completed, whatever steps are left"
    return Answer(name, _patch(release, promote=request.command), message, f"`davy watch {world.spoken}` shows how")


def _not_turning(request: Request, world: World, release: Release) -> None:
    end = release.status.end
    if rolling_back(release) and end is not None:
        raise _refused(request, world, f"release {release.metadata.name} is being taken back: {end.message}")
    if release.spec.abort is not None:
        raise _refused(request, world, f"release {release.metadata.name} is being taken back{_by(release.spec.abort)}")


def _retry(request: Request, world: World, view: WorkloadView) -> Answer:
    case = case_of(world)
    if case is not None:
        name, attempt = case.release.metadata.name, case.release.spec.attempt
        if attempt > 1:
            return Answer(name, None, f"release {name}, attempt {attempt} of this template, is under way already")
        raise _refused(request, world, f"release {name} is under way; nothing is held back")
    held = rejected(world)
    if held is None or view.state not in ("Held", "Starting"):
        last = world.release
        if last is not None and last.status.phase is Phase.ROLLED_BACK:
            gone = f"the template that release {last.metadata.name} rejected is not the Deployment's any more"
            raise _refused(request, world, f"{gone}: apply it again, then retry")
        raise _refused(request, world, f"no template is held back; {view.message}")
    name = held.metadata.name
    if held.spec.retry is not None:
        return Answer(name, None, f"the template of release {name} is tried again already{_by(held.spec.retry)}")
    message = f"the template that release {name} rejected is tried again"
    return Answer(name, _patch(held, retry=request.command), message, f"`davy watch {world.spoken}` shows how")


def start(request: Request, world: World, view: WorkloadView) -> Answer:
    """Of a pair: a release of the idle Deployment's template as it is. The word is an annotation of that Deployment,
    since there is no Release yet; it names the one that is wanted, so that it is said once however often."""
    idle = world.deployment
    if world.pair is None or idle is None:
        why = "only a pair (spec.target.pair) is started by hand; change the template: that starts a release"
        raise _refused(request, world, why)
    case = case_of(world)
    if case is not None:
        raise _refused(request, world, f"release {case.release.metadata.name} is under way")
    if view.state in ("InvalidPolicy", "NoPolicy", "Gone", "NoPods"):
        raise _refused(request, world, view.message)
    name = next_name(world.releases, idle)
    if idle.metadata.annotations.get(names.START) == name or view.state == "Starting":
        return Answer(name, None, f"release {name} begins already")
    by = f"{request.by}: {request.reason}" if request.reason else request.by
    meta = {"resourceVersion": idle.metadata.resource_version, "annotations": {names.START: name, names.START_BY: by}}
    patch = Patch(Ref("Deployment", world.namespace, idle.metadata.name), {"metadata": meta})
    message = f"release {name} of {idle.metadata.name} begins"
    return Answer(name, patch, message, f"`davy watch {world.spoken}` shows how")


_ASKS: dict[str, Callable[[Request, World, Release], Answer]] = {
    "pause": _pause,
    "resume": _resume,
    "approve": _approve,
    "abort": _abort,
    "promote": _promote,
}
