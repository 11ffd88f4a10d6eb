"""What becomes of the dependents of owners that are deleted: background, foreground, orphan.

After pkg/controller/garbagecollector of Kubernetes 1.37 (attemptToDeleteItem, processDeletingDependentsItem,
orphanDependents).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from davylamp.embedded.controllers.objects import Object, deleted, finalizers, owners, uid, with_meta
from davylamp.embedded.controllers.writes import NOTHING, Plan, Remove, Update, Write

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


def is_waiting(obj: Object) -> bool:
    """Is it deleted, and held until its dependents are gone?"""
    return deleted(obj) and FOREGROUND in finalizers(obj)


def plan(obj: Object, dependents: Sequence[Object], owner: Callable[[Object], Object | None]) -> Plan:
    """What to do about one object. `owner` finds what an owner reference of it means: the object, or None."""
    if deleted(obj):
        return Plan(_let_go(obj, dependents))
    refs = owners(obj)
    if not refs:
        return NOTHING
    found = {ref["uid"]: owner(ref) for ref in refs}
    solid = [ref for ref in refs if (it := found[ref["uid"]]) is not None and not is_waiting(it)]
    if len(solid) == len(refs):
        return NOTHING
    if solid:
        return Plan([Update(with_meta(obj, ownerReferences=solid))])
    if any(it is not None for it in found.values()) and dependents:
        return Plan([*_unblock(obj, dependents), Remove(obj, "Foreground")])
    return Plan([Remove(obj, "Orphan" if ORPHAN in finalizers(obj) else "Background")])


def _let_go(obj: Object, dependents: Sequence[Object]) -> list[Write]:
    if ORPHAN in finalizers(obj):
        freed: list[Write] = [Update(_without_owner(dependent, obj)) for dependent in dependents]
        return [*freed, Update(_without_finalizer(obj, ORPHAN))]
    if FOREGROUND in finalizers(obj) and not any(_blocks(dependent, obj) for dependent in dependents):
        return [Update(_without_finalizer(obj, FOREGROUND))]
    return []


def _unblock(obj: Object, dependents: Sequence[Object]) -> list[Write]:
    """An object in a circle of owners that all wait for their dependents would wait for ever."""
    if not any(is_waiting(dependent) for dependent in dependents):
        return []
    refs = [{**ref, "blockOwnerDeletion": False} for ref in owners(obj)]
    return [Update(with_meta(obj, ownerReferences=refs))]


def _blocks(dependent: Object, owner: Object) -> bool:
    return any(ref["uid"] == uid(owner) and ref.get("blockOwnerDeletion") for ref in owners(dependent))


def _without_owner(obj: Object, owner: Object) -> Object:
    left = [ref for ref in owners(obj) if ref["uid"] != uid(owner)]
    return with_meta(obj, ownerReferences=left or None)


def _without_finalizer(obj: Object, finalizer: str) -> Object:
    left = [name for name in finalizers(obj) if name != finalizer]
    return with_meta(obj, finalizers=left or None)
