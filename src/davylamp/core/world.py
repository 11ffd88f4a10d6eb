"""Everything relevant to the release of one Deployment, frozen at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from davylamp.api.objects import Deployment, Pod, ReplicaSet, Service
from davylamp.api.problems import Problem
from davylamp.api.types import Match, Pair, Release, ReleasePolicy, ReleaseSpec
from davylamp.api.types import Route as RouteRef
from davylamp.core import names
from davylamp.core.actions import Ref

Gate = Literal["admission", "fallback"]
"""How templates are kept from rolling: by a MutatingAdmissionPolicy, or by Deployments that stay paused."""


class Traffic(msgspec.Struct, frozen=True):
    """A policy's traffic, resolved for one Deployment: names that exist and fit, or nothing."""

    service: str = ""
    routes: tuple[RouteRef, ...] = ()
    settle_seconds: float = 5.0
    services: tuple[str, ...] = ()
    """All of them, where there are several; `service` is the first."""
    preview: str = ""
    """The Service that leads testers to the canary; it need not be there."""
    canary_service: str = ""
    """Of a pair with routes: the user's own Service for the canary."""

    @property
    def all_services(self) -> tuple[str, ...]:
        """The user's Services that are released."""
        return self.services or ((self.service,) if self.service else ())

    @property
    def touched(self) -> tuple[str, ...]:
        """Names of all Services that a release has to do with: the user's, the canary's own, the preview."""
        own = (
            name
            for service in self.all_services
            for name in (service, self.canary_service or names.canary_service(service))
        )
        return (*own, *((self.preview,) if self.preview else ()))


class Exposure(msgspec.Struct, frozen=True):
    """Who reaches the canary: every request that any of `match` matches, and `weight` percent of the others.
    `mirror` percent of the stable side's requests are copied to it besides."""

    weight: int
    match: tuple[Match, ...] = ()
    mirror: int = 0


def promised(spec: ReleaseSpec) -> Traffic:
    """What traffic means to a release from its start to its end."""
    return Traffic(spec.service, spec.routes, spec.settle_seconds, spec.services, spec.preview, spec.canary_service)


class RouteContext(msgspec.Struct, frozen=True):
    """What a router needs to know of a release, besides the objects it reads."""

    release: str
    release_uid: str
    namespace: str
    service: str
    """The user's Service; it selects the stable pods while a route is split."""
    canary_service: str
    """It selects the canary's pods: ours, or of a pair the user's own."""
    stable_hash: str = ""
    """The pod-template-hash of the stable pods."""
    canary_hash: str = ""
    canary_service_uid: str = ""
    """"" while there is none."""


class Wanted(msgspec.Struct, frozen=True):
    """The objects of a route: those to have (whole manifests of ours), and those of ours to be gone."""

    present: tuple[dict[str, Any], ...] = ()
    patches: tuple[tuple[Ref, dict[str, Any]], ...] = ()
    """Merge patches of objects of ours that exist with other content."""
    absent: tuple[tuple[Ref, str], ...] = ()
    """Objects of ours that exist and must go, with their uids."""
    collected: bool = False
    """`absent` belongs to the canary's Service, and nobody asks that Service's address meanwhile: deleting the Service
    in the foreground takes all of it away, ahead of the Service."""

    @property
    def reached(self) -> bool:
        return not (self.present or self.patches or self.absent)


class Refusal(msgspec.Struct, frozen=True):
    """Something of an exposure that a router can't do: which entry of its `match` (None: not one of them), the field
    below that, for example `header.regex`, or `mirror`; and why, with what would work instead."""

    message: str
    match: int | None = None
    field: str = ""


class Route(Protocol):
    """A router bound to the objects of one route (one Ingress, say), as they are now. Pure: it reads and answers.

    `desired` says what is left to write for an exposure (nothing: the objects are as they should be), with `None`
    for no canary route at all; `effective` reads back what the objects mean at this moment.
    """

    @property
    def name(self) -> str:
        """For people, for example `Ingress web`."""

    @property
    def service(self) -> str:
        """The user's Service whose requests are split here."""

    def desired(self, exposure: Exposure | None, context: RouteContext) -> Wanted: ...

    def prepared(self, context: RouteContext) -> Wanted:
        """What is left to write, and must be in effect, before a route may send anything to the canary's Service."""

    def remains(self, context: RouteContext) -> tuple[tuple[Ref, str], ...]:
        """What was written for that, with uids; it goes when the canary's Service does."""

    def barred(self, context: RouteContext) -> str:
        """Why requests would fail if they were split here, as the objects around are now; for people, "" if they
        would not. `desired` splits nothing then, whatever is asked, and the release is taken back."""

    def effective(self, context: RouteContext) -> Exposure | None: ...

    def converged(self, exposure: Exposure | None, context: RouteContext) -> str:
        """What is still waited for although nothing is left to write, for people: a router that has not said yet that
        it has taken the objects as they are, or that it refuses them. "" where there is nothing to wait for, or
        nothing that could be known. Without an exposure only what would bring requests to the canary counts."""

    def refusals(self, exposure: Exposure) -> tuple[Refusal, ...]:
        """What of an exposure this router can't do; a policy that asks for it never starts a release."""

    @property
    def refs(self) -> tuple[Ref, ...]:
        """The objects whose content decides where requests go; they must be unchanged for the settling time."""

    @property
    def sticky(self) -> str:
        """What keeps clients at the version that they are at whatever the weight, for people; "" for nothing."""


