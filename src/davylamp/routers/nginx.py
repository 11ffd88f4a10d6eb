"""The router for Ingresses whose controller honours the canary annotations of ingress-nginx (Traefik >= 3.7 and
Higress do too): a second Ingress beside the user's own, marked as a canary, carries the weight.

The user's Ingress is read and never written. Ours is deleted when the release ends, never stripped of its
annotations: without them it would be an ordinary Ingress, and where it is the older one it would get everything.
A canary Ingress of the user's own that a policy names carries the weight in the place of ours: then only its canary
annotations are written, and it stays, with weight 0.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from davylamp.api import API_VERSION
from davylamp.api.objects import Backend, Ingress, IngressSpec
from davylamp.core import names
from davylamp.core.actions import Ref
from davylamp.core.manifests import owner
from davylamp.core.world import Exposure, Refusal, RouteContext, Wanted
from davylamp.routers import merging, nginx_rules
from davylamp.routers.decision import CANARY, PREFIX, parse
from davylamp.routers.merging import Location

CLASS = "kubernetes.io/ingress.class"
HONOURED = tuple(
    PREFIX + name
    for name in (
        "load-balance",
        "upstream-hash-by",
        "upstream-hash-by-subset",
        "upstream-hash-by-subset-size",
        "service-upstream",
        "affinity-canary-behavior",
    )
)
"""What ingress-nginx reads on a canary Ingress besides the canary rules (`createUpstreams` and
`mergeAlternativeBackend`): these describe the canary's own upstream. Everything else it takes from the main one.
Traefik's provider takes these from the main one too and needs nothing more on the canary than the class
(`pkg/provider/kubernetes/ingress-nginx/build.go`)."""
_RULES = (PREFIX, "higress.ingress.kubernetes.io/")
"""Annotations that can change where requests go. Those of others (a cloud's, a dashboard's) are left alone."""


def canary_name(ingress: str, service: str) -> str:
    """The name of our Ingress beside `ingress`. Two Services of one Ingress can be released at the same time, so it
    has the Service's name unless that is the same; the dot, which a Service's name can't have, keeps it unique."""
    base = ingress if ingress == service else f"{ingress}.{service}"
    return f"{names.fit(base, 253 - len('-davylamp'))}-davylamp"


