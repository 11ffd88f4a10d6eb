"""What is wrong with the Deployment and the Service of a policy."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from davylamp.api.objects import HASH_LABEL, Deployment, Service, without_hash
from davylamp.api.problems import Problem
from davylamp.api.types import ReleasePolicy, Traffic
from davylamp.core import names
from davylamp.routers.namespace import NamespaceObjects, ours
from davylamp.routers.wording import instead, labels, some

TARGET = "spec.target"
SERVICE = "spec.traffic.service"


def missing_target(policy: ReleasePolicy, objects: NamespaceObjects) -> Iterator[Problem]:
    """No Deployment at all. For a fleet that is no error: the first one may come later."""
    target, namespace = policy.spec.target, objects.namespace
    if target.name and target.match_labels is None:
        hint = instead(target.name, objects.deployments)
        yield Problem("spec.target.name", f'no Deployment "{target.name}" in {namespace}; {hint}')
    elif target.match_labels and not target.name:
        yield Problem(
            "spec.target.matchLabels",
            f"no Deployment in {namespace} has {labels(target.match_labels)}",
            warning=True,
        )


def problems_of_deployment(
    policy: ReleasePolicy, deployment: Deployment, objects: NamespaceObjects
) -> Iterator[Problem]:
    name = deployment.metadata.name
    yield from claimed(policy, deployment, objects, TARGET)
    if deployment.spec.strategy.type == "Recreate":
        yield Problem(
            TARGET,
            f'Deployment "{name}" has strategy Recreate, which never runs two versions at a time: '
            "set spec.strategy.type to RollingUpdate",
        )
    yield from overlaps(deployment, objects, TARGET)


def claimed(policy: ReleasePolicy, deployment: Deployment, objects: NamespaceObjects, path: str) -> Iterator[Problem]:
    """Several policies for one Deployment."""
    name = deployment.metadata.name
    claims = {other.metadata.name for other in objects.policies_of(deployment)} | {policy.metadata.name}
    if len(claims) > 1:
        listed = " and ".join(f'"{claim}"' for claim in sorted(claims))
        yield Problem(
            path,
            f'Deployment "{name}" is the target of the ReleasePolicies {listed}: only one may have it, '
            "so none of them is used for it",
        )


def overlaps(deployment: Deployment, objects: NamespaceObjects, path: str) -> Iterator[Problem]:
    """Two Deployments that select each other's pods fight over ReplicaSets, a canary's among them."""
    name, selector = deployment.metadata.name, deployment.spec.selector.match_labels
    selecting = objects.deployments_selecting(objects.pod_labels_of(deployment))
    for other in islice((other for other in selecting if other != name), 3):
        yield Problem(
            path,
            f'Deployment "{other}" selects the pods of Deployment "{name}" as well '
            f"({labels(objects.deployments[other].spec.selector.match_labels)}): give each its own labels",
        )
    for other in islice((other for other in objects.deployments_behind(selector) if other != name), 3):
        yield Problem(
            path,
            f'Deployment "{name}" selects the pods of Deployment "{other}" as well ({labels(selector)}): '
            "give each its own labels",
        )


# --- Service ---


def missing_service(path: str, name: str, deployment: Deployment, objects: NamespaceObjects) -> Problem:
    pod_labels = objects.pod_labels_of(deployment)
    fitting = [s.metadata.name for s in objects.services_selecting(pod_labels) if not ours(s)]
    if fitting:
        hint = f'those that select the pods of Deployment "{deployment.metadata.name}": {some(fitting)}'
    else:
        hint = instead(name, (other.metadata.name for other in objects.services.values() if not ours(other)))
    return Problem(path, f'no Service "{name}" in {objects.namespace}; {hint}')


def problems_of_service(service: Service, deployment: Deployment, objects: NamespaceObjects) -> Iterator[str]:
    """Why a Service can't be the one of this Deployment; each begins with the Service."""
    yield from problems_of_type(service)
    if service.spec.type == "ExternalName" or ours(service) or not without_hash(service.spec.selector):
        return
    name = f'Service "{service.metadata.name}"'
    yield from _selection(name, without_hash(service.spec.selector), deployment, objects)


