"""What policies look up among the objects of one namespace, in dictionaries that follow the changes.

The caller keeps one `NamespaceObjects` for each namespace and calls `put` with every object that a watch brings
(new or changed) and `remove` for those that are gone: a few microseconds each. No question costs time in proportion
to the size of the namespace, only to the number of answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import msgspec

from davylamp.api.objects import (
    Deployment,
    DestinationRule,
    GatewayClass,
    GRPCRoute,
    HTTPRoute,
    Ingress,
    IngressClass,
    Service,
    VirtualService,
    without_hash,
)
from davylamp.api.types import ReleasePolicy, Route, Target
from davylamp.core import names
from davylamp.routers import senders
from davylamp.routers.decision import parse
from davylamp.routers.merging import Location, backends, upstream_of
from davylamp.routers.senders import Split

Labels = Mapping[str, str]
Watched = ReleasePolicy | Deployment | Service | Ingress | Split

_MANY = 8


class NamespaceObjects:
    """The objects of one namespace that policies refer to, by name and by what they have to do with each other.

    `ingress_classes` and `gateway_classes` are the cluster's, shared by all namespaces and kept up to date by the
    caller; `ingress_classes` is None where they may not be read.
    """

    def __init__(
        self,
        namespace: str,
        ingress_classes: Mapping[str, IngressClass] | None = None,
        gateway_classes: Mapping[str, GatewayClass] | None = None,
    ) -> None:
        self.namespace = namespace
        self.ingress_classes = ingress_classes
        self.gateway_classes: Mapping[str, GatewayClass] = gateway_classes if gateway_classes is not None else {}
        self.http_routes: dict[str, HTTPRoute] = {}
        self.grpc_routes: dict[str, GRPCRoute] = {}
        self.virtual_services: dict[str, VirtualService] = {}
        self.destination_rules: dict[str, DestinationRule] = {}
        self.policies: dict[str, ReleasePolicy] = {}
        self.deployments: dict[str, Deployment] = {}
        self.services: dict[str, Service] = {}
        self.ingresses: dict[str, Ingress] = {}
        self._pod_labels: dict[str, dict[str, str]] = {}
        self._named_targets = _Groups()  # name of a Deployment -> policies
        self._label_targets = _Selectors()
        self._deployment_labels = _Holders()
        self._pods = _Holders()  # Deployments by the labels of their pods
        self._deployment_selectors = _Selectors()
        self._service_selectors = _Selectors()
        self._policies_by_name_in_traffic = _Groups()  # "service/web" or "ingress/web" -> policies
        self._senders = _Groups()  # name of a Service -> Ingresses
        self._places = _Groups()  # Location -> Ingresses
        self._splitters = _Groups()  # type and name of a Service -> HTTPRoutes and so on
        self._hosts = _Groups()  # a host of the mesh -> VirtualServices

    @classmethod
    def of(
        cls,
        namespace: str,
        objects: Iterable[Watched],
        ingress_classes: Mapping[str, IngressClass] | None = None,
        gateway_classes: Mapping[str, GatewayClass] | None = None,
    ) -> NamespaceObjects:
        """An index of `objects`, which all must be of this namespace."""
        index = cls(namespace, ingress_classes, gateway_classes)
        for obj in objects:
            index.put(obj)
        return index

    # --- following the watches ---

    def put(self, obj: Watched) -> None:
        """Take a new or changed object in."""
        self.remove(obj)
        name = obj.metadata.name
        match obj:
            case ReleasePolicy():
                self.policies[name] = obj
            case Deployment():
                self.deployments[name] = obj
            case Service():
                self.services[name] = obj
            case Ingress():
                self.ingresses[name] = obj
            case HTTPRoute():
                self.http_routes[name] = obj
            case GRPCRoute():
                self.grpc_routes[name] = obj
            case VirtualService():
                self.virtual_services[name] = obj
            case DestinationRule():
                self.destination_rules[name] = obj
        self._index(obj, add=True)

    def remove(self, obj: Watched) -> None:
        """Let the object of this kind and name go. That it is not there is no failure."""
        name = obj.metadata.name
        match obj:
            case ReleasePolicy():
                known: Watched | None = self.policies.pop(name, None)
            case Deployment():
                known = self.deployments.pop(name, None)
            case Service():
                known = self.services.pop(name, None)
            case Ingress():
                known = self.ingresses.pop(name, None)
            case HTTPRoute():
                known = self.http_routes.pop(name, None)
            case GRPCRoute():
                known = self.grpc_routes.pop(name, None)
            case VirtualService():
                known = self.virtual_services.pop(name, None)
            case DestinationRule():
                known = self.destination_rules.pop(name, None)
        if known is not None:
            self._index(known, add=False)

    def _index(self, obj: Watched, *, add: bool) -> None:
        name = obj.metadata.name
        match obj:
            case ReleasePolicy():
                self._index_policy(obj, add=add)
            case Deployment():
                if add:
                    self._pod_labels[name] = pod_labels(obj)
                self._deployment_labels.change(name, obj.metadata.labels, add=add)
                self._pods.change(name, self._pod_labels[name], add=add)
                self._deployment_selectors.change(name, obj.spec.selector.match_labels, add=add)
                if not add:
                    del self._pod_labels[name]
            case Service():
                self._service_selectors.change(name, without_hash(obj.spec.selector), add=add)
            case Ingress():
                for service in services_of(obj):
                    self._senders.change(service, name, add=add)
                for place, _ in backends(obj):
                    self._places.change(place, name, add=add)
            case _:
                for service in senders.services_of(obj):
                    self._splitters.change((type(obj), service), name, add=add)
                if isinstance(obj, VirtualService):
                    for host in senders.names_of(obj):
                        self._hosts.change(host, name, add=add)

    def _index_policy(self, policy: ReleasePolicy, *, add: bool) -> None:
        name, target, traffic = policy.metadata.name, policy.spec.target, policy.spec.traffic
        if target.names:
            for named in target.names:
                self._named_targets.change(named, name, add=add)
        elif target.match_labels:
            self._label_targets.change(name, target.match_labels, add=add)
        for key in _named_in_traffic(policy) if traffic is not None else ():
            self._policies_by_name_in_traffic.change(key, name, add=add)

    # --- questions ---

    def targets_of(self, policy: ReleasePolicy) -> list[Deployment]:
        """The Deployments that a policy releases, by name."""
        return [self.deployments[name] for name in sorted(self._target_names(policy.spec.target))]

    def _target_names(self, target: Target) -> Iterable[str]:
        if target.names:
            return set(target.names) & self.deployments.keys() if not _twofold(target) else ()
        return self._deployment_labels.with_all(target.match_labels) if target.match_labels else ()

    def policies_of(self, deployment: Deployment) -> list[ReleasePolicy]:
        """The policies that have this Deployment as a target, by name; more than one is a conflict."""
        found = set(self._named_targets.of(deployment.metadata.name))
        found |= set(self._label_targets.satisfied_by(deployment.metadata.labels))
        usable = (self.policies[name] for name in sorted(found))
        return [policy for policy in usable if not _twofold(policy.spec.target)]

    def policies_naming_target(self, deployment: str) -> list[ReleasePolicy]:
        """The policies that name this Deployment, or one that isn't there, as their target."""
        found = (self.policies[name] for name in sorted(self._named_targets.of(deployment)))
        return [policy for policy in found if not _twofold(policy.spec.target)]

    def policies_naming(self, kind: str, name: str) -> list[ReleasePolicy]:
        """The policies that name this object in `traffic.routes`, by name."""
        return [self.policies[policy] for policy in sorted(self._policies_by_name_in_traffic.of(f"{kind}/{name}"))]

    def pod_labels_of(self, deployment: Deployment) -> Mapping[str, str]:
        """The labels that the Deployment's template gives to its pods."""
        known = self.deployments.get(deployment.metadata.name)
        return self._pod_labels[deployment.metadata.name] if known is deployment else pod_labels(deployment)

    def deployments_behind(self, selector: Labels) -> Iterator[str]:
        """Names of the Deployments whose pods have these labels. Lazily: ask for no more than needed."""
        return self._pods.with_all(selector)

    def deployments_selecting(self, labels: Labels) -> Iterator[str]:
        """Names of the Deployments whose selector is satisfied by pods with these labels."""
        for name in self._deployment_selectors.satisfied_by(labels):
            if self.deployments[name].spec.selector.matches(dict(labels)):
                yield name

    def services_selecting(self, labels: Labels) -> list[Service]:
        """The Services that select pods with these labels (but for the pod-template-hash), by name."""
        return [self.services[name] for name in sorted(self._service_selectors.satisfied_by(labels))]

    def senders_to(self, service: str) -> list[Ingress]:
        """The Ingresses that name this Service in a rule or as the default backend, by name."""
        return [self.ingresses[name] for name in sorted(self._senders.of(service))]

    def splitting(self, kind: type[Split], service: str) -> list[str]:
        """Names of the objects of `kind` that send to this Service, or are about it, in order."""
        return sorted(self._splitters.of((kind, service)))

    def virtual_services_for(self, host: str) -> list[str]:
        """Names of the VirtualServices that say where requests for this host go, in order."""
        return sorted(self._hosts.of(host))

    def ingresses_at(self, place: Location) -> list[Ingress]:
        """The Ingresses, canaries and others, that have this very place, by name."""
        return [self.ingresses[name] for name in sorted(self._places.of(place))]

    def touched_by(self, obj: Watched) -> set[str]:
        """Names of the Deployments whose resolution may change with `obj`. For a changed object ask before `put`
        and after it. (A change of the IngressClasses touches everything. Names that a message only suggests are not
        followed.)"""
        touched = self._touched_by(obj)
        for name in tuple(touched):
            for policy in self._named_targets.of(name):
                touched |= set(self.policies[policy].spec.target.names)
        return touched

    def _touched_by(self, obj: Watched) -> set[str]:
        match obj:
            case ReleasePolicy():
                return {*self._target_names(obj.spec.target), *obj.spec.target.names}
            case Deployment():
                return {obj.metadata.name, *self._around_deployment(obj)}
            case Service():
                own = obj.metadata.name.removesuffix("-canary")  # whose canary Service would have this name
                return self._touched_by_service(obj.metadata.name) | self._touched_by_service(own)
            case Ingress():
                own = obj.metadata.name.removesuffix("-davylamp")
                around = {obj.metadata.name, own, own.rpartition(".")[0]}
                around |= {name for place, _ in backends(obj) for name in self._places.of(place)}
                sending = [obj, *(self.ingresses[name] for name in around if name in self.ingresses)]
                services = {service for ingress in sending for service in services_of(ingress)}
                found = self._targets_naming(f"ingress/{obj.metadata.name}")
                return found.union(*(self._touched_by_service(service) for service in services))
            case _:
                found = self._targets_naming(f"{type(obj).__name__}/{obj.metadata.name}")
                about = senders.services_of(obj)
                about |= {name.removesuffix("-canary") for name in about}  # whose canary Service would have this name
                return found.union(*(self._touched_by_service(service) for service in about))

    def _around_deployment(self, deployment: Deployment) -> Iterator[str]:
        """Deployments that share a Service or pods with this one. (Where a Service has many Deployments it fits none
        of them, and one more changes nothing.)"""
        labels = pod_labels(deployment)
        yield from self.deployments_selecting(labels)
        yield from self._pods.with_all(deployment.spec.selector.match_labels)
        for service in self._service_selectors.satisfied_by(labels):
            selector = without_hash(self.services[service].spec.selector)
            yield from islice(self.deployments_behind(selector), _MANY)

    def _touched_by_service(self, service: str) -> set[str]:
        found = self._targets_naming(f"service/{service}")
        known = self.services.get(service)
        selector = without_hash(known.spec.selector) if known else {}
        return found | (set(self.deployments_behind(selector)) if selector else set())

    def _targets_naming(self, key: str) -> set[str]:
        policies = (self.policies[name] for name in self._policies_by_name_in_traffic.of(key))
        return {name for policy in policies for name in self._target_names(policy.spec.target)}


