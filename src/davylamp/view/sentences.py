"""What is said of a workload: when something is wrong, first what it is, then what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from davylamp.api.types import Command, Phase, Release
from davylamp.core import manifests, names
from davylamp.core.case import Case
from davylamp.core.decision import Plan
from davylamp.core.start import active
from davylamp.core.world import World
from davylamp.view.progress import Progress
from davylamp.view.words import ago, pair, short, since

Tone = Literal["good", "busy", "waiting", "bad"]
"""`waiting` waits for a person. `bad` is a failure, or something that keeps releases from happening."""

NEGLECTED = timedelta(seconds=30)
"""A release that still has no ReplicaSet after this time has no controller."""


class Situation(msgspec.Struct, frozen=True):
    """What there is to say something about. `case` and `going` are of a release under way, `release` may be over."""

    world: World
    now: datetime
    state: str
    decided: Plan
    release: Release | None
    case: Case | None
    going: Progress | None
    pending: str

    @property
    def name(self) -> str:
        """As a command has it."""
        return self.world.spoken

    @property
    def rollout(self) -> str:
        """The command by which Kubernetes' own way wins."""
        return f"`kubectl rollout resume deployment/{self.name} -n {self.world.namespace}`"

    @property
    def images(self) -> tuple[str, str]:
        """Both versions' images, short."""
        assert self.release is not None
        return pair(self.release.spec.stable.image, self.release.spec.canary.image)

    @property
    def running(self) -> str:
        return ", ".join(short(manifests.images(rs.spec.template)) for rs in active(self.world))


class Said(msgspec.Struct, frozen=True):
    tone: Tone
    headline: str
    facts: tuple[str, ...] = ()
    next: tuple[str, ...] = ()


def say(this: Situation) -> Said:
    """The headline and what follows from it."""
    if this.going is not None:
        return _under_way(this)
    return _WITHOUT_RELEASE.get(this.state, _other)(this)


# --- a release under way ---


def _under_way(this: Situation) -> Said:
    assert this.going is not None
    if this.state == "RollingBack":
        return _rolling_back(this)
    by_state: dict[str, Callable[[Situation], Said]] = {
        "Paused": _paused,
        "AwaitingApproval": _awaiting,
        "Promoting": _promoting,
        "Completed": _keeping,
    }
    return by_state.get(this.state, _progressing)(this)


def _progressing(this: Situation) -> Said:
    release, going = this.release, this.going
    assert release is not None
    assert going is not None
    step = f"step {going.aim} of {len(release.spec.steps)}"
    made = release.metadata.creation_timestamp
    untouched = this.case is not None and this.case.canary is None and not release.status.history
    if untouched and made is not None and made + NEGLECTED < this.now:
        quiet = ago((this.now - made).total_seconds())
        return Said("bad", f"{this.state}, {step}: nothing has been done for {quiet}", (), (_NO_CONTROLLER,))
    if going.trouble:
        on = f"`davy promote {this.name}` completes it all the same"
        return Said("bad", f"{this.state}, {step}: {going.trouble}", (going.message,), (_take_back(this), on))
    return Said("busy", f"{this.state}, {step}")


_NO_CONTROLLER = "see whether the controller runs (`davy controller`, or the Deployment that `davy install` made)"


def _paused(this: Situation) -> Said:
    release, going = this.release, this.going
    assert release is not None
    assert going is not None
    where = "in" if release.status.step else "before"
    said = _said(release.spec.paused)
    headline = f"Paused {where} step {going.aim} of {len(release.spec.steps)}{said}"
    return Said("waiting", headline, (), (f"`davy resume {this.name}` goes on", _take_back(this)))


def _awaiting(this: Situation) -> Said:
    release = this.release
    assert release is not None
    number, steps = release.status.step, release.spec.steps
    then = f"step {number + 1}, {steps[number].weight} %" if number < len(steps) else "completion"
    headline = f"step {number} of {len(steps)} waits for approval"
    return Said("waiting", headline, (), (f"`davy approve {this.name}` goes on to {then}", _take_back(this)))


