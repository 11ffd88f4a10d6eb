"""ReleasePolicy and Release, the two kinds of davylamp.dev/v1alpha1.

A field's docstring (the string below it) is its description in the CRD; `davylamp.api.crd` reads it from here.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from davylamp.api.analysis import Analysis
from davylamp.api.objects import Condition, Meta, Slim
from davylamp.api.units import DURATION_PATTERN
from davylamp.api.verdict import AnalysisStatus

Duration = Annotated[str, msgspec.Meta(pattern=DURATION_PATTERN, min_length=2)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=100)]
IntOrPercent = int | Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,5}%$")]


class Pair(Slim, frozen=True):
    """Two Deployments of one workload: one serves, and the other, which is idle, gets the next version. When a release
    completes they change places; from then on the two fields are only the two names."""

    stable: str
    """Name of the Deployment that serves when the policy is made."""
    canary: str
    """Name of the other one."""

    @property
    def names(self) -> tuple[str, str]:
        return self.stable, self.canary


class Target(Slim, frozen=True):
    """Which Deployments a policy releases, in its own namespace: one by name, all with these labels, or a pair."""

    name: str | None = None
    """Name of the Deployment."""
    match_labels: dict[str, str] | None = None
    """Labels that a Deployment must have, all of them: one policy for a fleet."""
    pair: Pair | None = None
    """Two Deployments that take turns."""

    @property
    def names(self) -> tuple[str, ...]:
        """The Deployments that are named."""
        return self.pair.names if self.pair is not None else (self.name,) if self.name else ()

    @property
    def workload(self) -> str:
        """The name that stands for what is named: of a pair, the first of the two in the alphabet."""
        return min(self.names, default="")


class IngressRoute(Slim, frozen=True):
    name: str
    """Name of an Ingress that sends to the Service; its class must honour the ingress-nginx canary annotations."""
    canary: str | None = None
    """Of a pair: name of a canary Ingress that is there already, whose annotations carry the weight. Default: one is
    made for each release."""


class GatewayRoute(Slim, frozen=True):
    name: str
    """Name of a route of the Gateway API that sends to the Service."""


class VirtualServiceRoute(Slim, frozen=True):
    name: str
    """Name of a VirtualService that sends to the Service."""
    routes: tuple[str, ...] = ()
    """Names of its HTTP routes that are split. Default: all that send to the Service."""
    subsets: bool = False
    """Tell the versions apart by subsets of the Service's host instead of by a Service for each."""


class Route(Slim, frozen=True):
    """One place where traffic is split. Exactly one field is set."""

    ingress: IngressRoute | None = None
    """An Ingress, split by a canary Ingress beside it."""
    http_route: GatewayRoute | None = None
    """An HTTPRoute of the Gateway API, split by the weights of its backends."""
    grpc_route: GatewayRoute | None = None
    """A GRPCRoute of the Gateway API, split by the weights of its backends."""
    virtual_service: VirtualServiceRoute | None = None
    """A VirtualService of Istio, split by the weights of its destinations."""

    @property
    def by_subsets(self) -> bool:
        return self.virtual_service is not None and self.virtual_service.subsets

    @property
    def name(self) -> str:
        """Of the object; "" where nothing is set."""
        given = (self.ingress, self.http_route, self.grpc_route, self.virtual_service)
        return next((one.name for one in given if one is not None), "")


class TextMatch(Slim, frozen=True):
    """A header, cookie or query parameter, by its name and one of exact, prefix, regex and present."""

    name: str
    """Its name. Names of headers are compared without case."""
    exact: str | None = None
    """The value, all of it."""
    prefix: str | None = None
    """What the value begins with."""
    regex: str | None = None
    """A regular expression in RE2's syntax that the whole value must match."""
    present: bool = False
    """Any value will do."""


