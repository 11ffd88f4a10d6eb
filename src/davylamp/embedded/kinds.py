"""What is known of each kind that is served: its schema and its columns. Follows the CRDs of one store."""

from __future__ import annotations

from typing import Any

from davylamp.embedded import crds, tables
from davylamp.embedded.resources import Resource, Resources
from davylamp.embedded.schema import Schema, built_in, custom

Object = dict[str, Any]

_built_in: dict[str, Schema] = {}
"""Shared by all stores: a simulation has thousands."""


class Kinds:
    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.raw: dict[str, Object] = {}
        """The OpenAPI schemas of custom kinds, by `name/version`."""
        self.revision = 0
        """Counts the changes of what is served."""
        self._custom: dict[str, Schema] = {}
        self._printers: dict[str, tables.Printer] = {}

    def schema(self, resource: Resource) -> Schema:
        """The schema in which objects of a kind are stored."""
        if resource.custom:
            return self._custom[resource.name]
        found = _built_in.get(resource.name)
        if found is None:
            found = _built_in[resource.name] = built_in(resource.group, resource.version, resource.kind)
        return found

    def printer(self, resource: Resource) -> tables.Printer:
        return self._printers.get(resource.name) or tables.PRINTERS.get(resource.name, tables.PLAIN)

    def defined(self, crd: Object) -> None:
        """A CRD is there, or has changed."""
        self.revision += 1
        spec = crd["spec"]
        name = self.resources.name_for(spec["group"], spec["names"]["kind"])
        resource = crds.resource(crd, name)
        self.resources.add(resource)
        for version, schema in crds.raw_schemas(crd).items():
            self.raw[f"{name}/{version}"] = schema
        self._custom[name] = custom(self.raw[f"{name}/{resource.version}"])
        self._printers[name] = tables.custom(crds.columns(crd))

    def removed(self, crd: Object) -> Resource:
        """A CRD is gone; what was served because of it."""
        self.revision += 1
        spec = crd["spec"]
        resource = self.resources.named(self.resources.name_for(spec["group"], spec["names"]["kind"]))
        self.resources.remove(resource)
        for version in crds.raw_schemas(crd):
            del self.raw[f"{resource.name}/{version}"]
        return resource