def _take_back(this: Situation) -> str:
    return f"`davy abort {this.name}` takes it back"


def _promoting(this: Situation) -> Said:
    release = this.release
    assert release is not None
    asked = f", asked for{_said(release.spec.promote)}" if release.spec.promote is not None else ""
    return Said("busy", f"Promoting{asked}")


def _keeping(this: Situation) -> Said:
    """Completed, but for the old pods."""
    stable, _ = this.images
    fact = f"the old pods, {stable}, stay at full size for a while, without requests"
    return Said("good", _ended(this), (fact,), (f"`davy abort {this.name}` returns to them at once",))


def _rolling_back(this: Situation) -> Said:
    release, going = this.release, this.going
    assert release is not None
    assert going is not None
    why = release.status.end.message if release.status.end is not None else this.decided.message
    bad = going.end is Phase.ROLLED_BACK
    stable, _ = this.images
    to = "Kubernetes goes on by itself" if going.end is Phase.OVERRIDDEN else f"traffic goes back to {stable}"
    return Said("bad" if bad else "busy", f"RollingBack: {why}", (to,))


def _said(command: Command | None) -> str:
    if command is None:
        return ""
    by = f" by {command.by}" if command.by else ""
    return f"{by}: {command.reason}" if command.reason else by


# --- no release under way ---


def _ended(this: Situation) -> str:
    """`Completed 3 min ago: ...`, of the release that is over."""
    release = this.release
    assert release is not None
    status = release.status
    when = f" {since((this.now - status.finished_at).total_seconds())}" if status.finished_at is not None else ""
    why = status.end.message if status.end is not None else status.message
    return f"{status.phase}{when}: {why}"


def _stable(this: Situation) -> Said:
    deployment, release = this.world.deployment, this.release
    assert deployment is not None
    by_hand = deployment.spec.paused and names.PAUSED_BY not in deployment.metadata.annotations
    facts = (f"the Deployment is paused, not by us: {this.rollout} ends that",) if by_hand else ()
    if this.world.pair is not None:
        return _pair_at_rest(this, facts)
    if release is None:
        hint = "change its template (`kubectl set image`, `kubectl apply`): that starts a release"
        return Said("good", f"no release yet; {this.decided.message}", facts, (hint,))
    phase = release.status.phase
    if phase is Phase.COMPLETED:
        return Said("good", _ended(this), facts)
    runs = this.decided.message
    if phase is not Phase.ROLLED_BACK:
        return Said("good", _ended(this), (runs, *facts))
    back = f"{runs}; the template was put back"
    return Said(
        "bad", _ended(this), (back, *facts), (f"release something else; {this.images[1]} itself would be held",)
    )


def _pair_at_rest(this: Situation, facts: tuple[str, ...]) -> Said:
    """Who serves, and how the idle one is released."""
    release, pair = this.release, this.world.pair
    assert pair is not None
    hint = f"change the template of {pair.canary}, or `davy start {pair.canary}`: that starts a release"
    if release is None:
        return Said("good", f"no release yet; {this.decided.message}", facts, (hint,))
    if release.status.phase is Phase.COMPLETED:
        return Said("good", _ended(this), facts)
    return Said("good", _ended(this), (this.decided.message, *facts))


def _serving_held(this: Situation) -> Said:
    world, pair = this.world, this.world.pair
    assert pair is not None
    resume = f"`kubectl rollout resume deployment/{pair.stable} -n {world.namespace}`"
    return Said("bad", this.decided.message, (), (f"set it back, or {resume} rolls it out without steps",))


