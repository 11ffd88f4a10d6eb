"""The one exception of this package: its text says what was found and what to do about it."""


class LabError(Exception):
    """Something about the lab went wrong in a way that a person can act on."""
