"""The one exception of this package: its text says what was found and what to do about it."""

from davylamp.embedded.errors import EmbeddedError


class LabError(EmbeddedError):
    """Something about the lab went wrong in a way that a person can act on."""