class NginxRoute(msgspec.Struct, frozen=True):
    """One Ingress of the user and our canary Ingress beside it, as they are now (`core.world.Route`).

    `others` are the other Ingresses of the namespace that have a say: canaries on the same places, and whatever
    sends to the same Service. The rules of several canaries are decided among them, see `merging`.
    """

    namespace: str
    ingress_name: str
    service: str
    ingress: Ingress | None = None
    canary: Ingress | None = None
    others: tuple[Ingress, ...] = ()
    given: str = ""
    """Name of a canary Ingress of the user's, which `canary` then is."""

    @property
    def name(self) -> str:
        return f"Ingress {self.ingress_name}"

    @property
    def refs(self) -> tuple[Ref, ...]:
        found = (self.ingress_name, self.given or canary_name(self.ingress_name, self.service))
        return tuple(Ref("Ingress", self.namespace, name) for name in found)

    @property
    def sticky(self) -> str:
        """Cookie affinity: a client that has the cookie stays at its version until our Ingress is deleted."""
        notes = self.ingress.metadata.annotations if self.ingress is not None else {}
        if notes.get(PREFIX + "affinity") != "cookie":
            return ""
        return f"the cookie affinity of Ingress {self.ingress_name}"

    def desired(self, exposure: Exposure | None, context: RouteContext) -> Wanted:
        """What is left to write. One write for a new canary Ingress, already with its weight; one for a new weight,
        together with whatever else had been changed by other hands; one to delete it.

        The user's Ingress decides which hosts and paths there are, also while a release runs. Where none of them
        sends to the Service any more, there is nothing to split and our Ingress goes.
        """
        canary = self.canary
        if self.given:
            return self._carried(exposure)
        wanted = self._manifest(exposure, context) if exposure is not None else None
        if canary is None:
            return Wanted(present=(wanted,)) if wanted is not None else Wanted()
        if not self._managed(canary) and not _belongs(canary, context):
            return Wanted()
        ref = Ref("Ingress", self.namespace, canary.metadata.name)
        if wanted is None or not _belongs(canary, context):
            if canary.metadata.deletion_timestamp is not None:
                return Wanted()
            return Wanted(absent=((ref, canary.metadata.uid),), collected=self._collected(context))
        patch = _difference(wanted, canary)
        return Wanted(patches=((ref, patch),)) if patch else Wanted()

    def prepared(self, context: RouteContext) -> Wanted:
        return Wanted()

    def barred(self, context: RouteContext) -> str:
        return ""

    def remains(self, context: RouteContext) -> tuple[tuple[Ref, str], ...]:
        return ()

    def effective(self, context: RouteContext) -> Exposure | None:
        """The exposure that the Ingresses mean at this moment: the largest share, in percent rounded up, that any
        place of the user's Ingress sends to the canary's Service. None where ours has no effect at all.

        Largest, so that 0 is never claimed while some requests still reach the canary. That the canary has the
        full set of places is `desired`'s answer. Whether the proxies have noticed yet can't be seen in objects.
        """
        canary = self.canary
        if canary is None or not (self.given or _belongs(canary, context)):
            return None
        if not parse(canary.metadata.annotations).enabled:
            return Exposure(100)  # an ordinary Ingress now, and nobody knows which of the two wins
        merged = merging.merge(ingress for ingress in (self.ingress, canary, *self.others) if ingress is not None)
        found = [
            found.config
            for main, found in merged.canaries.items()
            if main.service == self.service and found.upstream.service == context.canary_service
        ]
        if not found:
            return None
        largest = max(found, key=lambda config: config.share)
        return Exposure(math.ceil(largest.share), nginx_rules.matches_of(largest))

    def converged(self, exposure: Exposure | None, context: RouteContext) -> str:
        """Nothing can be known of the controller: an Ingress has no status that tells which of its states it has
        taken. A canary Ingress of the user's has to be there, and to send where it should."""
        return self._unfit(context) if self.given and exposure is not None else ""

    def _carried(self, exposure: Exposure | None) -> Wanted:
        """What is left to write into a canary Ingress of the user's: its canary annotations, all at once."""
        canary = self.canary
        if canary is None:
            return Wanted()
        wanted = {CANARY: "true", **nginx_rules.annotations_of(exposure or Exposure(0))}
        found = {key: value for key, value in canary.metadata.annotations.items() if key.startswith(CANARY)}
        if parse(found) == parse(wanted):
            return Wanted()
        meta = {"resourceVersion": canary.metadata.resource_version, "annotations": _changes(wanted, found)}
        return Wanted(patches=((self.refs[1], {"metadata": meta}),))

    def _unfit(self, context: RouteContext) -> str:
        """Why a canary Ingress of the user's can't carry the weight, as it is now."""
        if self.canary is None:
            return f"Ingress {self.given} is gone; the release waits for it"
        there = {place: upstream.service for place, upstream in merging.backends(self.canary)}
        for place in self._places():
            if there.get(place) != context.canary_service:
                to = f"sends {place} to Service {there[place]}" if place in there else f"lacks {place}"
                return f"Ingress {self.given} {to}; it has to go to Service {context.canary_service}"
        return self._rival(context)

    def refusals(self, exposure: Exposure) -> tuple[Refusal, ...]:
        """What of `exposure` can't be said in annotations."""
        return tuple(nginx_rules.refused(exposure))

    def hindrance(self, context: RouteContext) -> str:
        """Why an exposure can't be brought into effect here, for people; "" if nothing stands in the way."""
        if self.ingress is None:
            return f"Ingress {self.ingress_name} is gone"
        if not self._places():
            return f"Ingress {self.ingress_name} no longer sends to Service {self.service}"
        canary = self.canary
        if self.given:
            return self._unfit(context)
        if canary is None:
            return self._rival(context)
        if not self._managed(canary) and not _belongs(canary, context):
            return f"there is an Ingress {canary.metadata.name} already, and it is not ours"
        return self._rival(context)

    def _rival(self, context: RouteContext) -> str:
        """A canary of somebody else that counts instead of ours."""
        merged = merging.merge(i for i in (self.ingress, self.canary, *self.others) if i is not None)
        for main, found in merged.canaries.items():
            if main.service == self.service and found.upstream.service != context.canary_service:
                return (
                    f"Ingress {found.ingress} is an older canary of Service {self.service}, "
                    "and only the oldest one counts"
                )
        return ""

    def _managed(self, ingress: Ingress) -> bool:
        """True for a canary Ingress of ours, of whatever release. (A copy of it that has another owner is not.)"""
        labels, owned_by = ingress.metadata.labels, ingress.metadata.controller
        if names.RELEASE_LABEL not in labels or not names.MANAGED_BY.items() <= labels.items():
            return False
        if owned_by is None or owned_by.kind == "Release":
            return True
        return (owned_by.kind, owned_by.name) == ("Service", names.canary_service(self.service))

    def _collected(self, context: RouteContext) -> bool:
        """Whether our Ingress goes with the canary's Service."""
        owned_by = self.canary.metadata.controller if self.canary is not None else None
        if owned_by is None or owned_by.uid != context.canary_service_uid:
            return False
        return self.ingress is None or not _by_address(self.ingress)

    def _places(self) -> list[Location]:
        if self.ingress is None:
            return []
        return [place for place, upstream in merging.backends(self.ingress) if upstream.service == self.service]

    def _manifest(self, exposure: Exposure | None, context: RouteContext) -> dict[str, Any] | None:
        """Our Ingress for this exposure; None where there is nothing to split."""
        ingress = self.ingress
        if ingress is None or exposure is None or not self._places():
            return None
        mine = {key: value for key, value in ingress.metadata.annotations.items() if key in HONOURED}
        if not ingress.spec.ingress_class_name and CLASS in ingress.metadata.annotations:
            mine[CLASS] = ingress.metadata.annotations[CLASS]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": canary_name(self.ingress_name, self.service),
                "namespace": self.namespace,
                "labels": _labels(context),
                "annotations": {**mine, CANARY: "true", **nginx_rules.annotations_of(exposure)},
                "ownerReferences": [_owner(context)],
            },
            "spec": _spec(_for_canary(ingress.spec, self.service, context.canary_service)),
        }