class Judgement(msgspec.Struct, frozen=True):
    """What the comparison of the two versions says at this moment. None of the three: more data is needed."""

    worse: bool = False
    """The canary is worse than is tolerated; never taken back."""
    good_enough: bool = False
    blind: bool = False
    """A check is without data."""
    message: str = ""
    """Why, with the numbers, and what is still needed."""
    pending: bool = False
    """A check's word is waited for: a Job is at work, or what has failed once may yet pass."""
    missed: bool = False
    """The newest look at a check has brought no measurement: no step ends on the older ones."""


class Awaited(msgspec.Struct, frozen=True):
    """A change of who reaches the canary that is written and is to take effect: what to count requests for.

    Shares are of all requests, from 0 to 1.
    """

    key: str
    """Another one for each change, and after it was put right."""
    before: float
    after: float | None
    """None where no share could tell: clients stay where they are, or only those who are chosen reach the canary."""
    sure: bool = True
    """False: who is chosen whatever the weight reaches the canary besides, so that `before` has to be measured."""
    all_of_it: bool = False
    """It moves all requests, by whatever way they come."""
    kinds: tuple[str, ...] = ()
    """Of the objects that were written: each has its own time to effect."""
    settle: float = 5.0
    """Seconds after which it counts as in effect where nothing can be measured."""


class Observation(msgspec.Struct, frozen=True):
    """What the pods' counters have told of a change since it was written."""

    awaited: Awaited
    asked: datetime
    """When it was there to be taken."""
    answer: Literal["seen", "unclear", "against", "blind"] = "unclear"
    """`against`: most lately the split was still the old one; `blind`: there is nothing that counts requests."""
    seconds: float = 0.0
    """From `asked` until it was seen."""
    stable: int = 0
    canary: int = 0
    """Requests that were counted: since the change seems to have come, or else lately."""
    moved: bool = False
    """The share has left the one before, though it is not what it should be."""
    counts: bool = True
    """The canary's pods are known to count: else nothing follows from nothing."""


class Learned(msgspec.Struct, frozen=True):
    """How long changes of one kind of object took to be seen in effect, in this process."""

    seconds: float
    """After which a change may be taken to be in effect."""
    changes: int
    """From how many that was learned."""


class World(msgspec.Struct, frozen=True):
    """One Deployment (or a pair), its policy, its releases, and what they touch.

    `release` is the one that is under way, or else the newest. `pods` are the canary's, None while they are not
    being watched yet. `endpoints` maps a Service's name to the names of the pods it offers to traffic.
    `since` says since when this process has seen an object's meaningful content unchanged (or the object absent);
    a restart forgets it, so that waiting starts again, which is the safe side.
    """

    namespace: str
    name: str
    deployment: Deployment | None
    """The one whose template is released; of a pair, the canary's."""
    policy: ReleasePolicy | None
    problems: tuple[Problem, ...] = ()
    traffic: Traffic = Traffic()
    releases: tuple[Release, ...] = ()
    replica_sets: tuple[ReplicaSet, ...] = ()
    pods: tuple[Pod, ...] | None = None
    services: Mapping[str, Service] = {}
    endpoints: Mapping[str, frozenset[str]] = {}
    routes: tuple[Route, ...] = ()
    since: Mapping[Ref, datetime] = {}
    logs: Mapping[str, str] = {}
    """Last log line by pod, where a plan asked for it."""
    gate: Gate = "admission"
    judgement: Judgement | None = None
    """Of the release that is under way; None where there is none (yet)."""
    observation: Observation | None = None
    """Of the change that was last waited for; None where nobody looks, or not yet."""
    onlooker: bool = False
    """Made by somebody who only looks: what the controller has counted is not known."""
    learned: Mapping[str, Learned] = {}
    """By kind of object, where enough was measured."""
    hands: Mapping[Ref, str] = {}
    """Who last wrote an object, where a plan asked for it: a field manager's name, "" where it isn't known."""
    pair: Pair | None = None
    """Two Deployments that take turns, in their present places."""
    partner: Deployment | None = None
    """Of a pair: the Deployment that serves."""

    @property
    def spoken(self) -> str:
        """The name by which a command means this workload: a Deployment's. (Of a pair either will do.)"""
        return self.name if self.pair is None else self.pair.canary

    @property
    def title(self) -> str:
        """For people: a Deployment, or both."""
        return self.name if self.pair is None else f"{self.pair.stable} and {self.pair.canary}"

    @property
    def serving(self) -> Deployment | None:
        """The Deployment whose pods are the stable ones."""
        return self.deployment if self.pair is None else self.partner

    @property
    def release(self) -> Release | None:
        under_way = [release for release in self.releases if release.active]
        return next(reversed(under_way or self.releases), None)
