"""The controller's own numbers where nobody reads them: made for each of a thousand runs they take their time."""

from __future__ import annotations

from typing import cast

from davylamp.controller.metrics import Metrics


class _Nothing:
    """A metric of any kind that keeps nothing, and all of them: `Metrics` and what it has."""

    def __getattr__(self, name: str) -> _Nothing:
        setattr(self, name, self)  # asked for once
        return self

    def __call__(self, *labels: object) -> _Nothing:
        return self


METRICS = cast("Metrics", _Nothing())
"""Shared by all runs of a process, since it keeps nothing."""
