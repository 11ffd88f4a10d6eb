"""Davylamp: progressive delivery for plain Kubernetes."""

__version__ = "0.1.0"
