"""What the API server makes of an object on its way in: known fields, defaults, validation, ownership of fields."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from davylamp.embedded import checking, crds, defaults, events, gate, managed, patches, status, strategic, validation
from davylamp.embedded.kinds import Kinds
from davylamp.embedded.resources import Resource
from davylamp.embedded.schema import Shape, mistyped
from davylamp.embedded.writing import Request, kept_meta, stamp, with_meta

Object = dict[str, Any]


class Shaper:
    """Shapes objects for one store. `managed=False` keeps no managedFields, and trusts in built-in kinds' fields."""

    def __init__(self, kinds: Kinds, now: Callable[[], datetime], *, managed: bool) -> None:
        self._kinds = kinds
        self._now = now
        self._managed = managed

    def incoming(self, resource: Resource, old: Object | None, obj: Object, request: Request) -> Object:
        """An object as a client sent it, in the form in which it is stored. Raises StatusError 400."""
        if resource.name == "Event.events.k8s.io":
            obj, resource = events.inward(obj), self._kinds.resources.named("Event")
        if obj.get("apiVersion") != resource.api_version:
            obj = {**obj, "apiVersion": resource.api_version}
        if not self._managed and not resource.custom and not request.strict:
            return obj  # Written by programs, who know the kinds.
        schema = self._kinds.schema(resource)
        if not resource.custom and (problem := mistyped(schema, obj, "", old)):
            name = f'{resource.kind} in version "{resource.version}"'
            raise status.bad_request(f"{name} cannot be handled as a {resource.kind}: {problem}")
        shape = Shape()
        obj = shape.of(schema, obj, old)
        if request.strict and shape.unknown:
            listed = ", ".join(f'unknown field "{path}"' for path in shape.unknown)
            name = f'{resource.kind} in version "{resource.version}"'
            raise status.bad_request(f"{name} cannot be handled as a {resource.kind}: strict decoding error: {listed}")
        return obj

    def unknown_fields(self, resource: Resource, obj: Object) -> list[str]:
        """The fields of a manifest that are dropped."""
        if resource.stored_as:
            obj, resource = events.inward(obj), self._kinds.resources.named(resource.stored_as)
        shape = Shape()
        shape.of(self._kinds.schema(resource), obj)
        return shape.unknown

    def carried(self, resource: Resource, old: Object, new: Object, request: Request) -> Object:
        """`new` with everything of `old` that a write of this subresource leaves alone."""
        if request.subresource:
            return _subresource(old, new, request)
        meta = kept_meta(old, new)
        if meta is not new["metadata"]:
            new = with_meta(new, meta)
        if resource.status and new.get("status") is not old.get("status"):
            new = {key: value for key, value in new.items() if key != "status"}
            if "status" in old:
                new["status"] = old["status"]
        return self.filled(resource, old, new)

    def filled(self, resource: Resource, old: Object | None, obj: Object) -> Object:
        """An object with its defaults."""
        if resource.name == "CustomResourceDefinition":
            return crds.filled(obj)
        return defaults.filled(resource, old, obj)

    def created(self, resource: Resource, new: Object, request: Request) -> Object:
        """The last shape of a new object. Raises StatusError 422."""
        if resource.status and resource.name != "Node":
            new = {key: value for key, value in new.items() if key != "status"}
        new = defaults.created(resource, new)
        self._check(resource, None, new, request)
        if resource.name == "CustomResourceDefinition":
            new = crds.held(crds.established(new, stamp(self._now())))
        return self._signed(resource, None, new, request)

    def updated(self, resource: Resource, old: Object, new: Object, request: Request) -> Object:
        """The last shape of a changed object. Raises StatusError 422."""
        self._check(resource, old, new, request)
        if resource.name == "CustomResourceDefinition" and not request.subresource:
            new = crds.established(new, old["status"]["conditions"][0]["lastTransitionTime"])
        return self._signed(resource, old, new, request)

    def patched(self, resource: Resource, old: Object, body: Any, type_: str) -> Object:
        """`old` with a patch carried out. Raises StatusError."""
        new: Any
        if type_ == "json":
            new = patches.json_patch(old, body)
        elif not isinstance(body, dict):
            raise status.bad_request("the body of a patch must be a JSON object")
        elif type_ == "merge":
            new = patches.merge(old, body)
        elif resource.custom:
            message = "the body of the request was in an unknown format - accepted media types include: "
            accepted = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
            raise status.StatusError(415, "UnsupportedMediaType", message + accepted)
        else:
            new = strategic.merge(self._kinds.schema(resource), old, body)
        if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
            raise status.bad_request("the patch leaves no object with metadata")
        return dict(new)

    def applied(
        self, resource: Resource, old: Object | None, place: tuple[str, str], body: Any, force: bool, request: Request
    ) -> Object:
        """`old` (None: a new object) with a configuration applied at `place` (namespace, name). Raises StatusError."""
        config = _configuration(resource, place, body)
        if not request.field_manager:
            cause = status.required("fieldManager", "is required for apply patch")
            raise status.invalid("meta.k8s.io", "PatchOptions", "", [cause])
        if not self._managed:
            merged: Object = config if old is None else patches.merge(old, config)
            return merged
        config = self._without_defaults(resource, config, request)
        schema = self._kinds.schema(resource)
        return managed.applied(schema, old, config, self._writer(resource, request), force=force)

    # --- inside ---

    def _without_defaults(self, resource: Resource, config: Object, request: Request) -> Object:
        """A configuration in shape, whose defaults are not the applier's."""
        shaped = self.incoming(resource, None, config, request)
        found: Object = _restricted(shaped, config)
        return found

    def _check(self, resource: Resource, old: Object | None, new: Object, request: Request) -> None:
        if resource.custom:
            causes = checking.problems(self._kinds.schema(resource), new, old)
        elif resource.name == "CustomResourceDefinition":
            crds.check(new)
            causes = []
        elif resource.name in (gate.POLICY, gate.BINDING):
            gate.check(resource, new)
            causes = []
        else:
            causes = validation.problems(resource, old, new, request.subresource)
        if causes:
            raise status.invalid(resource.group, resource.kind, new["metadata"]["name"], causes)

    def _signed(self, resource: Resource, old: Object | None, new: Object, request: Request) -> Object:
        """With managedFields as they are after this write."""
        if not self._managed:
            return new
        if request.apply:
            return new
        entries = managed.updated(self._kinds.schema(resource), old, new, self._writer(resource, request))
        meta = new["metadata"]
        if entries == meta.get("managedFields"):
            return new
        return with_meta(new, {**meta, "managedFields": entries})

    def _writer(self, resource: Resource, request: Request) -> managed.Writer:
        manager = request.field_manager or request.user
        subresource = request.subresource if request.subresource in ("status", "scale") else ""
        return managed.Writer(manager, resource.api_version, stamp(self._now()), subresource)


