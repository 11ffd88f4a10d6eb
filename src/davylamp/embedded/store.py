"""The objects of a cluster in memory, and the rules of the API server for reading and writing them.

Synchronous and single threaded: a call returns when the write is done and every listener has been told. There is no
I/O and no clock but the one given. Objects are JSON dicts that are NEVER mutated once stored: reads, listeners and
the history share them, and a caller must not change what it gets.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

from davylamp.embedded import definitions, selectors, status
from davylamp.embedded.gate import Gate
from davylamp.embedded.kinds import Kinds
from davylamp.embedded.protocol import Listener
from davylamp.embedded.resources import Resource, Resources
from davylamp.embedded.shaping import Shaper
from davylamp.embedded.writing import Request, bump, changed, check_identity, grace_of, held, new_meta, stamp, with_meta
from davylamp.kube.clock import Clock

Object = dict[str, Any]
Objects = list[Object]
Names = list[str]
Propagation = Literal["Background", "Foreground", "Orphan"]
PatchType = Literal["merge", "json", "strategic", "apply"]
Admission = Callable[[Object | None, Object, Request], Object]
"""Changes or refuses (StatusError) an object on its way in: (old, or None at creation; new; request) -> new."""

ADMIN = "kubernetes-admin"
HISTORY = 20_000
"""Changes that a watch can go back to; older ones are compacted away (410)."""
FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


class Change(msgspec.Struct, frozen=True):
    """One commit. `kind` is the store's name for the kind; `old` is None for an object that is new."""

    version: int
    type: str
    kind: str
    new: Object
    old: Object | None


Changes = list[Change]


