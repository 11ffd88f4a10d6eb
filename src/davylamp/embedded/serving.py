"""Requests on the store, in the words of HTTP: lists in parts, tables, scale, evictions, deletion of many."""

from __future__ import annotations

import base64
from typing import Any, cast

import msgspec

from davylamp.embedded import events, fieldlabels, scale, status, tables
from davylamp.embedded.accepting import Accepted
from davylamp.embedded.bodies import DeleteOptions, Query
from davylamp.embedded.resources import Resource
from davylamp.embedded.routes import Place
from davylamp.embedded.status import StatusError
from davylamp.embedded.store import Object, Objects, PatchType, Propagation, Store
from davylamp.embedded.watching import Watch

PATCHES: dict[str, PatchType] = {
    "application/merge-patch+json": "merge",
    "application/json-patch+json": "json",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
DELETED_IS_SHOWN = ("Pod", "Service", "ServiceAccount")
"""Kinds whose deletion is answered with the last state instead of a Status."""


class Answer(msgspec.Struct, frozen=True):
    body: Any
    code: int = 200
    warnings: tuple[str, ...] = ()


class Serving:
    """Answers for one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.watches: list[Watch] = []

    def cut(self) -> None:
        for watch in self.watches:
            watch.end()

    def outward(self, resource: Resource, obj: Object, version: str = "") -> Object:
        """A stored object as this resource shows it."""
        if resource.stored_as:
            return events.outward(obj)
        if version and version != resource.version:
            return {**obj, "apiVersion": f"{resource.group}/{version}"}
        return obj

    # --- reading ---

    def get(self, resource: Resource, where: Place, query: Query) -> Answer:
        wanted_version(query, self.store.version)
        obj = self._existing(resource, where)
        if where.subresource == "scale":
            return Answer(self.one(resource, scale.shown(resource, obj), query))
        shown = self.outward(resource, obj, where.version)
        return Answer(self.one(resource, shown, query))

    def list(self, resource: Resource, where: Place, query: Query) -> Answer:
        version, after = self._at(query)
        kind, fields = resource.stored_as or resource.name, fieldlabels.stored(resource, query.fields)
        if version == self.store.version:
            found = self.store.list(kind, where.namespace, query.labels, fields)
        else:
            found = self.store.past(kind, version, where.namespace, query.labels, fields)
        found.sort(key=_key)
        meta: Object = {"resourceVersion": str(version)}
        found, more = _part(found, query, version, after)
        shown = [self.outward(resource, obj, where.version) for obj in found]
        if (shape := query.answer.shape) == "Table":
            return Answer({**self.table(resource, shown, query), "metadata": meta | more})
        if shape:
            return Answer(tables.metadata_of_all(shown, meta | more, shape))
        head = {"kind": resource.list_kind, "apiVersion": _api_version(resource, where.version)}
        bare = [{key: value for key, value in obj.items() if key not in head} for obj in shown]
        return Answer({**head, "metadata": meta | more, "items": shown if resource.custom else bare})

    def _at(self, query: Query) -> tuple[int, tuple[str, str]]:
        """The version that a list shows, and the namespace and name after which it begins. The parts of a list show
        one version. Raises StatusError 400, 410 or 504."""
        if query.token:
            try:
                version, _, after = base64.urlsafe_b64decode(query.token).decode().partition(" ")
                namespace, _, name = after.partition("/")
                return int(version), (namespace, name)
            except ValueError:
                raise status.bad_request("continue key is not valid") from None
        current = self.store.version
        wanted = wanted_version(query, current)
        return (wanted if query.match == "Exact" and wanted else current), ("", "")

    def table(self, resource: Resource, shown: Objects, query: Query) -> Object:
        printer = self.store.kinds.printer(resource)
        if shown and shown[0].get("kind") == "Scale":
            printer = tables.SCALE
        return tables.table(printer, self.store.clock.now(), shown, query.include)

    def one(self, resource: Resource, shown: Object, query: Query) -> Object:
        """One object in the shape that is asked for. Raises StatusError 406 for the shape of a list."""
        if query.answer.shape == "Table":
            return self.table(resource, [shown], query)
        return tables.metadata_of(shown, query.answer.shape) if query.answer.shape else shown

    # --- writing ---

    def create(self, resource: Resource, where: Place, query: Query, body: Any, user: str) -> Answer:
        if where.subresource == "binding":
            return self._bind(where, body, user)
        if where.subresource == "eviction":
            return self._evict(where, body, user)
        if where.name:
            raise status.method_not_supported()
        manifest = _manifest(resource, where, body)
        obj = self.store.create(
            manifest,
            user=user,
            dry_run=query.dry_run,
            field_manager=query.field_manager,
            strict=query.validation == "Strict",
        )
        return Answer(self.outward(resource, obj, where.version), 201, self._warnings(resource, manifest, query))

    def update(self, resource: Resource, where: Place, query: Query, body: Any, user: str) -> Answer:
        manifest = _manifest(resource, where, body, kinds=("Scale",) if where.subresource == "scale" else ())
        old = self._existing(resource, where)
        if where.subresource == "scale":
            replicas = (manifest.get("spec") or {}).get("replicas", 0)
            change = scale.change(resource, replicas, manifest.get("metadata") or {})
            return self._scaled(resource, where, query, change, "merge", user)
        if manifest["metadata"].get("name") != where.name:
            given = manifest["metadata"].get("name")
            raise status.bad_request(
                f"the name of the object ({given}) does not match the name on the URL ({where.name})"
            )
        obj = self.store.update(
            manifest,
            subresource=where.subresource,
            user=user,
            dry_run=query.dry_run,
            field_manager=query.field_manager,
            strict=query.validation == "Strict",
        )
        del old
        return Answer(self.outward(resource, obj, where.version), warnings=self._warnings(resource, manifest, query))

    def patch(self, resource: Resource, where: Place, query: Query, body: Any, type_: str, user: str) -> Answer:
        kind = PATCHES.get(type_)
        if kind is None:
            listed = ", ".join(PATCHES)
            message = f"the body of the request was in an unknown format - accepted media types include: {listed}"
            raise StatusError(415, "UnsupportedMediaType", message)
        if where.subresource == "scale":
            shown = scale.shown(resource, self._existing(resource, where))
            change = scale.patched(resource, shown, body, kind)
            return self._scaled(resource, where, query, change, "merge", user)
        name, existed = resource.stored_as or resource.name, self._found(resource, where) is not None
        if resource.stored_as and isinstance(body, dict):
            body = events.inward({"apiVersion": events.GROUP, **body})
        obj = self.store.patch(
            name,
            where.namespace,
            where.name,
            body,
            kind,
            subresource=where.subresource,
            user=user,
            force=query.force,
            field_manager=query.field_manager,
            dry_run=query.dry_run,
            strict=query.validation == "Strict",
        )
        code = 200 if existed else 201
        warnings = self._warnings(resource, body, query) if kind == "apply" else ()
        return Answer(self.outward(resource, obj, where.version), code, warnings)

    def delete(self, resource: Resource, where: Place, options: DeleteOptions, user: str) -> Answer:
        last = self._existing(resource, where)
        left = self._delete(resource, where.namespace, where.name, options, user)
        if left is not None:
            return Answer(self.outward(resource, left, where.version))
        if resource.name in DELETED_IS_SHOWN:
            return Answer(last)
        meta = last["metadata"]
        details = {"name": meta["name"], "group": resource.group, "kind": resource.plural, "uid": meta["uid"]}
        kept = {key: value for key, value in details.items() if value}
        return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": kept})

    def delete_collection(
        self, resource: Resource, where: Place, query: Query, options: DeleteOptions, user: str
    ) -> Answer:
        if resource.name == "Service" and not where.namespace:
            raise status.method_not_supported()
        found = self.list(resource, where, msgspec.structs.replace(query, answer=Accepted()))
        for obj in found.body["items"]:
            meta = obj["metadata"]
            self._delete(resource, meta.get("namespace", ""), meta["name"], options, user)
        return found

    def _delete(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions, user: str
    ) -> Object | None:
        return self.store.delete(
            resource.stored_as or resource.name,
            namespace,
            name,
            uid=options.uid,
            resource_version=options.resource_version,
            propagation=cast("Propagation", options.propagation),
            grace_seconds=options.grace_seconds,
            user=user,
            dry_run=options.dry_run,
        )

    # --- subresources ---

    def _scaled(
        self, resource: Resource, where: Place, query: Query, change: Object, type_: PatchType, user: str
    ) -> Answer:
        obj = self.store.patch(
            resource.name,
            where.namespace,
            where.name,
            change,
            type_,
            subresource="scale",
            user=user,
            field_manager=query.field_manager,
            dry_run=query.dry_run,
        )
        return Answer(scale.shown(resource, obj))

    def _bind(self, where: Place, body: Object, user: str) -> Answer:
        node = (body.get("target") or {}).get("name")
        change = {"spec": {"nodeName": node}}
        self.store.patch("Pod", where.namespace, where.name, change, subresource="binding", user=user)
        return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    def _evict(self, where: Place, body: Object, user: str) -> Answer:
        """Without PodDisruptionBudgets, which are not served, an eviction is a deletion."""
        grace = (body.get("deleteOptions") or {}).get("gracePeriodSeconds")
        self.store.delete("Pod", where.namespace, where.name, grace_seconds=grace, user=user)
        return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    # --- inside ---

    def _found(self, resource: Resource, where: Place) -> Object | None:
        return self.store.get(resource.stored_as or resource.name, where.namespace, where.name)

    def _existing(self, resource: Resource, where: Place) -> Object:
        found = self._found(resource, where)
        if found is None:
            raise status.not_found(resource.group, resource.plural, where.name)
        return found

    def _warnings(self, resource: Resource, manifest: Any, query: Query) -> tuple[str, ...]:
        if query.validation != "Warn" or not isinstance(manifest, dict):
            return ()
        return tuple(f'unknown field "{path}"' for path in self.store.unknown_fields(resource, manifest))


def wanted_version(query: Query, current: int) -> int:
    """The resourceVersion of a request, 0 for none. Raises StatusError 400 for no version, 504 for one to come."""
    version = query.resource_version or "0"
    if not version.isdigit():
        raise status.bad_request(f'invalid resource version: "{version}"')
    if int(version) > current:
        message = f"Too large resource version: {version}, current: {current}"
        causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        raise StatusError(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})
    return int(version)


def _part(found: Objects, query: Query, version: int, after: tuple[str, str]) -> tuple[Objects, Object]:
    """The page of a list that is asked for, and what its metadata says about the rest."""
    if query.token:
        found = [obj for obj in found if _key(obj) > after]
    if not query.limit or len(found) <= query.limit:
        return found, {}
    part = found[: query.limit]
    namespace, name = _key(part[-1])
    more: Object = {"continue": base64.urlsafe_b64encode(f"{version} {namespace}/{name}".encode()).decode()}
    if not query.labels and not query.fields:
        more["remainingItemCount"] = len(found) - len(part)
    return part, more


def _key(obj: Object) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _api_version(resource: Resource, version: str) -> str:
    return f"{resource.group}/{version}" if resource.group else version


def _manifest(resource: Resource, where: Place, body: Any, kinds: tuple[str, ...] = ()) -> Object:
    """The body as an object of the kind at this URL. Raises StatusError 400."""
    if not isinstance(body, dict):
        raise status.bad_request("the object provided is unrecognized: it is no JSON object")
    if kinds:
        return body
    expected = {"apiVersion": _api_version(resource, where.version), "kind": resource.kind}
    for field, value in expected.items():
        if body.get(field, value) != value:
            message = f'{body["kind"]} in version "{body.get("apiVersion")}" cannot be handled as a {resource.kind}'
            raise status.bad_request(message)
    meta = body.get("metadata") or {}
    if not isinstance(meta, dict):
        raise status.bad_request("metadata is no JSON object")
    if where.namespace:
        if meta.get("namespace") not in (None, "", where.namespace):
            raise status.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        meta = {**meta, "namespace": where.namespace}
    return {**body, **expected, "metadata": meta}