def _held(this: Situation) -> Said:
    rejected = this.release
    assert rejected is not None
    pair = this.world.pair
    if pair is not None:
        fact = f"{pair.stable} ({this.running}) serves; {pair.canary} keeps the rejected template and gets no requests"
        return Said("bad", _ended(this), (fact,), (_mend(this, rejected, f" of {pair.canary}"),))
    again = any(t.reason == "AppliedAgain" for t in rejected.status.history)
    applied = "; the rejected template was applied again" if again else ""
    fact = (
        f"all pods run {this.running}; the Deployment is held (paused), its template "
        f"{short(this.pending)} gets no pods{applied}"
    )
    return Said("bad", _ended(this), (fact,), (_mend(this, rejected),))


def _mend(this: Situation, rejected: Release, whose: str = "") -> str:
    """What to do about a release that was taken back."""
    retry = f"`davy retry {this.name}`"
    end = rejected.status.end
    if end is not None and end.reason == "SubsetsUnseen":
        return f"mend that, then {retry}"
    return f"fix the image{whose}, or {retry}"


def _starting(this: Situation) -> Said:
    return Said("busy", f"a release of {short(this.pending)} begins; {this.running} stays stable")


def _rolling(this: Situation) -> Said:
    release = this.release
    if release is not None and release.status.phase is Phase.OVERRIDDEN:
        return Said("busy", _ended(this), ("every pod gets the new version, without steps",))
    return Said("busy", this.decided.message)


def _invalid(this: Situation) -> Said:
    world = this.world
    policy = world.policy
    assert policy is not None
    found = len([problem for problem in world.problems if not problem.warning])
    whose = "" if world.pair is not None or policy.metadata.name == world.name else f" for Deployment {world.name}"
    count = "1 problem" if found == 1 else f"{found} problems"
    headline = f"policy {world.namespace}/{policy.metadata.name} can't be used{whose}, {count}:"
    fix = "correct the policy and apply it again (`davy validate -f FILE` checks a file first)"
    if not this.pending:
        return Said("bad", headline, (), (fix,))
    which = "the Deployment" if world.pair is None else world.pair.canary
    fact = f"all pods run {this.running}; {which} is paused, its template {short(this.pending)} waits"
    return Said("bad", headline, (fact,), (fix, f"{this.rollout} rolls it out without a release"))


def _no_policy(this: Situation) -> Said:
    hint = f"apply a ReleasePolicy with spec.target.name: {this.name}"
    if this.pending:
        fact = f"the Deployment is paused, its template {short(this.pending)} gets no pods"
        return Said("bad", this.decided.message, (fact,), (f"{this.rollout} rolls it out, or {hint}",))
    return Said("waiting", f"{this.decided.message}: Kubernetes rolls out each new template by itself", (), (hint,))


def _gone(this: Situation) -> Said:
    policy, release = this.world.policy, this.release
    if any(not problem.warning for problem in this.world.problems):
        return _invalid(this)
    headline = f"there is no Deployment {this.name} in namespace {this.world.namespace}"
    if this.world.pair is not None:
        headline = f"{this.decided.message} in namespace {this.world.namespace}"
    facts = (f"its last release, {release.metadata.name}: {_ended(this)}",) if release is not None else ()
    if policy is None:
        return Said("bad", headline, facts)
    named = this.name in policy.spec.target.names
    hint = f"create it, or correct spec.target of policy {policy.metadata.name}" if named else "create it"
    return Said("bad", headline, facts, (hint,))


def _two_versions(this: Situation) -> Said:
    end = f"{this.rollout} rolls every pod to the Deployment's template; then releases start from there"
    return Said("bad", this.decided.message, ("no release can start while it is so",), (end,))


def _other(this: Situation) -> Said:
    return Said("good", this.decided.message)


_WITHOUT_RELEASE: dict[str, Callable[[Situation], Said]] = {
    "Stable": _stable,
    "Held": _held,
    "Starting": _starting,
    "Rolling": _rolling,
    "InvalidPolicy": _invalid,
    "NoPolicy": _no_policy,
    "Gone": _gone,
    "ServingHeld": _serving_held,
    "TwoVersions": _two_versions,
}
