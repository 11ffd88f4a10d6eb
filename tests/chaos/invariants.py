"""What must hold at every moment of a release, whatever happens: checked at each change of the store."""

from __future__ import annotations

from typing import Any

from davylamp.embedded.cluster import CONTROLLER
from davylamp.embedded.store import Object
from davylamp.embedded.writing import Request
from tests.chaos.shop import BAD, HASH, Shop, image_of
from tests.kube.controllers import NAMESPACE

ROUTES = ("Ingress", "HTTPRoute", "VirtualService")
WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"
PATIENCE = 30.0
"""Seconds within which a controller that nothing hinders takes traffic from a version that has lost all its pods."""


class Watchman:
    """Follows the store, and notes what must never be."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.before = {kind: shop.get(kind)["spec"] for kind in ("Ingress", "Service", *shop.routers[1:])}
        """The user's objects, which are given back as they were."""
        self.violations: list[str] = []
        self.disturbed = 0.0
        """When pods were last hurt, or the number that is wanted changed: for a while then counts may be low."""
        self.hurt = False
        """Since then there have not been as many ready pods as are wanted."""
        self.impeded = 0.0
        """When a controller was last kept from its work."""
        self._astray: float | None = None
        """Since when traffic is sent to a canary without ready endpoints."""
        shop.store.admission.append(self._asked)
        self._unsubscribe = shop.store.subscribe(self._changed)

    def close(self) -> None:
        self._unsubscribe()

    def disturb(self) -> None:
        self.disturbed, self.hurt = self.shop.clock.time(), True

    def impede(self, seconds: float = 0.0) -> None:
        """A controller is kept from its work, from now on for so long."""
        self.impeded = self.shop.clock.time() + seconds

    def look(self) -> None:
        """What no change tells of: what has been so for too long, and what is left when a release is over."""
        self._traffic()
        if not self._under_way() and self.shop.has("Deployment", "Service"):
            for left in self.shop.leftovers():
                self._note(f"left over, and no release is under way: {left}")

    @property
    def _calm(self) -> bool:
        return self.shop.clock.time() > self.disturbed + 60

    def _asked(self, old: Object | None, new: Object, request: Request) -> Object:
        if request.user == CONTROLLER and new["kind"] in ROUTES:
            self._weight(old, new)
        return new

    def _weight(self, old: Object | None, new: Object) -> None:
        """No weight on a version without ready endpoints: asked of each write of ours that sends more there."""
        weight, before = _weight_of(new), _weight_of(old)
        if weight > before and self._calm and not self.ready("web-canary"):
            self._note(f"weight {weight} although Service web-canary has no ready endpoint")

    def _changed(self, type_: str, new: Object, old: Object | None) -> None:
        if new["metadata"].get("namespace") != NAMESPACE:
            return
        match new["kind"]:
            case "Release":
                self._one_active()
                self._rejected()
            case "EndpointSlice":
                self._served(new)
                self._rejected()
                self._traffic()
            case kind if kind in ROUTES:
                self._traffic()
            case "Pod":
                self._enough()

    def _one_active(self) -> None:
        ends = ("Completed", "RolledBack", "Superseded", "Withdrawn", "Overridden")
        active = [
            r["metadata"]["name"]
            for r in self.shop.list("Release")
            if (r.get("status") or {}).get("phase", "Pending") not in ends
        ]
        if len(active) > 1:
            self._note(f"{len(active)} releases at once: {', '.join(active)}")

    def _served(self, endpoint_slice: Object) -> None:
        """The user's Service has ready endpoints all the time, unless pods were hurt."""
        of = (endpoint_slice["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
        if of == "web" and self._calm and self._wanted() > 0 and not self.ready("web"):
            self._note("Service web has no ready endpoint")

    def _enough(self) -> None:
        """No fewer ready pods than the Deployment's strategy allows, 25 % less than wanted."""
        wanted = self._wanted()
        pods = [pod for pod in self.shop.list("Pod") if "deletionTimestamp" not in pod["metadata"]]
        ready = sum(is_ready(pod) for pod in pods)
        if self.hurt:
            self.hurt = ready < wanted
        elif ready < wanted - wanted * 25 // 100:
            self._note(f"{ready} pods are ready, of {wanted} that are wanted")

    def _traffic(self) -> None:
        """Whatever becomes of its pods, traffic is not sent to a version without ready endpoints for long."""
        now = self.shop.clock.time()
        kinds = ("Ingress", *self.shop.routers[1:])
        weight = max((_weight_of(obj) for kind in kinds for obj in self.shop.list(kind)), default=0)
        if weight == 0 or self.ready("web-canary") or not self.shop.has("Service"):
            self._astray = None
        elif self._astray is None:
            self._astray = now
        elif now - max(self._astray, self.impeded) > PATIENCE:
            since = now - self._astray
            self._note(f"weight {weight} for {since:.0f} s on a version without ready endpoints")

    def _rejected(self) -> None:
        """No pod of a release that was taken back is offered to anybody."""
        over = {r["metadata"]["uid"] for r in self.shop.list("Release") if _phase(r) == "RolledBack"}
        theirs = {
            rs["metadata"]["uid"]
            for rs in self.shop.list("ReplicaSet")
            if over & {owner["uid"] for owner in rs["metadata"].get("ownerReferences") or ()}
        }
        for pod in self.shop.list("Pod") if theirs else ():
            name, owners = pod["metadata"]["name"], pod["metadata"].get("ownerReferences") or ()
            if theirs & {owner["uid"] for owner in owners} and name in {*self.ready("web"), *self.ready("web-canary")}:
                self._note(f"pod {name} of a release that was taken back gets traffic")

    def _wanted(self) -> int:
        found = self.shop.store.get("Deployment", NAMESPACE, "web")
        return int(found["spec"]["replicas"]) if found is not None else 0

    def ready(self, service: str) -> list[str]:
        """Names of the pods that a Service offers."""
        found = []
        for one in self.shop.list("EndpointSlice"):
            if one["metadata"]["labels"].get("kubernetes.io/service-name") == service:
                found += [e["targetRef"]["name"] for e in one.get("endpoints") or () if e["conditions"].get("ready")]
        return found

    def _note(self, what: str) -> None:
        self.violations.append(f"{self.shop.clock.time():.1f} s: {what}")

    # --- at rest ---

    def at_rest(self, state: str) -> list[str]:
        """What is wrong when nothing happens any more, beside what was noted on the way. `state` is what `davy status`
        calls it."""
        pods = [] if state == "TwoVersions" else self._pods_as_wanted()
        return [*self.violations, *self._given_back(), *pods, *self._quarantined()]

    def _given_back(self) -> list[str]:
        over = not self._under_way()
        wrong = [f"left over: {left}" for left in self.shop.leftovers()] if over else []
        for kind, spec in self.before.items():
            if self.shop.has(kind) and (over or kind == "Ingress") and self.shop.get(kind)["spec"] != spec:
                wrong.append(f"the user's {kind} is not as it was")
        return wrong

    def _under_way(self) -> bool:
        """Also a completed release that keeps the old pods for a while."""
        return any(
            _phase(r) in ("Pending", "Progressing", "Promoting", "RollingBack")
            or (r.get("status") or {}).get("keptUntil")
            for r in self.shop.list("Release")
        )

    def _pods_as_wanted(self) -> list[str]:
        """The Deployment's own pods are all there, but where people let Kubernetes roll out what can't live."""
        if not self.shop.has("Deployment"):
            return []
        web = self.shop.get("Deployment")
        status = web.get("status") or {}
        if self.shop.own_images() & {*BAD} or (not web["spec"].get("paused") and image_of(web) in BAD):
            return []
        available, wanted = status.get("availableReplicas", 0), web["spec"]["replicas"]
        return [] if available >= wanted else [f"{available} of {wanted} pods are available at rest"]

    def _quarantined(self) -> list[str]:
        """A template that was rejected, and that the Deployment still asks for, has no pods."""
        if not self.shop.has("Deployment"):
            return []
        web = self.shop.get("Deployment")
        if not web["spec"].get("paused") or self._under_way():
            return []
        wanted = image_of(web)
        rejected = any(r["spec"]["canary"].get("image") == wanted and _phase(r) == "RolledBack" for r in self._last())
        pods = [pod["metadata"]["name"] for pod in self.shop.list("Pod") if image_of(pod) == wanted]
        stable = self.shop.images() == {wanted}
        return [f"rejected {wanted} has pods: {', '.join(pods)}"] if rejected and pods and not stable else []

    def _last(self) -> list[Object]:
        """The newest release of each template."""
        newest: dict[str, Any] = {}
        for release in sorted(self.shop.list("Release"), key=lambda r: int(r["spec"].get("attempt", 1))):
            newest[release["spec"]["template"]] = release
        return list(newest.values())


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _phase(release: Object) -> str:
    return str((release.get("status") or {}).get("phase", "Pending"))


def _weight_of(obj: Object | None) -> int:
    """What a route sends to the canary's Service: percent of an Ingress' requests, or the largest weight of a rule."""
    match (obj or {}).get("kind"):
        case "Ingress":
            annotations = (obj or {})["metadata"].get("annotations") or {}
            return int(annotations.get(WEIGHT, 0))
        case "HTTPRoute":
            refs = [ref for rule in (obj or {})["spec"]["rules"] for ref in rule.get("backendRefs") or ()]
            return max((ref.get("weight", 1) for ref in refs if ref["name"] == "web-canary"), default=0)
        case "VirtualService":
            to = [one for rule in (obj or {})["spec"]["http"] for one in rule.get("route") or ()]
            return max((one.get("weight", 100) for one in to if "canary" in one["destination"]["host"]), default=0)
    return 0


__all__ = ["HASH", "Watchman"]
