"""What a policy of the core answers with."""

from __future__ import annotations

from datetime import datetime

import msgspec

from davylamp.core.actions import Action, Ref
from davylamp.core.world import Awaited


class LogWanted(msgspec.Struct, frozen=True):
    """The end of a container's log, for the reason of a failure. Gathered only when asked for."""

    pod: str
    container: str
    previous: bool


class Plan(msgspec.Struct, frozen=True):
    """What to do now, in this order; why; and when to look again if nothing happens before."""

    actions: tuple[Action, ...] = ()
    reason: str = ""
    message: str = ""
    wake_at: datetime | None = None
    log_wanted: LogWanted | None = None
    hands_wanted: tuple[Ref, ...] = ()
    """Objects of which it matters who wrote them last."""
    awaited: Awaited | None = None
    """A change that waits to be seen in effect."""


def pod_count(pods: int) -> str:
    """For people."""
    return "1 canary pod" if pods == 1 else f"{pods} canary pods"