class Match(Slim, frozen=True):
    """Requests that reach the canary whatever the weight. Everything that is given must hold."""

    header: TextMatch | None = None
    """A header of the request."""
    cookie: TextMatch | None = None
    """A cookie of the request."""
    query: TextMatch | None = None
    """A query parameter of the request's URL."""
    source_labels: dict[str, str] | None = None
    """Labels of the pod that the request comes from; all of them."""


class Preview(Slim, frozen=True):
    """A way to the canary for testers, beside the users' own."""

    service: str
    """Name of a Service that selects the canary's pods while there is one. It is made for the time of the release, or
    where there is one with this name, moved to the canary's pods and given back."""


class Traffic(Slim, frozen=True):
    """How traffic reaches the workload."""

    service: str | None = None
    """Name of the Service that selects the Deployment's pods."""
    routes: tuple[Route, ...] = ()
    """Where the weight is set. None: traffic follows the number of pods."""
    match: tuple[Match, ...] = ()
    """Who always reaches the canary while there is one: whoever any of these matches. Needs a route."""
    detect: bool = False
    """Find the Service and the routes from the cluster; needed where one policy serves many Deployments."""
    settle: Duration = "5s"
    """How long a changed route is given to take effect where nothing can be measured."""
    services: tuple[str, ...] = ()
    """Instead of `service`, for a workload with several: names of all the Services that are released with it. A route
    is split for each of them that it sends to."""
    preview: Preview | None = None
    """Where testers find the canary, whatever the weight."""
    canary_service: str | None = None
    """Of a pair with routes: name of the Service of the canary's own. Default: the one that selects its pods alone."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all the Services that are named."""
        return (self.service,) if self.service else self.services


class Step(Slim, frozen=True):
    """An exposure, and the conditions for leaving it."""

    weight: Weight
    """Share of the traffic that goes to the canary, in percent."""
    replicas: IntOrPercent | None = None
    """Canary pods in this step: a number, or a percentage of the Deployment's. Default: as many as the weight needs."""
    match: tuple[Match, ...] = ()
    """Who else always reaches the canary in this step, besides those of `traffic.match`."""
    mirror: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    """Percent of the requests that are copied to the canary, whose answers nobody sees. Needs a route that can."""
    hold: Duration | None = None
    """How long the step lasts at least, counted from when its weight is in effect."""
    approve: bool = False
    """The step is left only when a person says `davy approve`."""
    compare: bool | None = None
    """Whether the step is left only with the verdict of the analysis. Default: where the weight is neither 0 nor 100.
    True makes a test of two versions of a step of `match` alone."""


OnFailure = Literal["hold", "revert"]


class ReleasePolicySpec(Slim, frozen=True):
    target: Target
    """The Deployments that this policy releases."""
    steps: tuple[Step, ...]
    """The way of a new version, from the first requests to all of them."""
    traffic: Traffic | None = None
    """How traffic reaches the workload. Leave it out for workloads without a Service."""
    analysis: Analysis | None = None
    """How the new version is compared with the old one. Leave it out to look at the pods' health only."""
    bake: Duration | None = None
    """How long the old pods stay at full size once all of the traffic is on the new version, so that a bad verdict or
    `davy abort` returns it at once. The same as a last step `{weight: 100, hold: ...}`."""
    keep_old: Duration | None = None
    """How long the old pods stay after the release has completed. A person can still return to them, by `davy abort`
    or by setting the old template; a newer template ends it."""
    on_failure: OnFailure = "hold"
    """After a rollback: `hold` leaves the rejected template in the Deployment, paused; `revert` takes it out again."""
    progress_deadline: Duration | None = None
    """How long a canary pod may take to become ready. Default: the Deployment's progressDeadlineSeconds."""
    max_extra_pods: IntOrPercent = "100%"
    """Without routes: how many canary pods may run beside the Deployment's, as a number or a percentage of them."""
    history_limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    """How many finished Releases of a Deployment are kept."""

    @property
    def way(self) -> tuple[Step, ...]:
        """The steps of a release: those of the policy, with what `bake` adds."""
        if self.bake is None:
            return self.steps
        *before, last = self.steps or (Step(0),)
        if last.weight == 100:
            return (*before, msgspec.structs.replace(last, hold=self.bake))
        return (*self.steps, Step(100, hold=self.bake))


