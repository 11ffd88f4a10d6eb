"""What programs read: JSON, YAML, names."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Output(StrEnum):
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class TableOutput(StrEnum):
    JSON = "json"
    YAML = "yaml"
    NAME = "name"
    WIDE = "wide"


def rendered(content: Any, output: Output | TableOutput) -> str:
    """Structs, or lists of them, as JSON or YAML."""
    import msgspec

    builtins = msgspec.to_builtins(content, str_keys=True)
    if output == "json":
        import json

        return json.dumps(builtins, indent=2, ensure_ascii=False)
    import yaml

    return str(yaml.safe_dump(builtins, sort_keys=False, allow_unicode=True, width=120)).rstrip("\n")
