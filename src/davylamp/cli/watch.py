"""`davy watch`: one workload live, until its release ends. In a pipe one line for each change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import msgspec

from davylamp.cli.follow import Journal, Neglect, follow
from davylamp.cli.outcome import Outcome, outcome
from davylamp.cli.picture import Picture
from davylamp.cli.screen import Screen, errors, styled
from davylamp.cli.session import Session, Where, session
from davylamp.cli.waiting import tell
from davylamp.view.lines import Line, Span
from davylamp.view.model import WorkloadView
from davylamp.view.text import render

Show = Callable[[WorkloadView, str], None]
"""Shows a view, and a hint below it."""


async def watch(where: Where, name: str, *, forever: bool = False, limit: float | None = None) -> int:
    """Shows it. The exit code is that of the release's end."""
    async with session(where) as here:
        picture, workload = await here.workload(name)
        if not here.screen.terminal:
            ended = await _watch(here, picture, workload, _lines(here, picture), forever, limit, tick=60)
        else:
            with _live(here.screen) as live:
                show = _frames(here, picture, live)
                ended = await _watch(here, picture, workload, show, forever, limit, tick=1)
        return tell(workload, ended)


async def _watch(
    here: Session, picture: Picture, name: str, show: Show, forever: bool, limit: float | None, tick: float
) -> Outcome:
    neglect = Neglect()
    followed = ""

    def see(view: WorkloadView) -> Outcome | None:
        nonlocal followed
        if not followed and view.under_way and view.release is not None:
            followed = view.release.name
        ended = None
        if followed and not forever:
            ended = outcome(view, picture.world(here.namespace, name).releases, followed)
        waiting = _WAITING if not followed else _FOREVER if not view.under_way else ""
        show(view, picture.trouble or neglect.hint(view, picture.now) or ("" if ended else waiting))
        return ended

    return await follow(picture, here.namespace, name, see, limit=limit, tick=tick)


AROUND_PODS = 14
"""Lines that may be needed beside those of pods."""
_WAITING = "waiting for a release to begin; Ctrl-C ends this"
_FOREVER = "Ctrl-C ends this"


def _lines(here: Session, picture: Picture) -> Show:
    """For a pipe: a line whenever something has changed, and hints once each on standard error."""
    journal = Journal(here.look)
    told = {"", _FOREVER}

    def show(view: WorkloadView, hint: str) -> None:
        line = journal.line(view, picture.now)
        if line:
            here.screen.say(line)
        if hint not in told:
            told.add(hint)
            errors().say(f"davy: {hint}")

    return show


def _frames(here: Session, picture: Picture, live: Any) -> Show:
    """For a terminal: the whole of it, in place."""
    from rich.console import Group

    def show(view: WorkloadView, hint: str) -> None:
        # Where not everything fits, it is pods that are left out, and not what the release waits for.
        room = max((shutil.get_terminal_size().lines - AROUND_PODS) // 2, 1)
        look = msgspec.structs.replace(here.where.look(here.screen.resized()), pods=room)
        lines: list[Line] = render(view, look, picture.now, pods="all")
        if hint:
            lines.append((Span(f"  {hint}", "waiting"),))
        live.update(Group(*map(styled, lines)), refresh=True)

    return show


def _live(screen: Screen) -> Any:
    from rich.live import Live

    return Live(console=screen.console(), auto_refresh=False, vertical_overflow="crop")