def _subresource(old: Object, new: Object, request: Request) -> Object:
    match request.subresource:
        case "status":
            found = {**old, "status": new.get("status") or {}}
        case "scale":
            found = {**old, "spec": new["spec"]}
        case "finalize":
            spec = {**old["spec"], "finalizers": (new.get("spec") or {}).get("finalizers") or []}
            found = {**old, "spec": spec}
        case "binding":
            meta, node = old["metadata"], old["spec"].get("nodeName")
            if node:
                why = f'pod {meta["name"]} is already assigned to node "{node}"'
                raise status.conflict("", "pods/binding", meta["name"], why)
            found = {**old, "spec": {**old["spec"], "nodeName": new["spec"]["nodeName"]}}
        case _:
            raise status.no_such_path()
    entries = new["metadata"].get("managedFields")
    if request.apply and entries is not None:
        return with_meta(found, {**old["metadata"], "managedFields": entries})
    return found


def _configuration(resource: Resource, place: tuple[str, str], body: Any) -> Object:
    """The body of an apply, complete with kind and name. Raises StatusError 400."""
    if not isinstance(body, dict):
        raise status.bad_request("the body of a server-side apply must be a JSON object")
    namespace, name = place
    meta = body.get("metadata") or {}
    if meta.get("managedFields"):
        raise status.bad_request("metadata.managedFields must be nil")
    if meta.get("name", name) != name:
        message = f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        raise status.bad_request(message)
    group, _, _ = str(body.get("apiVersion", "")).rpartition("/")
    if body.get("kind") != resource.kind or group != resource.group:
        raise status.bad_request(f"apply patch must be a {resource.kind} of {resource.api_version}")
    named = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {**body, "metadata": {**meta, **named}}


def _restricted(shaped: Any, given: Any) -> Any:
    """The fields of `shaped` that are in `given` too."""
    if isinstance(shaped, dict) and isinstance(given, dict):
        return {key: _restricted(value, given[key]) for key, value in shaped.items() if key in given}
    if isinstance(shaped, list) and isinstance(given, list) and len(shaped) == len(given):
        return [_restricted(one, other) for one, other in zip(shaped, given, strict=True)]
    return shaped