class Found(Slim, frozen=True):
    """What `traffic` means for one Deployment, as found in the cluster."""

    deployment: str
    canary: str = ""
    """Of a pair: the Deployment that is idle, or is being released. The other one serves."""
    service: str = ""
    routes: tuple[Route, ...] = ()
    services: tuple[str, ...] = ()
    """All of them, where there are several."""


class ReleasePolicyStatus(Slim, frozen=True):
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    targets: int = 0
    """How many Deployments the policy has now."""
    found: tuple[Found, ...] = ()
    """The Service and the routes of each Deployment (of the first 20)."""


class ReleasePolicy(Slim, frozen=True):
    metadata: Meta
    spec: ReleasePolicySpec
    status: ReleasePolicyStatus = ReleasePolicyStatus()


class Phase(StrEnum):
    """Where a release stands. The first five are on the way, the others are ends."""

    PENDING = "Pending"
    PROGRESSING = "Progressing"
    PROMOTING = "Promoting"
    ROLLING_BACK = "RollingBack"
    COMPLETED = "Completed"
    ROLLED_BACK = "RolledBack"
    SUPERSEDED = "Superseded"
    WITHDRAWN = "Withdrawn"
    OVERRIDDEN = "Overridden"

    @property
    def final(self) -> bool:
        return self in (
            Phase.COMPLETED,
            Phase.ROLLED_BACK,
            Phase.SUPERSEDED,
            Phase.WITHDRAWN,
            Phase.OVERRIDDEN,
        )


class Command(Slim, frozen=True):
    """Something that a person asked for."""

    by: str = ""
    """Who asked."""
    reason: str = ""
    """Why."""


class Approval(Slim, frozen=True):
    step: Annotated[int, msgspec.Meta(ge=1)]
    """The step, counted from 1, up to which leaving is approved."""
    by: str = ""
    """Who approved."""
    reason: str = ""
    """Why."""


class UserVote(Slim, frozen=True):
    """What a user said, passed on by a person."""

    time: datetime
    user: str
    """A key that is the same for the same user."""
    bad: bool = False
    """Whether something is wrong."""
    stable: bool = False
    """The stable version served the user, not the canary."""
    note: str = ""
    """What the user said."""
    by: str = ""
    """Who passed it on."""


class Side(Slim, frozen=True):
    """One of the two versions."""

    replica_set: str
    """Name of its ReplicaSet."""
    hash: str
    """The pod-template-hash of its pods."""
    image: str = ""
    """Images of its containers, for people."""


class PairAtStart(Slim, frozen=True):
    """A pair as it was when the release began."""

    stable: str
    """Name of the Deployment that served."""
    stable_template: str
    """Hash of its pod template."""
    stable_pods: int
    """How many pods it had."""
    canary_pods: int
    """How many pods the other one had, which a rollback gives back to it, and a completed release to the one that
    served before."""
    stable_labels: dict[str, str]
    """The labels by which its pods are told from the other's."""
    canary_labels: dict[str, str]
    """The same of the other one's pods."""
    before: str = ""
    """Hash of the canary's template before it was changed; to set it back withdraws the release."""


