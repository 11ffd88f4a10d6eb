"""What a person sees of one workload: one model for the command line, the terminal and the web.

`view(world, now)` is pure. It asks the same `plan` that the controller follows, so that what is said to happen is
what does happen, and it never invents: a number that isn't known is None.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from davylamp.api.objects import Pod, ReplicaSet
from davylamp.api.problems import Problem
from davylamp.api.types import Approval, Command, Phase, Release, Route, Transition
from davylamp.api.verdict import Answer
from davylamp.core import manifests
from davylamp.core.case import Case, case_of
from davylamp.core.plan import Plan, plan
from davylamp.core.start import active
from davylamp.core.world import World
from davylamp.view import pods, progress
from davylamp.view.pods import PodView
from davylamp.view.progress import StepView, WaitsView
from davylamp.view.sentences import Situation, Tone, say

__all__ = ["PodView", "SideView", "StepView", "WaitsView", "WorkloadView", "view"]


class Shown(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what is shown: camelCase in JSON, and every field always there for scripts."""


class ServedView(Shown, frozen=True):
    """What a version has served since the analysis began, as far as it was measured."""

    requests: int
    failures: int
    slow: float | None
    """Seconds within which `quantile` of the requests were answered."""
    quantile: float


class CheckView(Shown, frozen=True):
    name: str
    good: bool
    message: str
    evidence: float
    """That the canary is worse, to 1; alone it suffices at `needed`."""
    needed: float
    requests: tuple[int, ...]
    failures: tuple[int, ...]


class VerdictView(Shown, frozen=True):
    """What the comparison of the two versions says."""

    answer: Answer
    blind: bool
    """A check is without data."""
    message: str
    since: datetime | None
    looked_at: datetime | None
    checks: tuple[CheckView, ...]
    limits: tuple[str, ...]
    problems: tuple[str, ...]


class SideView(Shown, frozen=True):
    """One of the two versions."""

    role: Literal["stable", "canary"]
    deployment: str
    """Of a pair: the Deployment that it is; otherwise empty, since both belong to one."""
    image: str
    replica_set: str
    hash: str
    """The pod-template-hash of its pods."""
    ready: int
    wanted: int
    share: float | None
    """Percent of the traffic that is known to reach it; None where no release splits traffic."""
    served: ServedView | None
    """None where nothing is measured."""
    pods: tuple[PodView, ...] | None
    """None where they were not asked for."""


class WeightView(Shown, frozen=True):
    """The canary's share of the traffic, in percent."""

    asked: int
    in_effect: float
    how: str
    """How the weight in effect is known."""
    since: datetime | None
    """Since when it is, where that is known."""
    asked_at: datetime | None = None
    """When it was asked for, where that is known and it is in effect."""


class ReleaseView(Shown, frozen=True):
    name: str
    attempt: int
    phase: Phase
    step: int
    """The step in effect, counted from 1; 0 before the first."""
    policy: str
    service: str
    routes: tuple[Route, ...]
    started_at: datetime | None
    finished_at: datetime | None
    paused: Command | None
    abort: Command | None
    promote: Command | None
    approved: Approval | None


