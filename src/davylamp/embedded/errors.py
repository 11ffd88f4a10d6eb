"""The exception of this package: its text says what was found and what to do about it."""


class EmbeddedError(Exception):
    """Something about a cluster of ours, or a program that it needs, went wrong in a way that a person can act on."""
