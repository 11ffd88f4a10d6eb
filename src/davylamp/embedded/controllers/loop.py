"""Runs the controllers on a store: keys in a queue, level-triggered, in an order that is always the same.

A change of the store only says which keys to look at; each look plans from everything that is known then. Nothing is
polled: besides changes, only timers of the clock that a plan asked for (`Plan.again`) bring a key back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from davylamp.embedded.controllers import (
    deployment,
    endpointslice,
    garbage,
    namespaces,
    podlife,
    replicaset,
)
from davylamp.embedded.controllers.index import Index
from davylamp.embedded.controllers.objects import (
    Object,
    controller,
    deleted,
    kind_of,
    labels,
    owners,
    selects,
    uid,
    with_meta,
)
from davylamp.embedded.controllers.writes import NOTHING, Create, Plan, Remove, Tell, Update, Write, event
from davylamp.embedded.status import StatusError
from davylamp.embedded.store import Store
from davylamp.embedded.writing import stamp
from davylamp.kube.clock import Timer

FIRST_PAUSE, LAST_PAUSE = 0.005, 1000.0
"""Seconds until a key is tried again after an error; they double (workqueue.DefaultControllerRateLimiter)."""
AT_ONCE = 200
"""Keys worked on before others in the process get their turn."""
USER = "system:serviceaccount:kube-system:{}-controller"

log = logging.getLogger(__name__)


class Key(msgspec.Struct, frozen=True):
    """`part` is the controller that is to look, `uid` at which object."""

    part: str
    uid: str


class Controllers:
    """All of them on one store, between `start` and `stop`. `events=False` records no Events (faster). A pod is
    deleted when its Node has not been there for `quarantine` seconds."""

    def __init__(self, store: Store, *, events: bool = True, quarantine: float = podlife.QUARANTINE) -> None:
        self._store = store
        self._quarantine = quarantine
        self._clock = store.clock
        self._events = events
        self._index = Index()
        self._queue: dict[Key, None] = {}
        self._waking: Timer | None = None
        self._timers: dict[Key, Timer] = {}
        self._failures: dict[Key, int] = {}
        self._trouble: dict[Key, str] = {}
        self._missing: dict[str, datetime] = {}
        """Since when a Node that pods name is known not to be there."""
        self._told = 0
        self._unsubscribe: Callable[[], object] | None = None
        self._plans: dict[str, Callable[[Object, Key], Plan]] = {
            "deployment": self._deployment,
            "replicaset": self._replica_set,
            "endpointslice": self._service,
            "garbage": self._garbage,
            "namespace": self._namespace,
            "pod": self._pod,
        }

    def start(self) -> None:
        """Begin with everything that there is."""
        self._unsubscribe = self._store.subscribe(self._see)
        for resource in self._store.resources:
            for obj in self._store.list(resource.name):
                self._see("ADDED", obj, None)

    def stop(self) -> None:
        """Let everything be as it is."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        for timer in [*self._timers.values(), *filter(None, [self._waking])]:
            timer.cancel()
        self._unsubscribe = self._waking = None
        self._timers.clear()
        self._queue.clear()

    # --- what a change concerns ---

    def _see(self, type_: str, new: Object, old: Object | None) -> None:
        kind = kind_of(new)
        if kind == "Event":
            return
        self._index.see(type_, new, old)
        match kind:
            case "Pod":
                self._saw_pod(type_, new, old)
            case "ReplicaSet":
                self._ask("replicaset", uid(new))
                self._ask_owner(new, old, "Deployment", "deployment")
            case "Deployment":
                self._ask("deployment", uid(new))
            case "Service":
                self._ask("endpointslice", uid(new))
            case "EndpointSlice":
                self._saw_slice(new)
            case "Node":
                self._saw_node(type_, new)
            case "Namespace":
                self._ask("namespace", uid(new))
        self._saw_ownership(type_, new, old)

    def _saw_pod(self, type_: str, new: Object, old: Object | None) -> None:
        self._ask_owner(new, old, "ReplicaSet", "replicaset")
        if not new["spec"].get("nodeName") or old is None or new["spec"]["nodeName"] != old["spec"].get("nodeName"):
            self._ask("pod", uid(new))
        seen = [new] if old is None or labels(old) == labels(new) else [new, old]
        for service in self._index.of_kind("Service", new["metadata"]["namespace"]):
            if any(endpointslice.selects_pod(service, pod) for pod in seen):
                self._ask("endpointslice", uid(service))
        if type_ == "DELETED" and (owner := controller(new)) is not None:
            rs = self._index.get(owner["uid"])
            if rs is not None:  # A Deployment that recreates waits for its last old pod.
                self._ask_owner(rs, None, "Deployment", "deployment")

    def _ask_owner(self, new: Object, old: Object | None, kind: str, part: str) -> None:
        """Ask the one that manages an object, the one that did before, or those that may want to."""
        owner, before = controller(new), controller(old) if old is not None else None
        if before is not None and kind_of(before) == kind and (owner is None or before["uid"] != owner["uid"]):
            self._ask(part, before["uid"])
        if owner is not None:
            if kind_of(owner) == kind:
                self._ask(part, owner["uid"])
            return
        for obj in self._index.of_kind(kind, new["metadata"]["namespace"]):
            if selects(obj["spec"].get("selector"), labels(new)):
                self._ask(part, uid(obj))

    def _saw_slice(self, slice_: Object) -> None:
        name = labels(slice_).get(endpointslice.SERVICE_LABEL)
        service = self._store.get("Service", slice_["metadata"]["namespace"], name) if name else None
        if service is not None and endpointslice.is_managed(slice_):
            self._ask("endpointslice", uid(service))

    def _saw_node(self, type_: str, node: Object) -> None:
        name = node["metadata"]["name"]
        if type_ != "DELETED":
            self._missing.pop(name, None)
        for pod in [*self._index.pods_on(name), *(self._index.anywhere("Pod") if type_ == "ADDED" else ())]:
            if type_ == "DELETED" or not pod["spec"].get("nodeName"):
                self._ask("pod", uid(pod))

    def _saw_ownership(self, type_: str, new: Object, old: Object | None) -> None:
        if type_ == "MODIFIED" and old is not None and _same_ownership(new, old):
            return
        refs = owners(new)
        if type_ == "DELETED" or deleted(new):
            for dependent in self._index.dependents(uid(new)):
                self._ask("garbage", uid(dependent))
            place = new["metadata"].get("namespace")
            namespace = self._store.get("Namespace", "", place) if place else None
            if namespace is not None and deleted(namespace):
                self._ask("namespace", uid(namespace))
        for ref in [*refs, *(owners(old) if old is not None else ())]:
            owner = self._index.get(ref["uid"])
            if owner is not None and deleted(owner):
                self._ask("garbage", ref["uid"])
        if type_ != "DELETED" and (refs or deleted(new)):
            self._ask("garbage", uid(new))

    # --- the queue ---

    def _ask(self, part: str, uid_: str) -> None:
        self._queue[Key(part, uid_)] = None
        if self._waking is None:
            self._waking = self._clock.call_later(0, self._work)

    def _work(self) -> None:
        for _ in range(AT_ONCE):
            if not self._queue:
                break
            key = next(iter(self._queue))
            del self._queue[key]
            self._look(key)
        self._waking = self._clock.call_later(0, self._work) if self._queue else None

    def _look(self, key: Key) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        obj = self._index.get(key.uid)
        if obj is None:
            self._forget(key)
            return
        self._trouble.pop(key, None)
        try:
            plan = self._plans[key.part](obj, key)
            self._carry_out(plan.writes, key)
        except StatusError as error:
            self._fail(key, error)
            return
        except Exception:  # One object that can't be worked on must not stop all others.
            log.exception("%s controller: %s %s", key.part, obj["kind"], obj["metadata"]["name"])
            self._again_after_failure(key)
            return
        self._failures.pop(key, None)
        if plan.again is not None:
            self._ask_in(key, plan.again)

    def _ask_in(self, key: Key, seconds: float) -> None:
        self._timers[key] = self._clock.call_later(seconds, lambda: self._ask(key.part, key.uid))

    def _forget(self, key: Key) -> None:
        self._failures.pop(key, None)
        self._trouble.pop(key, None)

    def _fail(self, key: Key, error: StatusError) -> None:
        """Tell it where it is seen, and try again later; in a Namespace that ends there is nothing left to do."""
        if error.code == 403 and "being terminated" in error.message:
            return
        if error.code not in (404, 409):
            log.info("%s controller: %s", key.part, error)
            self._show_trouble(key, error)
        self._again_after_failure(key)

    def _again_after_failure(self, key: Key) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._ask_in(key, min(FIRST_PAUSE * 2 ** min(failures, 30), LAST_PAUSE))

    def _show_trouble(self, key: Key, error: StatusError) -> None:
        obj = self._index.get(key.uid)
        if key.part != "replicaset" or obj is None:
            return
        self._trouble[key] = error.message
        told = Tell(obj, "FailedCreate", f"Error creating: {error}", replicaset.COMPONENT, "Warning")
        try:
            self._carry_out([*self._replica_set(obj, key).writes, told], key)
        except StatusError as again:
            log.info("%s controller: its status can't be written either: %s", key.part, again)

    # --- plans ---

    def _deployment(self, obj: Object, key: Key) -> Plan:
        namespace = obj["metadata"]["namespace"]
        candidates = [
            *self._index.controlled("ReplicaSet", key.uid),
            *self._index.orphans("ReplicaSet", namespace),
        ]
        return deployment.plan(
            obj,
            candidates,
            lambda rs: self._index.controlled("Pod", uid(rs)),
            lambda name: self._store.get("ReplicaSet", namespace, name),
            self._clock.now(),
        )

    def _replica_set(self, obj: Object, key: Key) -> Plan:
        pods = [
            *self._index.controlled("Pod", key.uid),
            *self._index.orphans("Pod", obj["metadata"]["namespace"]),
        ]
        return replicaset.plan(obj, pods, lambda: self._related(obj), self._clock.now(), self._trouble.get(key, ""))

    def _related(self, rs: Object) -> list[Object]:
        owner = controller(rs)
        siblings = self._index.controlled("ReplicaSet", owner["uid"]) if owner is not None else [rs]
        return [pod for sibling in siblings for pod in self._index.controlled("Pod", uid(sibling))]

    def _service(self, obj: Object, key: Key) -> Plan:
        meta = obj["metadata"]
        pods = [p for p in self._index.of_kind("Pod", meta["namespace"]) if endpointslice.selects_pod(obj, p)]
        slices = [s for s in self._index.slices(meta["namespace"], meta["name"]) if endpointslice.is_managed(s)]
        return endpointslice.plan(obj, pods, slices, lambda name: self._store.get("Node", "", name) is not None)

    def _garbage(self, obj: Object, key: Key) -> Plan:
        def owner(ref: Object) -> Object | None:
            found = self._index.get(ref["uid"])
            place = found["metadata"].get("namespace") if found is not None else None
            return found if place in (None, obj["metadata"].get("namespace")) else None

        return garbage.plan(obj, self._index.dependents(key.uid), owner)

    def _namespace(self, obj: Object, key: Key) -> Plan:
        return namespaces.plan(obj, self._index.content(obj["metadata"]["name"]))

    def _pod(self, obj: Object, key: Key) -> Plan:
        name = obj["spec"].get("nodeName")
        if name and self._store.get("Node", "", name) is not None:
            return NOTHING
        now = self._clock.now()
        since = self._missing.setdefault(name, now) if name else None
        nodes = self._index.of_kind("Node")
        pods = self._index.anywhere("Pod") if len(nodes) > 1 else ()
        return podlife.plan(obj, podlife.counts(nodes, pods), since, now, self._quarantine)

    # --- writing ---

    def _carry_out(self, writes: Sequence[Write], key: Key) -> None:
        user = USER.format(key.part)
        written: dict[str, Object] = {}
        for write in writes:
            match write:
                case Create(obj):
                    made = self._store.create(obj, user=user)
                    if kind_of(made) == "Pod" and (rs := self._index.get(key.uid)) is not None:
                        self._tell(replicaset.created(rs, made))
                case Update(obj, subresource):
                    if (newer := written.get(uid(obj))) is not None:
                        obj = with_meta(obj, resourceVersion=newer["metadata"]["resourceVersion"])
                    written[uid(obj)] = self._store.update(obj, subresource=subresource, user=user)
                case Remove():
                    self._remove(write, user)
                case Tell():
                    self._tell(write)

    def _remove(self, write: Remove, user: str) -> None:
        meta = write.object["metadata"]
        kind = self._store.resources.of(write.object).name
        try:
            self._store.delete(
                kind,
                meta.get("namespace", ""),
                meta["name"],
                uid=meta["uid"],
                propagation=write.propagation,
                grace_seconds=write.grace_seconds,
                user=user,
            )
        except StatusError as error:
            if error.code not in (404, 409):  # Gone already, or another of its name is there.
                raise

    def _tell(self, tell: Tell) -> None:
        if not self._events:
            return
        self._told += 1
        name = f"{tell.about['metadata']['name']}.{self._told:016x}"
        try:
            self._store.create(event(tell, name=name, now=stamp(self._clock.now())))
        except StatusError as error:
            log.info("an Event is lost: %s", error)


def _same_ownership(new: Object, old: Object) -> bool:
    a, b = new["metadata"], old["metadata"]
    return bool(
        a.get("ownerReferences") == b.get("ownerReferences")
        and a.get("finalizers") == b.get("finalizers")
        and a.get("deletionTimestamp") == b.get("deletionTimestamp")
    )