class WorkloadView(Shown, frozen=True):
    """A Deployment, its policy and its newest release, as a person wants to read them."""

    namespace: str
    name: str
    """The Deployment's; of a pair that of the first of the two in the alphabet."""
    title: str
    """The same for people: of a pair, both names."""
    state: str
    """In one word: a release's phase, `Paused` or `AwaitingApproval`; without a release under way `Stable`, `Held`,
    `Starting`, `Rolling`, `InvalidPolicy`, `NoPolicy`, `Gone`, `TwoVersions` or `NoPods`; of a pair also
    `ServingHeld`."""
    tone: Tone
    headline: str
    """What is, in a sentence."""
    facts: tuple[str, ...]
    """What else should be known, where something is wrong."""
    next: tuple[str, ...]
    """What a person can do about it. Commands are in backticks."""
    message: str
    """What the controller does now."""
    acting: bool
    """There is something for it to write just now."""
    waits: WaitsView | None
    policy: str
    problems: tuple[Problem, ...]
    release: ReleaseView | None
    """The one under way, or the finished one that explains the present."""
    stable: SideView | None
    canary: SideView | None
    pending_image: str
    """Of the template that the Deployment asks for and that gets no pods; "" where there is none."""
    weight: WeightView | None
    verdict: VerdictView | None
    """Of the release under way or the one that is told of; None where it has no analysis, or none yet."""
    steps: tuple[StepView, ...]
    since: datetime | None
    """When the release under way began, or the last one ended."""
    history: tuple[Transition, ...]

    @property
    def under_way(self) -> bool:
        return self.release is not None and self.release.finished_at is None and not self.release.phase.final

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep the policy from being used."""
        return tuple(problem for problem in self.problems if not problem.warning)


def view(world: World, now: datetime, *, stable_pods: tuple[Pod, ...] | None = None) -> WorkloadView:
    """What a person sees of this world. The canary's pods are the world's; `stable_pods` are given beside it."""
    decided, case = plan(world, now), case_of(world)
    release = case.release if case is not None else _told(world, decided)
    going = progress.of(case, decided, now) if case is not None else None
    state = going.state if going is not None else decided.reason
    pending = "" if case is not None else _pending(world, decided)
    stable = _stable_side(world, case, stable_pods)
    said = say(Situation(world, now, state, decided, release, case, going, pending))
    weight = _weight(case, going.asked) if case is not None and going is not None else None
    return WorkloadView(
        namespace=world.namespace,
        name=world.name,
        title=world.title,
        state=state,
        tone=said.tone,
        headline=said.headline,
        facts=said.facts,
        next=said.next,
        message=going.message if going is not None else decided.message,
        acting=bool(decided.actions) and not (going is not None and going.trouble),
        waits=going.waits if going is not None else None,
        policy=world.policy.metadata.name if world.policy is not None else "",
        problems=world.problems,
        release=_release(release) if release is not None else None,
        stable=_with_share(_served(stable, case), weight, canary=False),
        canary=_with_share(_served(_canary_side(case), case), weight, canary=True) if case is not None else None,
        pending_image=pending,
        weight=weight,
        verdict=verdict_of(release) if release is not None else None,
        steps=progress.steps(release, going) if release is not None else (),
        since=_since(release) if release is not None else None,
        history=release.status.history if release is not None else (),
    )


def _told(world: World, decided: Plan) -> Release | None:
    """The finished release that explains the present, if one does."""
    newest = world.release
    match decided.reason:
        case "Held":
            return progress.rejected(world)
        case "Stable" | "Gone" | "PointedBack":
            return newest
        case "Rolling" if newest is not None and newest.status.phase is Phase.OVERRIDDEN:
            return newest
    return None


def _pending(world: World, decided: Plan) -> str:
    """Images of a template that nobody runs because the Deployment is paused."""
    deployment = world.deployment
    if deployment is None or not deployment.spec.paused or decided.reason in ("Stable", "Gone", "NoPods"):
        # Of a pair the idle one isn't paused where a person asks for its template as it is.
        return manifests.images(deployment.spec.template) if deployment and decided.reason == "Starting" else ""
    running = {rs.spec.template_hash for rs in active(world)}
    if progress.template(world) in running:
        return ""
    return manifests.images(deployment.spec.template)


def _release(release: Release) -> ReleaseView:
    spec, status = release.spec, release.status
    return ReleaseView(
        name=release.metadata.name,
        attempt=spec.attempt,
        phase=status.phase,
        step=status.step,
        policy=spec.policy,
        service=spec.service,
        routes=spec.routes,
        started_at=status.started_at or release.metadata.creation_timestamp,
        finished_at=status.finished_at,
        paused=spec.paused,
        abort=spec.abort,
        promote=spec.promote,
        approved=spec.approved,
    )


def _since(release: Release) -> datetime | None:
    status = release.status
    return status.finished_at or status.started_at or release.metadata.creation_timestamp


def _weight(case: Case, asked: int) -> WeightView:
    status = case.release.status
    if case.adopted:
        return _weight_of_adopted(case, asked)
    if case.canary is None and not case.living_pods:
        return WeightView(asked, 0, "no pods", None)
    asked_at = status.weight.asked_at if status.weight.asked == asked else None
    return WeightView(asked, status.weight.in_effect, status.weight.how, status.step_since, asked_at)


def _weight_of_adopted(case: Case, asked: int) -> WeightView:
    """Once the canary's pods are the Deployment's, the Service or the pods themselves tell the weight."""
    old = case.stable.status.ready_replicas if case.stable is not None else 0
    new = case.canary.status.ready_replicas if case.canary is not None else 0
    if case.pair is not None and not case.switched:
        return WeightView(asked, 100, "all pods that serve", None)
    if case.switched:
        return WeightView(asked, 100, f"Service {case.services[0].metadata.name} selects only them", None)
    if case.routed and case.pinned:
        return WeightView(asked, case.release.status.weight.in_effect, case.release.status.weight.how, None)
    weight = round(100 * new / (old + new), 1) if new else 0
    return WeightView(asked, weight, f"{new} of {old + new} pods" if old else "all pods", None)


def _stable_side(world: World, case: Case | None, found: tuple[Pod, ...] | None) -> SideView | None:
    if case is not None:
        side, pair = case.release.spec.stable, case.pair
        return _side("stable", pair.stable if pair else "", side.image, side.replica_set, side.hash, case.stable, found)
    running = active(world)
    if len(running) != 1:
        return None
    rs = running[0]
    image = manifests.images(rs.spec.template)
    name = world.pair.stable if world.pair is not None else ""
    return _side("stable", name, image, rs.metadata.name, rs.metadata.labels.get("pod-template-hash", ""), rs, found)


def _canary_side(case: Case) -> SideView:
    side = case.release.spec.canary
    return _side(
        "canary",
        case.release.spec.deployment if case.pair else "",
        side.image,
        side.replica_set,
        side.hash,
        case.canary,
        case.world.pods,
    )


def _side(
    role: Literal["stable", "canary"],
    deployment: str,
    image: str,
    name: str,
    pod_hash: str,
    replica_set: ReplicaSet | None,
    found: tuple[Pod, ...] | None,
) -> SideView:
    return SideView(
        role=role,
        deployment=deployment,
        image=image,
        replica_set=name,
        hash=pod_hash,
        ready=replica_set.status.ready_replicas if replica_set is not None else 0,
        wanted=replica_set.spec.replicas if replica_set is not None else 0,
        share=None,
        served=None,
        pods=None if found is None else pods.of(found),
    )


def _served(side: SideView | None, case: Case | None) -> SideView | None:
    """`side` with what it has served, while a release is analysed."""
    analysis = case.release.spec.analysis if case is not None else None
    found = case.release.status.analysis if case is not None else None
    if side is None or analysis is None or found is None:
        return side
    counted = found.stable if side.role == "stable" else found.canary
    quantile = next((check.latency.quantile for check in analysis.checks if check.latency is not None), 0.99)
    served = ServedView(counted.requests, counted.failures, counted.slow, quantile)
    return msgspec.structs.replace(side, served=served)


def verdict_of(release: Release) -> VerdictView | None:
    """What the comparison in this release has found, None where there is none (yet)."""
    found = release.status.analysis
    if found is None:
        return None
    checks = tuple(
        CheckView(one.name, one.good, one.message, one.evidence, one.needed, one.requests, one.failures)
        for one in found.checks
    )
    return VerdictView(
        found.answer,
        found.blind,
        found.message,
        found.since,
        found.looked_at,
        checks,
        found.limits,
        found.problems,
    )


def _with_share(side: SideView | None, weight: WeightView | None, *, canary: bool) -> SideView | None:
    if side is None or weight is None:
        return side
    share = weight.in_effect if canary else round(100 - weight.in_effect, 1)
    return msgspec.structs.replace(side, share=share)
