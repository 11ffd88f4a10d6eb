"""Everything relevant to one Deployment, as it is known at this moment, frozen for the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from davylamp.api.objects import Deployment, Pod, ReplicaSet
from davylamp.api.problems import Problem
from davylamp.api.types import Pair, Phase, Release, ReleasePolicy
from davylamp.controller.canaries import Canary, CanaryPods
from davylamp.controller.known import Known
from davylamp.controller.since import Since
from davylamp.core.actions import Ref
from davylamp.core.judging import told
from davylamp.core.pairs import roles
from davylamp.core.world import Gate, Judgement, Learned, Observation, Route, Traffic, World, promised
from davylamp.routers.review import bind


class Sources:
    """Where a world comes from: what watches have told, since when, and the pods of canaries."""

    def __init__(self, known: Known, since: Since, pods: CanaryPods, gate: Gate = "admission") -> None:
        self.known = known
        self.since = since
        self.pods = pods
        self.gate = gate
        self.judgement: Callable[[Release], Judgement | None] = told
        """What is known of a release under way; where nobody looks here, what its status tells."""
        self.observation: Callable[[Release], Observation | None] = lambda release: None
        """What is known of the effect of the last change; nothing where nobody looks here."""
        self.onlooker = True
        """Somebody else carries out what is planned, and counts requests."""
        self.learned: Callable[[], Mapping[str, Learned]] = dict


def gather(
    sources: Sources, key: Ref, logs: Mapping[str, str] | None = None, hands: Mapping[Ref, str] | None = None
) -> World:
    """The world of the Deployment `key`, or of the pair that is kept under its name. While a release is under way, its
    own spec says what traffic means."""
    known = sources.known
    releases = tuple(map(known.resolved, known.releases_of(key.namespace, key.name)))
    active = next((release for release in reversed(releases) if release.active), None)
    policy = _policy(known, key, active)
    pair = _pair(known, key.namespace, releases, policy)
    names_of = pair.names if pair is not None else (key.name, key.name)
    partner, deployment = (known.deployments.get(key.namespace, name) for name in names_of)
    traffic, problems = _promised(active) if active is not None else _resolved(known, policy, deployment)
    services = traffic.touched
    routes = bind(traffic, known.namespace(key.namespace)) if active is not None and traffic.routes else ()
    return World(
        namespace=key.namespace,
        name=key.name,
        deployment=deployment,
        policy=policy,
        problems=problems,
        traffic=traffic,
        releases=releases,
        replica_sets=_replica_sets(known, deployment, partner if pair is not None else None, active),
        pods=_pods(sources, active),
        services={name: found for name in services if (found := known.services.get(key.namespace, name)) is not None},
        endpoints={name: _endpoints(known, key.namespace, name) for name in services},
        routes=routes,
        since=sources.since.of(key, _refs(key.namespace, services, routes), _finder(known)) if active else {},
        logs=logs or {},
        gate=sources.gate,
        judgement=sources.judgement(active) if active is not None else None,
        observation=sources.observation(active) if active is not None else None,
        onlooker=sources.onlooker,
        learned=sources.learned() if active is not None else {},
        hands=hands or {},
        pair=pair,
        partner=partner if pair is not None else None,
    )


def _policy(known: Known, key: Ref, active: Release | None) -> ReleasePolicy | None:
    if active is not None:
        return known.policies.get(key.namespace, active.spec.policy)
    deployment = known.deployments.get(key.namespace, key.name)
    if deployment is not None:
        return known.policy_of(deployment)
    named = known.policy_naming(key.namespace, key.name)
    return named if named is not None and named.spec.target.pair is not None else None


def _pair(known: Known, namespace: str, releases: tuple[Release, ...], policy: ReleasePolicy | None) -> Pair | None:
    """The two Deployments of a pair in their present places, None for a Deployment by itself."""
    active = next((release for release in reversed(releases) if release.active), None)
    if active is not None:
        at_start = active.spec.pair
        return Pair(stable=at_start.stable, canary=active.spec.deployment) if at_start is not None else None
    return _places(known, policy, releases) if policy is not None else None


def places_of(known: Known, policy: ReleasePolicy) -> Pair | None:
    """The two Deployments of a policy in their present places; None for one without a pair."""
    target, namespace = policy.spec.target, policy.metadata.namespace
    if target.pair is None:
        return None
    return _places(known, policy, tuple(known.releases_of(namespace, target.workload)))


def _places(known: Known, policy: ReleasePolicy, releases: tuple[Release, ...]) -> Pair | None:
    pair, namespace = policy.spec.target.pair, policy.metadata.namespace
    if pair is None:
        return None
    service = policy.spec.traffic.service if policy.spec.traffic is not None else None
    deployments = {name: d for name in pair.names if (d := known.deployments.get(namespace, name)) is not None}
    return roles(pair, releases, known.services.get(namespace, service) if service else None, deployments)


def canary_of(release: Release) -> Canary | None:
    """The pods of a release's canary; None while there can be none, since of a pair they have no name yet."""
    return (release.metadata.namespace, release.spec.canary.hash) if release.spec.canary.hash else None


def _promised(release: Release) -> tuple[Traffic, tuple[Problem, ...]]:
    return promised(release.spec), ()


def _resolved(
    known: Known, policy: ReleasePolicy | None, deployment: Deployment | None
) -> tuple[Traffic, tuple[Problem, ...]]:
    if policy is None or deployment is None:
        return Traffic(), ()
    resolution = known.resolution(policy, deployment)
    return resolution.traffic, resolution.problems


def _replica_sets(
    known: Known, deployment: Deployment | None, partner: Deployment | None, active: Release | None
) -> tuple[ReplicaSet, ...]:
    """The Deployment's own (and those of the other one of a pair), and the canary while the Release has it: by owner,
    since anybody may take a name. Of a Deployment that is gone the stable one is known by name until garbage
    collection comes."""
    found = known.own_of(deployment) + known.own_of(partner)
    if active is not None:
        found = found + known.replica_sets.by("owner", active.metadata.uid)
        if deployment is None:
            stable = known.replica_sets.get(active.metadata.namespace, active.spec.stable.replica_set)
            found += [stable] if stable is not None else []
    return tuple(found)


def _pods(sources: Sources, active: Release | None) -> tuple[Pod, ...] | None:
    """The canary's pods; watched from when there is a ReplicaSet that may have some."""
    if active is None:
        return None
    canary = canary_of(active)
    if canary is None:
        return ()
    return sources.pods.of(canary) if _may_have_pods(sources.known, active) else None


def _may_have_pods(known: Known, release: Release) -> bool:
    """After a restart in the middle of a rollback the ReplicaSet may be gone, and its pods not yet."""
    made = known.replica_sets.get(release.metadata.namespace, release.spec.canary.replica_set) is not None
    return made or release.status.phase is Phase.ROLLING_BACK


def _refs(namespace: str, services: Iterable[str], routes: tuple[Route, ...]) -> Iterator[Ref]:
    yield from (Ref("Service", namespace, name) for name in services)
    for route in routes:
        yield from route.refs


def _finder(known: Known) -> Callable[[Ref], Any | None]:
    return lambda ref: known.stores[ref.kind].get(ref.namespace, ref.name)


def _endpoints(known: Known, namespace: str, service: str) -> frozenset[str]:
    slices = known.endpoint_slices.by("service", (namespace, service))
    return frozenset(pod for endpoint_slice in slices for pod in endpoint_slice.ready_pods)
