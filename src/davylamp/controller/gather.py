"""Everything relevant to one Deployment, as it is known at this moment, frozen for the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from davylamp.api.objects import Deployment, Pod, ReplicaSet
from davylamp.api.problems import Problem
from davylamp.api.types import Phase, Release, ReleasePolicy
from davylamp.controller.canaries import Canary, CanaryPods
from davylamp.controller.known import Known
from davylamp.controller.since import Since
from davylamp.core.actions import Ref
from davylamp.core.judging import told
from davylamp.core.world import Gate, Judgement, Learned, Observation, Route, Traffic, World, promised
from davylamp.routers.review import bind


class Sources:
    """Where a world comes from: what watches have told, since when, and the pods of canaries."""

    def __init__(self, known: Known, since: Since, pods: CanaryPods) -> None:
        self.known = known
        self.since = since
        self.pods = pods
        self.gate: Gate = "admission"
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
    """The world of the Deployment `key`. While a release is under way, its own spec says what traffic means."""
    known = sources.known
    deployment = known.deployments.get(key.namespace, key.name)
    releases = tuple(known.releases_of(key.namespace, key.name))
    active = next((release for release in reversed(releases) if release.active), None)
    if active is not None:
        policy = known.policies.get(key.namespace, active.spec.policy)
        traffic, problems = _promised(active)
    else:
        policy = known.policy_of(deployment) if deployment is not None else None
        traffic, problems = _resolved(known, policy, deployment)
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
        replica_sets=_replica_sets(known, deployment, active),
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
    )


def canary_of(release: Release) -> Canary:
    return (release.metadata.namespace, release.spec.canary.hash)


def _promised(release: Release) -> tuple[Traffic, tuple[Problem, ...]]:
    return promised(release.spec), ()


def _resolved(
    known: Known, policy: ReleasePolicy | None, deployment: Deployment | None
) -> tuple[Traffic, tuple[Problem, ...]]:
    if policy is None or deployment is None:
        return Traffic(), ()
    resolution = known.resolution(policy, deployment)
    return resolution.traffic, resolution.problems


def _replica_sets(known: Known, deployment: Deployment | None, active: Release | None) -> tuple[ReplicaSet, ...]:
    """The Deployment's own, and the canary while the Release has it: by owner, since anybody may take a name. Of a
    Deployment that is gone the stable one is known by name until garbage collection comes."""
    found = known.replica_sets.by("owner", deployment.metadata.uid) if deployment is not None else []
    if active is not None:
        found = found + known.replica_sets.by("owner", active.metadata.uid)
        if deployment is None:
            stable = known.replica_sets.get(active.metadata.namespace, active.spec.stable.replica_set)
            found += [stable] if stable is not None else []
    return tuple(found)


def _pods(sources: Sources, active: Release | None) -> tuple[Pod, ...] | None:
    """The canary's pods; watched from when there is a ReplicaSet that may have some."""
    if active is None or not _may_have_pods(sources.known, active):
        return None
    return sources.pods.of(canary_of(active))


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
