"""What the API server makes of an object on its way in: known fields, defaults, validation, ownership of fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from davylamp.embedded import defaults, events, patches, status
from davylamp.embedded.resources import Resource
from davylamp.embedded.writing import Request, kept_meta

if TYPE_CHECKING:
    from davylamp.embedded.store import Store

Object = dict[str, Any]


class Shaper:
    """Shapes objects for one store."""

    def __init__(self, store: Store, *, managed: bool) -> None:
        self._store = store
        self._managed = managed

    def incoming(self, resource: Resource, old: Object | None, obj: Object, request: Request) -> Object:
        """An object as a client sent it, in the form in which it is stored."""
        return events.inward(obj) if resource.name.startswith("Event") else obj

    def carried(self, resource: Resource, old: Object, new: Object, request: Request) -> Object:
        """`new` with everything of `old` that a write of this subresource leaves alone."""
        if request.subresource:
            return _subresource(old, new, request.subresource)
        meta = kept_meta(old, new)
        if meta is not new["metadata"]:
            new = {**new, "metadata": meta}
        if resource.status and new.get("status") is not old.get("status"):
            new = {key: value for key, value in new.items() if key != "status"}
            if "status" in old:
                new["status"] = old["status"]
        return new

    def created(self, resource: Resource, new: Object, request: Request) -> Object:
        """The last shape of a new object. Raises StatusError 422."""
        if resource.status and resource.name != "Node":
            new = {key: value for key, value in new.items() if key != "status"}
        return defaults.created(resource, defaults.filled(resource, None, new))

    def updated(self, resource: Resource, old: Object, new: Object, request: Request) -> Object:
        """The last shape of a changed object. Raises StatusError 422."""
        return defaults.filled(resource, old, new)

    def patched(self, resource: Resource, old: Object, body: Any, type_: str) -> Object:
        match type_:
            case "merge" if isinstance(body, dict):
                new = patches.merge(old, body)
            case "json":
                new = patches.json_patch(old, body)
            case _:
                raise status.not_implemented(f"patches of type {type_}")
        return dict(new)

    def applied(
        self,
        resource: Resource,
        old: Object | None,
        namespace: str,
        name: str,
        body: Any,
        force: bool,
        request: Request,
    ) -> Object:
        raise status.not_implemented("server-side apply")

    def stored(self, type_: str, resource: Resource, new: Object, old: Object | None) -> None:
        """Told of each commit before the listeners."""


def _subresource(old: Object, new: Object, subresource: str) -> Object:
    if subresource == "status":
        return {**old, "status": new.get("status") or {}}
    spec = new.get("spec") or {}
    if subresource == "finalize":
        return {**old, "spec": {**old["spec"], "finalizers": spec.get("finalizers") or []}}
    if subresource == "binding":
        if old["spec"].get("nodeName"):
            meta = old["metadata"]
            why = f'pod {meta["name"]} is already assigned to node "{old["spec"]["nodeName"]}"'
            raise status.conflict("", "pods/binding", meta["name"], why)
        return {**old, "spec": {**old["spec"], "nodeName": spec["nodeName"]}}
    raise status.no_such_path()
