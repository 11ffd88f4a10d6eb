"""Who owns which fields: managedFields, and server-side apply, which rests on them.

As sigs.k8s.io/structured-merge-diff/merge does it: an update takes over what it changes; an apply owns what it says,
may not change what others own (409, unless forced), and removes what it owned and no longer says.
"""

from __future__ import annotations

from typing import Any

import msgspec

from davylamp.embedded.fieldsets import Tree, common, difference, granular, members, minus, parts, paths, union
from davylamp.embedded.schema import Schema
from davylamp.embedded.status import StatusError

Object = dict[str, Any]
Entries = list[Object]

APART = ("apiVersion", "kind")
META_APART = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
)


class Writer(msgspec.Struct, frozen=True):
    """Whose fields these are."""

    manager: str
    api_version: str
    time: str
    subresource: str = ""

    def entry(self, operation: str, fields: Tree) -> Object:
        found: Object = {
            "manager": self.manager,
            "operation": operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        return found | ({"subresource": self.subresource} if self.subresource else {})

    def wrote(self, entry: Object, operation: str) -> bool:
        """Is this the entry of this writer?"""
        found = (entry["manager"], entry["operation"], entry.get("subresource", ""))
        return found == (self.manager, operation, self.subresource)


def owned(obj: Object) -> Object:
    """The part of an object that has owners."""
    meta = {key: value for key, value in obj.get("metadata", {}).items() if key not in META_APART}
    found = {key: value for key, value in obj.items() if key not in APART and key != "metadata"}
    return {"metadata": meta, **found} if meta else found


def updated(schema: Schema, old: Object | None, new: Object, writer: Writer) -> Entries:
    """The entries after an ordinary write."""
    entries: Entries = list(old["metadata"].get("managedFields") or ()) if old else []
    changed, removed = difference(schema, owned(old) if old else {}, owned(new))
    if not changed and not removed:
        return entries
    gone = union(changed, removed)
    result: Entries = []
    mine: Object | None = None
    for entry in entries:
        if writer.wrote(entry, "Update"):
            mine = entry
            continue
        left = minus(entry["fieldsV1"], gone)
        if left:
            result.append(entry if left == entry["fieldsV1"] else {**entry, "fieldsV1": left})
    fields = union(minus(mine["fieldsV1"], removed) if mine else {}, changed)
    if fields:
        result.append(writer.entry("Update", fields))
    return result


def applied(schema: Schema, old: Object | None, config: Object, writer: Writer, *, force: bool) -> Object:
    """`old` with `config` applied by `writer`, managedFields and all. Raises StatusError 409 for conflicts."""
    says = members(schema, owned(config))
    if old is None:
        entries = [writer.entry("Apply", says)]
        return {**config, "metadata": {**config["metadata"], "managedFields": entries}}
    entries = list(old["metadata"].get("managedFields") or ())
    others = [entry for entry in entries if not writer.wrote(entry, "Apply")]
    before: Tree = next((entry["fieldsV1"] for entry in entries if writer.wrote(entry, "Apply")), {})
    merged = _merged(schema, old, {**config, "metadata": {**config.get("metadata", {})}})
    changed, _ = difference(schema, owned(old), owned(merged))
    conflicts = [(entry, clash) for entry in others if (clash := common(entry["fieldsV1"], common(changed, says)))]
    if conflicts and not force:
        raise _conflict(conflicts)
    theirs: Tree = {}
    kept: Entries = []
    for entry in others:
        left = minus(entry["fieldsV1"], common(changed, says)) if conflicts else entry["fieldsV1"]
        theirs = union(theirs, left)
        if left:
            kept.append(entry if left is entry["fieldsV1"] else {**entry, "fieldsV1": left})
    gone = minus(minus(before, says), theirs)
    if gone:
        merged = _without(schema, merged, gone, union(theirs, says))
    meta = {**merged["metadata"], "managedFields": [*kept, writer.entry("Apply", says)]}
    return {**merged, "metadata": meta}


def _conflict(conflicts: list[tuple[Object, Tree]]) -> StatusError:
    causes, lines, count = [], [], 0
    for entry, clash in conflicts:
        using = f' with subresource "{entry["subresource"]}"' if entry.get("subresource") else ""
        how = f" using {entry['apiVersion']}" if entry["operation"] == "Update" else ""
        who = f'conflict with "{entry["manager"]}"{using}{how}'
        found = paths(clash)
        count += len(found)
        lines.append(f"{who}: {found[0]}" if len(found) == 1 else f"{who}:\n" + "\n".join(f"- {p}" for p in found))
        causes += [{"reason": "FieldManagerConflict", "message": who, "field": path} for path in found]
    head = f"Apply failed with {count} conflict{'' if count == 1 else 's'}: "
    if len(conflicts) > 1:
        head = f"Apply failed with {count} conflicts: "
    return StatusError(409, "Conflict", head + "\n".join(lines), {"causes": causes})


def _merged(schema: Schema | None, old: Any, config: Any) -> Any:
    if not granular(schema, config) or type(old) is not type(config):
        return config
    if isinstance(config, dict):
        new = dict(old)
        for key, value in config.items():
            if value is not None:
                child = schema.field(key) if schema else None
                new[key] = _merged(child, old[key], value) if key in old else value
        return old if new == old else new
    before, given = parts(schema, old), parts(schema, config)
    result = [_merged(child, value, given[at][1]) if at in given else value for at, (child, value) in before.items()]
    return [*result, *(value for at, (_, value) in given.items() if at not in before)]


def _without(schema: Schema | None, value: Any, gone: Tree, kept: Tree) -> Any:
    """`value` without the members of `gone`; what somebody else has inside of one stays."""
    if not granular(schema, value):
        return value
    result: list[tuple[str, Any]] = []
    for element, (child, entry) in parts(schema, value).items():
        leaving, staying = gone.get(element), kept.get(element)
        if leaving is None:
            result.append((element, entry))
        elif staying is None and (not leaving or "." in leaving):
            continue
        else:
            left = _without(child, entry, leaving, staying or {})
            if left or staying is not None or not isinstance(left, dict | list):
                result.append((element, left))
    if isinstance(value, dict):
        return {element.removeprefix("f:"): entry for element, entry in result}
    return [entry for _, entry in result]
