"""plan(world, now): what to do next for one Deployment, and why.

A release goes Pending -> Progressing -> Promoting -> Completed, or from anywhere before the adoption through
RollingBack to one of RolledBack, Superseded, Withdrawn, Overridden. The policies below are asked in this order,
and the first that has something to say decides. The order is the design:

    leaving     somebody deletes the Release, the policy or the Deployment: traffic away first, then everything
    turning     a way back that was begun is finished, whatever changed meanwhile
    adopted     the canary's pods are the Deployment's (of a pair: it has taken over): only forward
    overridden  somebody resumed the Deployment: Kubernetes' own way wins
    withdrawn   the template is stable's again
    superseded  a newer template came
    aborted     a person wants it back
    keeping     it is completed, and the old pods stay for a while: nothing that follows takes it back
    unhealthy   the canary's pods can't live
    worse       the canary fails, is slow or is complained about more than is tolerated
    barred      splitting the route would fail requests, by what others have changed
    promoting   a person wants it done now, or stable is gone
    stepping    the steps, in turn
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from davylamp.api.types import Command, Phase, WeightStatus
from davylamp.api.units import readable, seconds
from davylamp.core import health, names, status, subsets
from davylamp.core.actions import Patch
from davylamp.core.case import Case, case_of, rolling_back
from davylamp.core.decision import LogWanted, Plan
from davylamp.core.drift import drifted, put_right
from davylamp.core.effect import AT_LEAST, Missing, awaited, counted, seen_of
from davylamp.core.judging import awaits, ends_early, worse
from davylamp.core.pair_start import watch_over_pair
from davylamp.core.promotion import finish, give_back, give_over, keeping, overtaken, promote
from davylamp.core.rollback import take_back, turn_back
from davylamp.core.start import watch_over
from davylamp.core.step import bring_about, by_pods, reach_of, saturable
from davylamp.core.world import World

__all__ = ["LogWanted", "Plan", "plan"]

Policy = Callable[[Case, datetime], Plan | None]


def plan(world: World, now: datetime) -> Plan:
    """What to do next for the Deployment of this world. Pure: the same world gives the same plan."""
    case = case_of(world)
    if case is None:
        return watch_over(world, now) if world.pair is None else watch_over_pair(world, now)
    for policy in POLICIES:
        decided = policy(case, now)
        if decided is not None:
            return decided
    raise AssertionError("the last policy always decides")


def leaving(case: Case, now: datetime) -> Plan | None:
    """Deleting a Release (or what it hangs on) takes the traffic away before any pod goes."""
    release, policy = case.release, case.world.policy
    deleted = release.metadata.deletion_timestamp is not None
    if deleted and not release.active:
        return Plan((_let_go(case),), "Deleted", f"release {release.metadata.name} is deleted")
    unwanted = policy is None or policy.metadata.deletion_timestamp is not None or case.deployment is None
    if not (deleted or unwanted):
        return None
    if case.adopted and case.deployment is not None:
        return finish(case, now)
    if release.keeping and case.deployment is not None:
        return give_over(case, "it is deleted, and the old pods with it")
    if not rolling_back(release):
        gone = "the Release" if deleted else "the Deployment" if case.deployment is None else "the policy"
        return turn_back(case, now, Phase.WITHDRAWN, "Deleted", f"{gone} was deleted during the release")
    return None


def _let_go(case: Case) -> Patch:
    kept = [name for name in case.release.metadata.finalizers if name != names.FINALIZER]
    meta = case.release.metadata
    patch = {"metadata": {"resourceVersion": meta.resource_version, "finalizers": kept or None}}
    return Patch(case.ref("Release", meta.name), patch)


def turning(case: Case, now: datetime) -> Plan | None:
    end = case.release.status.end
    if not rolling_back(case.release) or end is None:
        return None
    if case.adopted and case.deployment is not None:
        return finish(case, now)
    return take_back(case, end, now)


def adopted(case: Case, now: datetime) -> Plan | None:
    if not case.adopted:
        return None
    return give_back(case) if overtaken(case) else finish(case, now)


def overridden(case: Case, now: datetime) -> Plan | None:
    assert case.deployment is not None
    if case.deployment.spec.paused or case.pair is not None:
        return None
    message = "somebody resumed the Deployment: Kubernetes rolls it out by itself"
    return turn_back(case, now, Phase.OVERRIDDEN, "Resumed", message)


def withdrawn(case: Case, now: datetime) -> Plan | None:
    if case.pair is not None:
        if case.pair.before != case.template or case.template == case.release.spec.template:
            return None
        message = "the template was set back to what it was before"
        return turn_back(case, now, Phase.WITHDRAWN, "Withdrawn", message)
    stable = case.stable
    if stable is None or stable.spec.template_hash != case.template:
        return None
    return turn_back(case, now, Phase.WITHDRAWN, "Withdrawn", "the template was set back to the stable one")


def superseded(case: Case, now: datetime) -> Plan | None:
    if case.template == case.release.spec.template:
        return None
    if case.release.keeping:
        return give_over(case, "a newer template came; the old pods go")
    return turn_back(case, now, Phase.SUPERSEDED, "Superseded", "a newer template came")


def aborted(case: Case, now: datetime) -> Plan | None:
    abort = case.release.spec.abort
    if abort is None:
        return None
    return turn_back(case, now, Phase.ROLLED_BACK, "Aborted", f"aborted{_said(abort)}")


def _said(command: Command) -> str:
    by = f" by {command.by}" if command.by else ""
    return f"{by}: {command.reason}" if command.reason else by


def unhealthy(case: Case, now: datetime) -> Plan | None:
    illness = _illness(case, now)
    if not isinstance(illness, health.Illness):
        return None
    if illness.log is not None:
        return Plan((), illness.reason, illness.message, log_wanted=illness.log)
    return turn_back(case, now, Phase.ROLLED_BACK, illness.reason, illness.message)


def _illness(case: Case, now: datetime) -> health.Illness | datetime | None:
    return health.diagnose(
        case.living_pods,
        case.canary,
        deadline=timedelta(seconds=case.release.spec.progress_deadline_seconds),
        served=case.release.status.step > 0,
        logs=case.world.logs,
        now=now,
    )


def barred(case: Case, now: datetime) -> Plan | None:
    """All of the traffic needs no split, and without stable pods there is no way back: there it goes on without."""
    found = subsets.barred(case)
    if not found or case.switched or case.stable is None:
        return None
    return turn_back(case, now, Phase.ROLLED_BACK, "SubsetsUnseen", found)


def promoting(case: Case, now: datetime) -> Plan | None:
    if case.release.spec.promote is not None:
        return promote(case, now)
    assert case.deployment is not None
    gone = ""
    if case.pair is not None:
        gone = f"Deployment {case.pair.stable}" if case.partner is None else ""
    elif case.stable is None and case.deployment.spec.replicas > 0 and case.canary is not None:
        gone = f"stable ReplicaSet {case.release.spec.stable.replica_set}"
    if gone:
        rest = promote(case, now)
        return Plan(rest.actions, rest.reason, f"{gone} is gone; {rest.message}", rest.wake_at)
    return None


def stepping(case: Case, now: datetime) -> Plan:
    """The step that is in effect is kept in effect; when it may be left, the next one is brought about."""
    decided = _leave(case, now) if case.release.status.step else _enter(case, 1, now)
    failing = _illness(case, now)
    if isinstance(failing, datetime) and (decided.wake_at is None or failing < decided.wake_at):
        return msgspec.structs.replace(decided, wake_at=failing)
    return decided


def _leave(case: Case, now: datetime) -> Plan:
    """Whether the step in effect may be left; until then it is kept in effect, whoever changes what it rests on."""
    release = case.release
    number = release.status.step
    waiting = _waits(case, number, now)
    if waiting is None:
        return promote(case, now) if number == len(release.spec.steps) else _enter(case, number + 1, now)
    step = release.spec.steps[number - 1]
    off = drifted(case, step)
    if off:
        return put_right(case, off, now)
    kept = bring_about(case, step, now)
    if isinstance(kept, Missing) and kept.actions:
        return Plan(kept.actions, "Converging", kept.message, kept.wake_at)
    return _counting(case, waiting, now)


def _counting(case: Case, waiting: Plan, now: datetime) -> Plan:
    """What is waited for; and for some time, what requests say of a split that the number of pods makes."""
    awaited_, since = by_pods(case), case.release.status.step_since or now
    until = since + timedelta(seconds=AT_LEAST)
    found = seen_of(case, awaited_) if awaited_ is not None else None
    if awaited_ is None or case.release.spec.paused is not None:
        return waiting
    if found is not None and found.answer == "seen":
        weight = case.release.status.weight
        how = f"{weight.how}, {counted(found)}"
        phase, message = Phase.PROGRESSING, f"by {how}"
        told = msgspec.structs.replace(weight, how=how)
        written = status.entered(case.release, now, phase=phase, reason="Counted", message=message, weight=told)
        return Plan((written,), "Counted", message)
    if until <= now:
        return waiting
    wake_at = until if waiting.wake_at is None else min(until, waiting.wake_at)
    return msgspec.structs.replace(waiting, awaited=awaited_, wake_at=wake_at)


def _waits(case: Case, number: int, now: datetime) -> Plan | None:
    """What step `number` still waits for, if anything. Once it waits for nothing that stays so."""
    release = case.release
    step = release.spec.steps[number - 1]
    if release.spec.paused is not None:
        return Plan((), "Paused", f"paused{_said(release.spec.paused)}")
    over = (release.status.step_since or now) + timedelta(seconds=seconds(step.hold) if step.hold else 0)
    if over > now and not ends_early(case, number):
        left = readable((over - now).total_seconds())
        return Plan((), "Holding", f"step {number} holds for another {left}", over)
    unsettled = awaits(case, number, now)
    if unsettled is not None:
        return unsettled
    approved = release.spec.approved.step if release.spec.approved else 0
    if step.approve and approved < number:
        deployment = release.spec.deployment
        return Plan((), "AwaitingApproval", f"step {number} waits for approval: `davy approve {deployment}`")
    return None


def _enter(case: Case, number: int, now: datetime) -> Plan:
    release = case.release
    step = release.spec.steps[number - 1]
    if release.spec.paused is not None:
        return Plan((), "Paused", f"paused before step {number}{_said(release.spec.paused)}")
    if step.weight == 100 and not saturable(case):
        return promote(case, now)
    stood = seen_of(case, awaited(case, step)) is not None
    off = drifted(case, step) if stood else ()
    if off:
        return put_right(case, off, now)
    reached = bring_about(case, step, now)
    if isinstance(reached, Missing):
        return _missing(case, number, reached, now)
    if number == len(release.spec.steps) and step.weight == 100 and not (step.hold or step.approve):
        return promote(case, now)
    weight = WeightStatus(step.weight, reached.weight, reached.how, reached.asked)
    reach = reach_of(case, step)
    message = f"step {number} of {len(release.spec.steps)}: {reach} to {release.spec.canary.image}"
    written = status.in_effect(release, now, number, weight, message)
    if not step.approve:
        told = case.announce("StepInEffect", f"{message} is in effect", detail=True, key=str(number))
        return Plan((told, written), "StepInEffect", message)
    text = f"{message} is in effect; then it waits for approval: `davy approve {release.spec.deployment}`"
    return Plan((case.announce("ApprovalNeeded", text, key=str(number)), written), "StepInEffect", message)


def _missing(case: Case, number: int, missing: Missing, now: datetime) -> Plan:
    """What step `number` waits for; that it is not in effect long after it should be is told, once."""
    message = f"step {number}: {missing.message}"
    plan_ = Plan(missing.actions, "Converging", message, missing.wake_at, awaited=missing.awaited)
    since = case.release.status.step_since
    told_ = [one for one in case.release.status.history if one.reason == "NotInEffect"]
    if not missing.overdue or any(since is None or one.time > since for one in told_):
        return plan_
    text = f"{message}; it is waited for. Do requests come past the route, or does it not reach the proxies?"
    written = status.entered(case.release, now, phase=Phase.PROGRESSING, reason="NotInEffect", message=text)
    event = case.announce("NotInEffect", text, warning=True, key=str(number))
    return msgspec.structs.replace(plan_, actions=(event, written))


POLICIES: tuple[Policy, ...] = (
    leaving,
    turning,
    adopted,
    overridden,
    withdrawn,
    superseded,
    aborted,
    keeping,
    unhealthy,
    worse,
    barred,
    promoting,
    stepping,
)
