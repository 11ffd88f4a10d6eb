"""When a wait is over, and with which exit code: the end of a release, for scripts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from davylamp.api.types import Phase, Release
from davylamp.cli import exits
from davylamp.view.model import WorkloadView

OF_PHASE = {
    Phase.COMPLETED: exits.OK,
    Phase.ROLLED_BACK: exits.ROLLED_BACK,
    Phase.SUPERSEDED: exits.SUPERSEDED,
    Phase.WITHDRAWN: exits.WITHDRAWN,
    Phase.OVERRIDDEN: exits.OVERRIDDEN,
}


class Outcome(msgspec.Struct, frozen=True):
    code: int
    message: str
    """In a sentence, for standard error; "" where the status says it all."""


def outcome(
    view: WorkloadView,
    releases: Iterable[Release],
    followed: str,
    *,
    good: Phase = Phase.COMPLETED,
) -> Outcome | None:
    """How the release `followed` ended, or None while it hasn't.

    "" for `followed` means that none was under way when the wait began: then it is the end of the newest one, unless
    one is about to begin. `good` is the end that was wanted.
    """
    if view.under_way and (not followed or (view.release is not None and view.release.name == followed)):
        return None
    if followed:
        release = next((r for r in releases if r.metadata.name == followed), None)
        if release is None:
            return Outcome(exits.FAILED, f"release {followed} is gone, and with it how it ended")
        return _followed(release, good) if release.status.phase.final else None
    return _without(view, good)


def _ended(phase: Phase, good: Phase) -> Outcome:
    if phase is good:
        return Outcome(exits.OK, "")
    if phase is Phase.COMPLETED:
        return Outcome(exits.FAILED, "the release completed before it could be taken back")
    return Outcome(OF_PHASE[phase], "")


def _followed(release: Release, good: Phase) -> Outcome:
    """What is seen by now may be the next release, so this one's end is told where that may be."""
    ended, status = _ended(release.status.phase, good), release.status
    if ended.message or status.phase not in (Phase.SUPERSEDED, Phase.WITHDRAWN, Phase.OVERRIDDEN):
        return ended
    return Outcome(ended.code, f"release {release.metadata.name} is {status.phase}: {status.message}")


def _without(view: WorkloadView, good: Phase) -> Outcome | None:
    """No release was under way."""
    if view.state in ("Starting", "TwoVersions"):
        return None
    if view.state == "InvalidPolicy" or (view.state == "Gone" and view.errors):
        return Outcome(exits.BAD_INPUT, "")
    if view.state in ("NoPolicy", "Gone"):
        return Outcome(exits.NOT_FOUND, "")
    if view.state == "Rolling" and (view.release is None or view.release.phase is Phase.COMPLETED):
        return None
    if view.release is None:
        return Outcome(exits.OK, "")
    return _ended(view.release.phase, good)
