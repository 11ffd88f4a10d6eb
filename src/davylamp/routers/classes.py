"""Which Ingress classes split by weight: those whose controller honours the canary annotations of ingress-nginx."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from davylamp.api.objects import Ingress, IngressClass
from davylamp.routers.wording import some

DEFAULT = "ingressclass.kubernetes.io/is-default-class"

SUPPORTED = ("k8s.io/ingress-nginx", "traefik.io/ingress-controller", "higress.io/higress-controller")
"""`spec.controller` begins with one of these (further instances of a controller add a suffix). Traefik's provider
of nginx's annotations answers to the first by default (`--providers.kubernetesingressnginx.controllerclass`)."""

WITHOUT_OBJECT = frozenset({"nginx", "higress"})
"""Values of the annotation kubernetes.io/ingress.class that these controllers take without an IngressClass."""

WHAT_WORKS = (
    "weights need ingress-nginx, Traefik 3.7 or newer with its provider of nginx's annotations, or Higress; "
    "without a route, traffic follows the number of pods"
)
_PLAIN_TRAEFIK = (
    "only its provider of nginx's annotations splits by weight (Traefik 3.7 or newer, "
    "--providers.kubernetesingressnginx with this class); its plain Ingress provider would take the canary "
    "for an ordinary Ingress"
)
_HIGRESS = (
    "a request that has a match's header or cookie at all is not weighted there, whatever its value, and the value "
    "`never` keeps nobody on stable"
)
_NEVER: datetime = datetime.min.replace(tzinfo=UTC)


class Class(msgspec.Struct, frozen=True):
    """Whether an Ingress can be split, and what there is to say about it (begins with the class)."""

    supported: bool
    message: str = ""


def class_of(ingress: Ingress, classes: Mapping[str, IngressClass] | None) -> Class:
    """What the class of `ingress` means. `classes` is None where IngressClasses may not be read; then the well-known
    names count as what they say."""
    name = ingress.class_name
    if classes is None:
        if name in WITHOUT_OBJECT:
            return Class(True)
        what = f'class "{name}"' if name else "the default class"
        return Class(True, f"{what} is not checked, since IngressClasses may not be read here: {WHAT_WORKS}")
    if not name:
        return _default(classes)
    found = classes.get(name)
    if found is not None:
        return _by_controller(name, found.spec.controller)
    if not ingress.spec.ingress_class_name and name in WITHOUT_OBJECT:
        return Class(True)
    there = f"there are: {some(classes)}" if classes else "the cluster has none"
    return Class(False, f'class "{name}" does not exist as an IngressClass; {there}')


def _default(classes: Mapping[str, IngressClass]) -> Class:
    """The default class; of several the newest, as the API server chooses (admission plugin DefaultIngressClass)."""
    defaults = [c for c in classes.values() if c.metadata.annotations.get(DEFAULT) == "true"]
    if defaults:
        newest = max(defaults, key=lambda c: (c.metadata.creation_timestamp or _NEVER, c.metadata.name))
        return _by_controller(newest.metadata.name, newest.spec.controller)
    there = f"there are: {some(classes)}" if classes else "the cluster has none"
    return Class(False, f"no class is set, and there is no default one: set spec.ingressClassName ({there})")


def _by_controller(name: str, controller: str) -> Class:
    if not controller.startswith(SUPPORTED):
        return Class(False, f'class "{name}" belongs to {controller or "no controller"}: {WHAT_WORKS}')
    if controller.startswith("traefik.io/"):
        return Class(True, f'class "{name}" belongs to {controller}: {_PLAIN_TRAEFIK}')
    if controller.startswith("higress.io/"):
        return Class(True, f'class "{name}" belongs to {controller}: {_HIGRESS}')
    return Class(True)
