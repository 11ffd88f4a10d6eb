"""Which field of which message has which number: from the struct tags of Kubernetes' Go types.

They are those of the modules k8s.io/api and k8s.io/apimachinery (Apache License 2.0), as many as the served kinds need,
in table.json.gz. `python -m davylamp.embedded.protobuf.table path/to/api path/to/apimachinery` makes that file anew.
"""

from __future__ import annotations

import functools
import gzip
import re
import sys
from importlib import resources
from pathlib import Path

import msgspec

FILE = "table.json.gz"
PACKAGES = {
    "": "core/v1",
    "apps": "apps/v1",
    "authentication.k8s.io": "authentication/v1",
    "authorization.k8s.io": "authorization/v1",
    "autoscaling": "autoscaling/v2",
    "coordination.k8s.io": "coordination/v1",
    "discovery.k8s.io": "discovery/v1",
    "events.k8s.io": "events/v1",
    "networking.k8s.io": "networking/v1",
    "policy": "policy/v1",
    "rbac.authorization.k8s.io": "rbac/v1",
    "admissionregistration.k8s.io": "admissionregistration/v1",
}
"""The Go package of each group whose kinds are read."""
META = "meta/v1"
SCALE = "autoscaling/v1"
LEAVES = {
    "bool": "bool",
    "byte": "int",
    "[]byte": "bytes",
    "float64": "double",
    "int": "int",
    "int32": "int",
    "int64": "int",
    "string": "string",
    "types.UID": "string",
    "types.NodeName": "string",
    "resource.Quantity": "Quantity",
    "intstr.IntOrString": "IntOrString",
    "runtime.RawExtension": "RawExtension",
    f"{META}.Duration": "Duration",
    f"{META}.FieldsV1": "FieldsV1",
    f"{META}.MicroTime": "MicroTime",
    f"{META}.Time": "Time",
}
LEAF = frozenset((*LEAVES.values(), "Strings"))
"""Types that are no messages of the table."""


class Field(msgspec.Struct, frozen=True, array_like=True):
    name: str
    """In JSON; empty where its fields are those of the object that has it."""
    type: str
    """A leaf, or a message of the table."""
    many: str = ""
    """"[]" for a list of these, "{}" for a map from text to these."""
    pointer: bool = False
    """Whether an empty value says something."""


Table = dict[str, dict[int, Field]]


@functools.cache
def table() -> Table:
    """The fields of each message by their numbers; a message is called as in `core/v1.Pod`."""
    raw = resources.files(__package__).joinpath(FILE).read_bytes()
    return msgspec.json.decode(gzip.decompress(raw), type=Table)


# --- making the file ---

_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"^type (\w+) ((?:map\[\w+\]|\[\])?[\w.]+)$", re.MULTILINE)
_FIELD = re.compile(r'^\s*(?:\w+\s+)?([\w.*\[\]]+)\s+`json:"([^",]*)[^`]*protobuf:"\w+,(\d+)', re.MULTILINE)
_IMPORT = re.compile(r'^\s*(\w+)? ?"k8s\.io/(?:api|apimachinery/pkg/apis)/([\w/]+)"', re.MULTILINE)
_TYPE = re.compile(r"(\*?)(\[\]|map\[[\w.]+\])?(\[\]byte|[\w.]+)")


class _Package:
    """The types of one file of Go; all by their whole names, as in `core/v1.Pod`."""

    def __init__(self, file: Path, package: str) -> None:
        text = re.sub(r"//.*", "", file.read_text())
        self._name = package
        self._aliases = {alias or path.rpartition("/")[2]: path for alias, path in _IMPORT.findall(text)}
        self.named = {f"{package}.{name}": self._whole(base) for name, base in _NAMED.findall(text)}
        self.structs = {
            f"{package}.{name}": [
                (self._whole(type_), json, int(number)) for type_, json, number in _FIELD.findall(body)
            ]
            for name, body in _STRUCT.findall(text)
        }

    def _whole(self, type_: str) -> tuple[bool, str, str]:
        """Whether it is a pointer, "[]" or "{}", and the type's name."""
        match = _TYPE.fullmatch(type_)
        assert match is not None, type_
        pointer, many, base = match.groups()
        alias, _, name = base.rpartition(".")
        if alias in self._aliases:
            base = f"{self._aliases[alias]}.{name}"
        elif not alias and base not in LEAVES:
            base = f"{self._name}.{base}"
        return bool(pointer), "{}" if (many or "").startswith("map") else many or "", base


def _generate(api: Path, machinery: Path) -> bytes:
    packages = [_Package(api / package / "types.go", package) for package in (*PACKAGES.values(), SCALE)]
    packages.append(_Package(machinery / "pkg/apis" / META / "types.go", META))
    named = {name: base for package in packages for name, base in package.named.items()}
    structs = {name: fields for package in packages for name, fields in package.structs.items()}
    found: Table = {}
    wanted = [f"{SCALE}.Scale", f"{META}.DeleteOptions", *_kinds()]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = {number: _field(json, *type_, named) for type_, json, number in structs[name]}
            wanted += [field.type for field in found[name].values() if field.type not in LEAF]
    return gzip.compress(msgspec.json.encode({name: found[name] for name in sorted(found)}), 9, mtime=0)


def _field(json: str, pointer: bool, many: str, base: str, named: dict[str, tuple[bool, str, str]]) -> Field:
    while base in named and base not in LEAVES:
        _, more, base = named[base]
        if many and more:  # a list in a map is a message of its own
            return Field(json, "Strings", many, pointer)
        many = many or more
    if (many, base) == ("[]", "byte"):
        return Field(json, "bytes", "", pointer)
    return Field(json, LEAVES.get(base, base), many, pointer)


def _kinds() -> list[str]:
    from davylamp.embedded.discovery import REVIEWS
    from davylamp.embedded.resources import BUILT_IN

    kinds = [(row.group, row.kind) for row in BUILT_IN if row.group in PACKAGES]
    kinds += [(group, kind) for (group, _), kind in REVIEWS.items()]
    return [f"{PACKAGES[group]}.{kind}" for group, kind in [*kinds, ("", "Binding"), ("policy", "Eviction")]]


if __name__ == "__main__":
    Path(__file__).with_name(FILE).write_bytes(_generate(Path(sys.argv[1]), Path(sys.argv[2])))
