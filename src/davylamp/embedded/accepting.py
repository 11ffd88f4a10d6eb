"""In which format and shape a client wants its answer: the Accept header. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from davylamp.embedded.status import StatusError

JSON = "application/json"
YAML = "application/yaml"
Shape = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"]
_FORMATS = {JSON: JSON, "application/*": JSON, "*/*": JSON, YAML: YAML}
_SHAPES: dict[str, Shape] = {
    "Table": "Table",
    "PartialObjectMetadata": "PartialObjectMetadata",
    "PartialObjectMetadataList": "PartialObjectMetadataList",
}


class Accepted(msgspec.Struct, frozen=True):
    """`format` is the media type; `shape` is what the objects are made into, nothing for the objects themselves."""

    format: str = JSON
    shape: Shape = ""


def accepted(header: str) -> Accepted:
    """The best of what a client accepts and there is, as the real server chooses: by quality, then in their order.

    Typed clients ask for protobuf first and list JSON after it. Raises StatusError 406 where nothing fits.
    """
    if not header.strip():
        return Accepted()
    clauses = [_clause(text) for text in header.split(",")]
    for quality, media, options in sorted(clauses, key=lambda clause: -clause[0]):
        found = _FORMATS.get(media)
        as_ = options.get("as", "")
        known = not as_ or (as_ in _SHAPES and (options.get("g"), options.get("v")) == ("meta.k8s.io", "v1"))
        if quality > 0 and found is not None and known:
            return Accepted(found, _SHAPES.get(as_, ""))
    raise StatusError(406, "NotAcceptable", f"only the following media types are accepted: {JSON}, {YAML}")


def _clause(text: str) -> tuple[float, str, dict[str, str]]:
    media, *rest = (part.strip() for part in text.split(";"))
    options = {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in rest)}
    try:
        quality = float(options.get("q", "1"))
    except ValueError:
        quality = 0.0
    return quality, media.lower(), options
