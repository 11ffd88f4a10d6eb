"""Everything in the store, by uid, by owner, and by what the controllers look for."""

from __future__ import annotations

from davylamp.embedded.controllers.endpointslice import SERVICE_LABEL
from davylamp.embedded.controllers.objects import Object, controller, kind_of, labels, owners

_Place = tuple[str, ...]


class Index:
    """Kept up to date by `see`, with every change of the store."""

    def __init__(self) -> None:
        self._objects: dict[str, Object] = {}
        self._at: dict[_Place, dict[str, None]] = {}
        """Uids, in the order in which they came."""

    def see(self, type_: str, new: Object, old: Object | None) -> None:
        """A change of the store. Most change no place, and cost next to nothing."""
        uid = new["metadata"]["uid"]
        if type_ == "MODIFIED" and old is not None and uid in self._objects and _stays(new, old):
            self._objects[uid] = new
            return
        before = _places(old) if old is not None and uid in self._objects else ()
        after = () if type_ == "DELETED" else _places(new)
        if after != before:
            for place in set(before) - set(after):
                left = self._at[place]
                left.pop(uid, None)
                if not left:
                    del self._at[place]
            for place in after:
                self._at.setdefault(place, {})[uid] = None
        if type_ == "DELETED":
            self._objects.pop(uid, None)
        else:
            self._objects[uid] = new

    def get(self, uid: str) -> Object | None:
        return self._objects.get(uid)

    def dependents(self, uid: str) -> list[Object]:
        """All that name this owner."""
        return self._read(("owner", uid))

    def controlled(self, kind: str, uid: str) -> list[Object]:
        """The objects of a kind that this owner manages."""
        return self._read(("controller", kind, uid))

    def orphans(self, kind: str, namespace: str) -> list[Object]:
        """The objects of a kind that nobody manages."""
        return self._read(("controller", kind, "", namespace))

    def of_kind(self, kind: str, namespace: str = "") -> list[Object]:
        """One namespace's; cluster-wide kinds have the namespace ""."""
        return self._read(("kind", kind, namespace))

    def anywhere(self, kind: str) -> list[Object]:
        """All of a kind, in all namespaces."""
        return self._read(("all", kind))

    def content(self, namespace: str) -> list[Object]:
        """Everything in a namespace."""
        return self._read(("in", namespace))

    def slices(self, namespace: str, service: str) -> list[Object]:
        return self._read(("slice", namespace, service))

    def pods_on(self, node: str) -> list[Object]:
        return self._read(("on", node))

    def _read(self, place: _Place) -> list[Object]:
        return [self._objects[uid] for uid in self._at.get(place, ())]


def _stays(new: Object, old: Object) -> bool:
    """Whether a change is none of places for sure: stored objects share what has not changed."""
    after, before = new["metadata"], old["metadata"]
    return (
        new.get("spec") is old.get("spec")
        and after.get("labels") is before.get("labels")
        and after.get("ownerReferences") is before.get("ownerReferences")
    )


def _places(obj: Object) -> tuple[_Place, ...]:
    meta, kind = obj["metadata"], kind_of(obj)
    namespace = meta.get("namespace", "")
    places: list[_Place] = [("kind", kind, namespace), ("all", kind)]
    places += (("owner", ref["uid"]) for ref in owners(obj))
    if namespace:
        places.append(("in", namespace))
    if kind in ("Pod", "ReplicaSet"):
        by = controller(obj)
        places.append(("controller", kind, by["uid"]) if by else ("controller", kind, "", namespace))
        if kind == "Pod" and obj["spec"].get("nodeName"):
            places.append(("on", obj["spec"]["nodeName"]))
    elif kind == "EndpointSlice" and SERVICE_LABEL in labels(obj):
        places.append(("slice", namespace, labels(obj)[SERVICE_LABEL]))
    return tuple(places)
