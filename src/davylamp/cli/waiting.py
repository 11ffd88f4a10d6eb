"""`--wait`: the end of a release as an exit code, with each change told on standard error."""

from __future__ import annotations

from davylamp.api.types import Phase
from davylamp.cli.exits import OK
from davylamp.cli.follow import Journal, Neglect, follow
from davylamp.cli.outcome import Outcome, outcome
from davylamp.cli.picture import Picture
from davylamp.cli.screen import errors
from davylamp.cli.session import Session
from davylamp.view.model import WorkloadView


async def waited(
    here: Session,
    picture: Picture,
    name: str,
    limit: float | None,
    *,
    followed: str = "",
    good: Phase = Phase.COMPLETED,
    until: str = "",
) -> Outcome:
    """The end of the release `followed`, or of the one that is under way, or of the next that begins at once.

    `until` is a state that ends the wait too, and well.
    """
    beside = errors()
    journal = Journal(here.where.look(beside))
    neglect = Neglect()
    told = {""}

    def see(view: WorkloadView) -> Outcome | None:
        nonlocal followed
        if not followed and view.under_way and view.release is not None:
            followed = view.release.name
        line, hint = journal.line(view, picture.now), picture.trouble or neglect.hint(view, picture.now)
        if line:
            beside.say(line)
        if hint not in told:
            told.add(hint)
            beside.say(f"davy: {hint}")
        if until and view.state == until:
            return Outcome(OK, "")
        releases = picture.world(here.namespace, name).releases
        return outcome(view, releases, followed, good=good)

    return await follow(picture, here.namespace, name, see, limit=limit)


def tell(name: str, ended: Outcome) -> int:
    """The exit code of an outcome, and what isn't clear from the status on standard error."""
    if ended.message:
        errors().say(f"davy: {name}: {ended.message}")
    return ended.code