def _twofold(target: Target) -> bool:
    """True for one that is none, since it says more than one thing."""
    return sum(given is not None for given in (target.name, target.match_labels, target.pair)) > 1


def ours(obj: Service | Ingress | DestinationRule) -> bool:
    """True for an object that a release made."""
    labels = obj.metadata.labels
    return names.RELEASE_LABEL in labels and names.MANAGED_BY.items() <= labels.items()


def is_canary(ingress: Ingress) -> bool:
    return parse(ingress.metadata.annotations).enabled


class _TemplateMeta(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Template(msgspec.Struct):
    metadata: _TemplateMeta | None = None


_TEMPLATES = msgspec.json.Decoder(_Template)


def pod_labels(deployment: Deployment) -> dict[str, str]:
    """The labels that a Deployment's template gives to its pods."""
    metadata = _TEMPLATES.decode(deployment.spec.template).metadata
    return (metadata.labels or {}) if metadata is not None else {}


def services_of(ingress: Ingress) -> set[str]:
    """Names of the Services that an Ingress sends to."""
    found = {upstream.service for _, upstream in backends(ingress)}
    default = upstream_of(ingress.spec.default_backend)
    return found | {default.service} if default is not None else found


def _named_in_traffic(policy: ReleasePolicy) -> Iterator[str]:
    traffic = policy.spec.traffic
    if traffic is not None:
        yield from (f"service/{name}" for name in traffic.names)
        if traffic.preview is not None:
            yield f"service/{traffic.preview.service}"
        if traffic.canary_service:
            yield f"service/{traffic.canary_service}"
        yield from {key: None for route in traffic.routes for key in _named_in_route(route)}


def _named_in_route(route: Route) -> Iterator[str]:
    given = {
        "ingress": route.ingress,
        "HTTPRoute": route.http_route,
        "GRPCRoute": route.grpc_route,
        "VirtualService": route.virtual_service,
    }
    yield from (f"{kind}/{named.name}" for kind, named in given.items() if named is not None)
    if route.ingress is not None and route.ingress.canary:
        yield f"ingress/{route.ingress.canary}"


# --- the dictionaries ---


class _Groups:
    """Names by some key."""

    def __init__(self) -> None:
        self._names: dict[object, set[str]] = {}

    def change(self, key: object, name: str, *, add: bool) -> None:
        if add:
            self._names.setdefault(key, set()).add(name)
            return
        found = self._names.get(key, set())
        found.discard(name)
        if not found:
            self._names.pop(key, None)

    def of(self, key: object) -> set[str] | frozenset[str]:
        return self._names.get(key, frozenset())


class _Holders:
    """Who has certain labels: names by each pair of key and value, so that the rarest pair of a selector finds the
    few that have to be looked at."""

    def __init__(self) -> None:
        self._pairs = _Groups()
        self._labels: dict[str, Labels] = {}

    def change(self, name: str, labels: Labels, *, add: bool) -> None:
        for pair in labels.items():
            self._pairs.change(pair, name, add=add)
        if add:
            self._labels[name] = labels
        else:
            self._labels.pop(name, None)

    def with_all(self, selector: Labels) -> Iterator[str]:
        """Those that have every pair of `selector`; an empty one finds nobody."""
        groups = [self._pairs.of(pair) for pair in selector.items()]
        if groups:
            rarest = min(groups, key=len)
            yield from (name for name in rarest if selector.items() <= self._labels[name].items())


class _Selectors:
    """Who selects certain labels: each selector under the one pair of it that the fewest others are under."""

    def __init__(self) -> None:
        self._pairs = _Groups()
        self._selectors: dict[str, tuple[Labels, tuple[str, str]]] = {}

    def change(self, name: str, selector: Labels, *, add: bool) -> None:
        if add and selector:
            pair = min(selector.items(), key=lambda item: len(self._pairs.of(item)))
            self._selectors[name] = (selector, pair)
            self._pairs.change(pair, name, add=True)
        elif not add and name in self._selectors:
            _, pair = self._selectors.pop(name)
            self._pairs.change(pair, name, add=False)

    def satisfied_by(self, labels: Labels) -> list[str]:
        """Those whose selector `labels` satisfy; empty selectors select nothing."""
        return [
            name
            for pair in labels.items()
            for name in self._pairs.of(pair)
            if self._selectors[name][0].items() <= labels.items()
        ]