class Logs(Protocol):
    """Where the logs of pods come from: the kubelet registers itself as `Store.logs`."""

    def read(self, namespace: str, pod: str, container: str, *, previous: bool) -> bytes:
        """All of a container's log, each line with an RFC 3339 time stamp and a blank before it. Raises StatusError."""

    def follow(self, namespace: str, pod: str, container: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when there is more to read or the container has ended, until the returned function is called."""

    def ended(self, namespace: str, pod: str, container: str) -> bool:
        """Whether nothing more will come."""


class Store:
    """A cluster's objects. `seed` makes uids and generated names repeatable; `managed=False` is for
    simulation, and faster: no managedFields (so server-side apply never removes a field), and the fields of
    built-in kinds are taken as they are, unknown or of a wrong type."""

    def __init__(self, clock: Clock, *, seed: int = 0, managed: bool = True, history: int = HISTORY) -> None:
        self.clock = clock
        self.resources = Resources()
        self.admission: list[Admission] = [Gate(self)]
        self.logs: Logs | None = None
        self.version = 0
        self.random = random.Random(seed)
        self.kinds = Kinds(self.resources)
        self._shaper = Shaper(self.kinds, clock.now, managed=managed)
        self._objects: dict[str, dict[str, dict[str, Object]]] = {}
        self._listeners: list[tuple[str, Listener]] = []
        self._hearing: dict[str, tuple[Listener, ...]] = {}
        """Who hears of a kind, in the order of their coming; empty after each change of the listeners."""
        self._history: deque[Change] = deque(maxlen=history)
        self._compacted = 0
        self._untold: deque[Change] = deque()
        self.subscribe(lambda type_, new, old: definitions.follow(self, type_, new), definitions.KIND)

    # --- reading ---

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object, or None. Raises StatusError 404 for an unknown kind."""
        resource = self.resources.named(kind)
        return self._objects.get(resource.name, {}).get(namespace, {}).get(name)

    def list(self, kind: str, namespace: str = "", labels: str = "", fields: str = "") -> Objects:
        """The objects of a kind that match, of one namespace or (empty) of all, in the order of their creation."""
        resource = self.resources.named(kind)
        groups = self._objects.get(resource.name, {})
        chosen = [groups.get(namespace, {})] if namespace else groups.values()
        return selectors.chosen([obj for group in chosen for obj in group.values()], labels, fields)

    def past(self, kind: str, version: int, namespace: str = "", labels: str = "", fields: str = "") -> Objects:
        """What `list` gave when the store was at `version`, in no order. Raises StatusError 410 as `since` does."""
        name = self.resources.named(kind).name
        then: dict[tuple[str, str], Object | None] = {}
        for change in self.since(version):
            if change.kind == name:
                meta = change.new["metadata"]
                then.setdefault((meta.get("namespace", ""), meta["name"]), change.old)
        groups = self._objects.get(name, {})
        now = {(space, obj_name): obj for space, group in groups.items() for obj_name, obj in group.items()}
        found = [obj for (space, _), obj in (now | then).items() if obj is not None and namespace in ("", space)]
        return selectors.chosen(found, labels, fields)

    def unknown_fields(self, resource: Resource, obj: Object) -> Names:
        """The paths of the fields in a manifest that would be dropped."""
        return self._shaper.unknown_fields(resource, obj)

    # --- watching ---

    def subscribe(self, listener: Listener, kind: str = "") -> Callable[[], None]:
        """Have `listener` called after each commit (of `kind`, if given), until the returned function is called."""
        entry = (kind, listener)
        self._listeners.append(entry)
        self._hearing.clear()

        def unsubscribe() -> None:
            if entry in self._listeners:
                self._listeners.remove(entry)
                self._hearing.clear()

        return unsubscribe

    def since(self, version: int) -> Changes:
        """The commits after `version`, oldest first. Raises StatusError 410 where they are not all known any more."""
        if version < self._compacted:
            raise status.expired(f"too old resource version: {version} ({self._compacted})")
        return [change for change in self._history if change.version > version]

    def compact(self) -> None:
        """Forget the history: watches from before now are refused with 410."""
        self._history.clear()
        self._compacted = self.version

    # --- writing ---

    def create(
        self,
        obj: Object,
        *,
        user: str = ADMIN,
        dry_run: bool = False,
        field_manager: str = "",
        strict: bool = False,
    ) -> Object:
        """Store a new object and return it as it is then. `strict` refuses unknown fields (else they are dropped).

        Raises StatusError, as every write does: 409 AlreadyExists, 404 for a missing namespace or kind, 422...
        """
        resource = self.resources.of(obj)
        request = Request("CREATE", user, dry_run, field_manager, strict=strict)
        return self._create(resource, obj, request)

    def update(
        self,
        obj: Object,
        *,
        subresource: str = "",
        user: str = ADMIN,
        dry_run: bool = False,
        field_manager: str = "",
        strict: bool = False,
    ) -> Object:
        """Replace an object, or only what belongs to a subresource: `status`, `finalize` (a Namespace's
        spec.finalizers), `binding` (a Pod's spec.nodeName). 409 Conflict where `obj` has a stale resourceVersion."""
        resource = self.resources.of(obj)
        request = Request("UPDATE", user, dry_run, field_manager, subresource, strict)
        meta = obj["metadata"]
        old = self._existing(resource, meta.get("namespace", ""), meta["name"])
        if resource.custom and not meta.get("resourceVersion"):
            cause = status.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise status.invalid(resource.group, resource.kind, meta["name"], [cause])
        return self._replace(resource, old, obj, request)

    def patch(
        self,
        kind: str,
        namespace: str,
        name: str,
        body: Any,
        type: PatchType = "merge",
        *,
        subresource: str = "",
        user: str = ADMIN,
        force: bool = False,
        field_manager: str = "",
        dry_run: bool = False,
        strict: bool = False,
    ) -> Object:
        """Patch an object. `apply` is server-side apply: it creates what isn't there, and needs `field_manager`."""
        resource = self.resources.named(kind)
        request = Request("UPDATE", user, dry_run, field_manager, subresource, strict, apply=type == "apply")
        if type == "apply":
            return self._apply(resource, namespace, name, body, force, request)
        old = self._existing(resource, namespace, name)
        new = self._shaper.patched(resource, old, body, type)
        return self._replace(resource, old, new, request)

    def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: Propagation = "Background",
        grace_seconds: int | None = None,
        user: str = ADMIN,
        dry_run: bool = False,
    ) -> Object | None:
        """Delete an object. Returns it as it is now where it lives on for its finalizers or a grace period (a bound
        Pod's, until its kubelet deletes it with `grace_seconds=0`), and None where it is gone."""
        resource = self.resources.named(kind)
        old = self._existing(resource, namespace, name)
        meta = old["metadata"]
        for field, wanted, found, what in (
            ("UID", uid, meta["uid"], "deleted and then recreated"),
            ("ResourceVersion", resource_version, meta["resourceVersion"], "modified"),
        ):
            if wanted and wanted != found:
                why = f"the {field} in the precondition ({wanted}) does not match the {field} in record ({found})"
                text = f"{why}. The object might have been {what}"
                raise status.conflict(resource.group, resource.kind, name, text)
        for admit in self.admission:
            admit(old, old, Request("DELETE", user, dry_run, ""))
        grace = grace_of(resource, old, grace_seconds)
        finalizers = _deletion_finalizers(meta.get("finalizers") or [], propagation)
        if not finalizers and not grace and not held(resource, old):
            if not dry_run:
                self._vanish(resource, old, old)
            return None
        return self._mark_deleted(resource, old, grace, finalizers, dry_run)

    # --- inside ---

    def _create(self, resource: Resource, obj: Object, request: Request) -> Object:
        if resource.unmade:
            raise status.not_implemented(resource.unmade)
        obj = self._shaper.incoming(resource, None, obj, request)
        if resource.stored_as:
            resource = self.resources.named(resource.stored_as)
        meta = new_meta(resource, obj, self.clock.now(), self.random)
        namespace, name = meta.get("namespace", ""), meta["name"]
        self._check_namespace(resource, namespace, name)
        if self._find(resource, namespace, name) is not None:
            raise status.already_exists(resource.group, resource.plural, name)
        new = self._shaper.filled(resource, None, with_meta(obj, meta))
        new = self._shaper.created(resource, self._admitted(resource, None, new, request), request)
        if request.dry_run:
            return new
        return self._commit("ADDED", resource, new, None)

    def _replace(self, resource: Resource, old: Object, new: Object, request: Request) -> Object:
        new = self._shaper.incoming(resource, old, new, request)
        check_identity(resource, old, new)
        new = self._shaper.carried(resource, old, new, request)
        if not request.subresource:
            new = self._admitted(resource, old, new, request)
        new = self._shaper.updated(resource, old, new, request)
        return self._settle(resource, old, new, request)

    def _admitted(self, resource: Resource, old: Object | None, new: Object, request: Request) -> Object:
        """What the admission hooks make of an object; with defaults again where they change it."""
        result = new
        for admit in self.admission:
            result = admit(old, result, request)
        return result if result is new else self._shaper.filled(resource, old, result)

    def _settle(self, resource: Resource, old: Object, new: Object, request: Request) -> Object:
        """Store what has become of an object: nothing where nothing has changed, or its end."""
        if not changed(old, new):
            return old
        new = bump(resource, old, new)
        if request.dry_run:
            return new
        meta = new["metadata"]
        ends = "deletionTimestamp" in meta and not meta.get("deletionGracePeriodSeconds")
        if ends and not meta.get("finalizers") and not held(resource, new):
            return self._vanish(resource, new, old)
        return self._commit("MODIFIED", resource, new, old)

    def _apply(self, resource: Resource, namespace: str, name: str, body: Any, force: bool, request: Request) -> Object:
        old = self._find(resource, namespace, name)
        new = self._shaper.applied(resource, old, (namespace, name), body, force, request)
        if old is None:
            return self._create(resource, new, request)
        return self._replace(resource, old, new, request)

    def _mark_deleted(self, resource: Resource, old: Object, grace: int, finalizers: Names, dry_run: bool) -> Object:
        meta = old["metadata"]
        request = Request("DELETE", ADMIN, dry_run, "")
        if "deletionTimestamp" in meta and grace >= meta.get("deletionGracePeriodSeconds", 0):
            if finalizers == (meta.get("finalizers") or []):
                return old
            return self._settle(resource, old, with_meta(old, {**meta, "finalizers": finalizers}), request)
        now = self.clock.now()
        marked = {**meta, "deletionGracePeriodSeconds": grace, "deletionTimestamp": stamp(now, grace)}
        if finalizers:
            marked["finalizers"] = finalizers
        if "generation" in meta and "deletionTimestamp" not in meta:
            marked["generation"] = meta["generation"] + 1
        new = with_meta(old, marked)
        if resource.name == "Namespace":
            new["status"] = {**old.get("status", {}), "phase": "Terminating"}
        return self._settle(resource, old, new, request)

    def _find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return self._objects.get(resource.name, {}).get(namespace, {}).get(name)

    def _existing(self, resource: Resource, namespace: str, name: str) -> Object:
        found = self._find(resource, namespace, name)
        if found is None:
            raise status.not_found(resource.group, resource.plural, name)
        return found

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        found = self._objects.get("Namespace", {}).get("", {}).get(namespace)
        if found is None:
            raise status.not_found("", "namespaces", namespace)
        if "deletionTimestamp" in found["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = status.Cause(
                "metadata.namespace", f"namespace {namespace} is being terminated", "NamespaceTerminating"
            )
            raise status.forbidden(resource.group, resource.plural, name, why, [cause])

    def _commit(self, type_: str, resource: Resource, new: Object, old: Object | None) -> Object:
        self.version += 1
        meta = {**new["metadata"], "resourceVersion": str(self.version)}
        stored = {**new, "metadata": meta}
        group = self._objects.setdefault(resource.name, {}).setdefault(meta.get("namespace", ""), {})
        if type_ == "DELETED":
            del group[meta["name"]]
        else:
            group[meta["name"]] = stored
        if len(self._history) == self._history.maxlen:
            self._compacted = self._history[0].version
        change = Change(self.version, type_, resource.name, stored, old)
        self._history.append(change)
        self._untold.append(change)
        if len(self._untold) == 1:
            self._tell()
        return stored

    def _tell(self) -> None:
        """Tell the listeners, also of what they write themselves, in order."""
        while self._untold:
            change = self._untold[0]
            try:
                for listener in self._who_hears(change.kind):
                    listener(change.type, change.new, change.old)
            finally:
                self._untold.popleft()

    def _who_hears(self, kind: str) -> tuple[Listener, ...]:
        found = self._hearing.get(kind)
        if found is None:
            found = self._hearing[kind] = tuple(hears for wanted, hears in self._listeners if wanted in ("", kind))
        return found

    def _vanish(self, resource: Resource, last: Object, old: Object) -> Object:
        return self._commit("DELETED", resource, last, old)


def _deletion_finalizers(present: list[str], propagation: Propagation) -> list[str]:
    """What holds an object that is being deleted: its own finalizers, and one of the garbage collector's."""
    kept = [name for name in present if name not in FINALIZERS.values()]
    return [*kept, FINALIZERS[propagation]] if propagation in FINALIZERS else kept