def _labels(context: RouteContext) -> dict[str, str]:
    return names.MANAGED_BY | {names.RELEASE_LABEL: names.fit(context.release, 63)}


def _owner(context: RouteContext) -> dict[str, Any]:
    """The canary's Service, so that both can go by one deletion (and it goes with the Release)."""
    if context.canary_service_uid:
        return owner("v1", "Service", context.canary_service, context.canary_service_uid)
    return owner(API_VERSION, "Release", context.release, context.release_uid)


def _by_address(ingress: Ingress) -> bool:
    """Whether its controller may send requests to the Service's address instead of to the pods: then the Service has
    to stay until the route is known to be gone."""
    return ingress.metadata.annotations.get(PREFIX + "service-upstream", "false").lower() not in ("", "0", "f", "false")


def _belongs(ingress: Ingress, context: RouteContext) -> bool:
    """True for one of this release: by its owner, or by its labels where the owner was taken away."""
    controller = ingress.metadata.controller
    if controller is not None:
        return controller.uid in (context.release_uid, context.canary_service_uid)
    return _labels(context).items() <= ingress.metadata.labels.items()


# --- content ---


def _for_canary(spec: IngressSpec, service: str, canary_service: str) -> IngressSpec:
    """`spec` with only the places that send to `service`, sending to `canary_service`.

    No default backend: Traefik takes none from a canary, and ingress-nginx would attach it to every path without a
    host in the cluster. (Where it is the same Service and port as a path's, ingress-nginx splits it with that.)
    """
    rules = []
    for rule in spec.rules:
        paths = tuple(
            msgspec.structs.replace(path, backend=_to(path.backend, canary_service))
            for path in (rule.http.paths if rule.http else ())
            if path.backend.service is not None and path.backend.service.name == service
        )
        if rule.http is not None and paths:
            rules.append(msgspec.structs.replace(rule, http=msgspec.structs.replace(rule.http, paths=paths)))
    return msgspec.structs.replace(spec, rules=tuple(rules), default_backend=None)


def _to(backend: Backend, service: str) -> Backend:
    """The same port of another Service (the canary's has the ports of the user's)."""
    assert backend.service is not None
    return Backend(service=msgspec.structs.replace(backend.service, name=service))


def _spec(spec: IngressSpec) -> dict[str, Any]:
    """A spec as JSON, with the fields spelt out that a struct leaves out where they have its default."""
    rules = []
    for rule in spec.rules:
        paths = [
            {"path": path.path, "pathType": path.path_type, "backend": msgspec.to_builtins(path.backend)}
            for path in (rule.http.paths if rule.http else ())
        ]
        fields: dict[str, Any] = {"host": rule.host} if rule.host else {}
        rules.append({**fields, "http": {"paths": paths}} if rule.http else fields)
    content: dict[str, Any] = {"rules": rules}
    if spec.ingress_class_name:
        content["ingressClassName"] = spec.ingress_class_name
    if spec.tls:
        content["tls"] = [msgspec.to_builtins(tls) | {"hosts": list(tls.hosts)} for tls in spec.tls]
    if spec.default_backend is not None:
        content["defaultBackend"] = msgspec.to_builtins(spec.default_backend)
    return content


# --- drift ---


def _difference(wanted: dict[str, Any], canary: Ingress) -> dict[str, Any] | None:
    """One merge patch that makes `canary` as wanted, refused by the API server (409) where our view of it is old."""
    meta = wanted["metadata"]
    changes: dict[str, Any] = {}
    annotations = _changes(meta["annotations"], _ruling(canary.metadata.annotations))
    if annotations:
        changes["annotations"] = annotations
    labels = {key: value for key, value in meta["labels"].items() if canary.metadata.labels.get(key) != value}
    if labels:
        changes["labels"] = labels
    controller = canary.metadata.controller
    if controller is None or controller.uid != meta["ownerReferences"][0]["uid"]:
        changes["ownerReferences"] = meta["ownerReferences"]
    spec = _changes(wanted["spec"], _spec(canary.spec))
    if not changes and not spec:
        return None
    changes["resourceVersion"] = canary.metadata.resource_version
    return {"metadata": changes} | ({"spec": spec} if spec else {})


def _ruling(annotations: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key == CLASS or key.startswith(_RULES)}


def _changes(wanted: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The merge patch from `found` to `wanted`, one level deep: lists are replaced whole."""
    changed = {key: value for key, value in wanted.items() if found.get(key) != value}
    return changed | {key: None for key in found if key not in wanted}
