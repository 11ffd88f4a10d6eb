"""What is wrong with an input: where, what was found, what would be right."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """`message` names what was found and what would be right; a warning does not keep a policy from being used."""

    path: str
    """The field, for example `spec.steps[1].weight`."""
    message: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"
