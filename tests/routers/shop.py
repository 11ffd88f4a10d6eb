"""A namespace for tests: Deployment, Service and Ingress `web`, and whatever a test adds."""

from __future__ import annotations

from collections.abc import Iterable

from davylamp.api.objects import IngressClass
from davylamp.api.types import ReleasePolicy, Target
from davylamp.routers.namespace import NamespaceObjects, Watched
from davylamp.routers.review import Resolution, resolve, review
from tests.builders import NAMESPACE, deployment, ingress, ingress_class, service

CLASSES = {"nginx": ingress_class()}
FLEET = Target(match_labels={"tier": "frontend"})
OURS = {"app.kubernetes.io/managed-by": "davylamp", "davylamp.dev/release": "web-1"}
CANARY = {"nginx.ingress.kubernetes.io/canary": "true"}


def cluster(*objects: Watched, classes: Iterable[IngressClass] | None = tuple(CLASSES.values())) -> NamespaceObjects:
    """Deployment, Service and Ingress `web`, with `objects` added or in their place."""
    known = None if classes is None else {c.metadata.name: c for c in classes}
    return NamespaceObjects.of(NAMESPACE, (deployment(), service(), ingress(), *objects), known)


def resolved(given: ReleasePolicy, objects: NamespaceObjects) -> Resolution:
    return resolve(given, objects.deployments.get(given.spec.target.name or "web"), objects)


def problems(given: ReleasePolicy, objects: NamespaceObjects) -> list[str]:
    found = review(given, objects)
    assert resolved(given, objects).problems == found
    return [("warning " if p.warning else "") + str(p) for p in found]


def without(objects: NamespaceObjects, *gone: Watched) -> NamespaceObjects:
    for obj in gone:
        objects.remove(obj)
    return objects