class ReleaseSpec(Slim, frozen=True):
    """What is released and how: a copy of the policy as it was at the start, and what people asked for since."""

    policy: str
    """Name of the ReleasePolicy."""
    deployment: str
    """Name of the Deployment."""
    template: str
    """Hash of the pod template that is released."""
    stable: Side
    """The version that ran before."""
    canary: Side
    """The version that is tried."""
    steps: tuple[Step, ...]
    """The policy's steps."""
    attempt: int = 1
    """How often this template was tried."""
    pair: PairAtStart | None = None
    """Of a pair of Deployments, of which `deployment` is the canary's."""
    service: str = ""
    """The Service whose traffic is split, if any."""
    services: tuple[str, ...] = ()
    """All of them, where there are several; `service` is the first."""
    preview: str = ""
    """Name of the Service that leads testers to the canary, if any."""
    canary_service: str = ""
    """Of a pair with routes: the Service of the canary's own."""
    routes: tuple[Route, ...] = ()
    """Where it is split."""
    match: tuple[Match, ...] = ()
    """Who always reaches the canary."""
    analysis: Analysis | None = None
    """How the canary is compared with stable."""
    settle_seconds: float = 5
    """How long a changed route is given to take effect."""
    keep_old_seconds: float = 0
    """How long the old pods stay after the release has completed."""
    on_failure: OnFailure = "hold"
    """What becomes of the Deployment's template after a rollback."""
    progress_deadline_seconds: int = 600
    """How long a canary pod may take to become ready."""
    max_extra_pods: IntOrPercent = "100%"
    """Without routes: how many canary pods may run beside the Deployment's."""
    paused: Command | None = None
    """A person halted the release where it is."""
    abort: Command | None = None
    """A person wants the release taken back."""
    promote: Command | None = None
    """A person wants the release completed now, whatever steps are left."""
    approved: Approval | None = None
    """A person approved leaving a step."""
    retry: Command | None = None
    """A person wants the rejected template tried again."""
    feedback: tuple[UserVote, ...] = ()
    """What users said, as people passed it on."""

    @property
    def all_services(self) -> tuple[str, ...]:
        """Names of the user's Services whose traffic is split."""
        return self.services or ((self.service,) if self.service else ())

    @property
    def workload(self) -> str:
        """The name under which its releases are kept: see `Target.workload`."""
        return min(self.deployment, self.pair.stable) if self.pair is not None else self.deployment

    @property
    def deployments(self) -> tuple[str, ...]:
        """All that it changes."""
        return (self.deployment,) if self.pair is None else (self.deployment, self.pair.stable)


class Transition(Slim, frozen=True):
    time: datetime
    reason: str
    message: str = ""


class WeightStatus(Slim, frozen=True):
    asked: int = 0
    """The weight that was asked for, in percent."""
    in_effect: float = 0
    """The weight that is in effect, in percent."""
    how: str = ""
    """How that is known."""
    asked_at: datetime | None = None
    """When it was there to be taken."""


class End(Slim, frozen=True):
    """Where a rollback leads, and why."""

    phase: Phase
    reason: str
    message: str


class ReleaseStatus(Slim, frozen=True):
    observed_generation: int = 0
    phase: Phase = Phase.PENDING
    step: int = 0
    """The step that is in effect, counted from 1; 0 before the first."""
    step_since: datetime | None = None
    """When the step's weight was in effect."""
    weight: WeightStatus = WeightStatus()
    cleared: int = 0
    """The last step whose verdict was waited for and came, or is waited for no longer."""
    analysis: AnalysisStatus | None = None
    """What the comparison of the two versions has found so far."""
    message: str = ""
    """What happens, or what happened, in a sentence."""
    end: End | None = None
    """Where a rollback leads to, while it is under way and after."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    kept_until: datetime | None = None
    """Until when the old pods stay; set while a completed release keeps them."""
    conditions: tuple[Condition, ...] = ()
    history: tuple[Transition, ...] = ()
    """The last 20 transitions."""


class Release(Slim, frozen=True):
    metadata: Meta
    spec: ReleaseSpec
    status: ReleaseStatus = ReleaseStatus()

    @property
    def active(self) -> bool:
        """True while there is something left to do for it."""
        return not self.status.phase.final or self.keeping

    @property
    def keeping(self) -> bool:
        """True while it is completed, but for the old pods that it keeps."""
        return self.status.phase is Phase.COMPLETED and self.status.kept_until is not None