def problems_of_type(service: Service) -> Iterator[str]:
    """Why the requests of a Service can't be split, whatever it selects."""
    name = f'Service "{service.metadata.name}"'
    spec = service.spec
    if spec.type == "ExternalName":
        yield f"{name} has type ExternalName: it is a name in DNS and selects no pods; name the Service behind it"
        return
    if ours(service):
        yield f"{name} is a release's own canary Service: name the one that it was made from"
        return
    if not without_hash(spec.selector):
        yield f"{name} has no selector: its endpoints are somebody else's, so no pods can be told apart"
        return
    if spec.cluster_ip == "None":
        yield (
            f"{name} is headless (clusterIP: None): its clients choose pods themselves from DNS answers that they may "
            "keep, so no share can be set or seen; name a Service with an address, or leave traffic out"
        )
    if spec.publish_not_ready_addresses:
        yield f"{name} has publishNotReadyAddresses: true: canary pods would get requests before they are ready"
    if HASH_LABEL in spec.selector and names.PINNED_BY not in service.metadata.annotations:
        yield (
            f"{name} selects by {HASH_LABEL} itself ({spec.selector[HASH_LABEL]}): that label changes with each "
            "version and is set here by a release; take it out of the selector"
        )


def _selection(name: str, selector: dict[str, str], deployment: Deployment, objects: NamespaceObjects) -> Iterator[str]:
    pod_labels, target = objects.pod_labels_of(deployment), deployment.metadata.name
    wrong = {key: value for key, value in selector.items() if pod_labels.get(key) != value}
    if wrong:
        have = {key: pod_labels[key] for key in wrong if key in pod_labels}
        found = f"they have {labels(have)}" if have else "they have no such label"
        yield f'{name} doesn\'t select the pods of Deployment "{target}": it wants {labels(wrong)}, {found}'
        return
    others = list(islice((other for other in objects.deployments_behind(selector) if other != target), 4))
    if others:
        yield (
            f"{name} selects pods of other Deployments too ({some(others, 3)}), which would get none of its requests "
            f"during a release: give it a selector that only the pods of {target} have"
        )


def taken_service(service: str, objects: NamespaceObjects) -> Iterator[str]:
    """The name of our canary Service, taken by somebody else's."""
    name = names.canary_service(service)
    known = objects.services.get(name)
    if known is not None and not ours(known):
        yield f'Service "{name}" exists and is not ours, but a release makes one of that name: rename it'


def unnamed_services(traffic: Traffic, deployment: Deployment, objects: NamespaceObjects) -> Iterator[Problem]:
    """Other Services of the same pods. They stay as they are, so the canary's pods are among theirs."""
    known = {*traffic.names, traffic.preview.service if traffic.preview is not None else ""}
    pods = objects.pod_labels_of(deployment)
    others = [s.metadata.name for s in objects.services_selecting(pods) if not ours(s) and s.metadata.name not in known]
    if others:
        one = len(others) == 1
        listed = ", ".join([*traffic.names, *others])
        quoted = " and ".join(f'"{name}"' for name in others[:3])
        yield Problem(
            SERVICE,
            f"Service{'' if one else 's'} {quoted} {'selects' if one else 'select'} the same pods and "
            f"{'gets' if one else 'get'} the canary's as soon as they are ready, whatever the weight: name all, "
            f"services: [{listed}]",
            warning=True,
        )


def problems_of_preview(traffic: Traffic, deployment: Deployment, objects: NamespaceObjects) -> Iterator[Problem]:
    """A preview Service that is there already must be one that may be moved; otherwise it is made."""
    if traffic.preview is None:
        return
    known = objects.services.get(traffic.preview.service)
    if known is not None and not ours(known):
        reasons = problems_of_service(known, deployment, objects)
        yield from (Problem("spec.traffic.preview.service", reason) for reason in reasons)
