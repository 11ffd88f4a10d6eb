"""`davy verdict`: each check's evidence over time, and the counts that went in."""

from __future__ import annotations

from pathlib import Path

import msgspec

from davylamp.api.types import Release
from davylamp.cli.exits import BAD_INPUT, NOT_FOUND, OK, Failure
from davylamp.cli.output import Output, rendered
from davylamp.cli.session import Where, session
from davylamp.view import evidence
from davylamp.view.evidence import Moment
from davylamp.view.model import VerdictView, verdict_of


class Told(msgspec.Struct, frozen=True, rename="camel"):
    """What programs read."""

    namespace: str
    deployment: str
    release: str
    verdict: VerdictView | None
    tolerate: float
    complete: bool
    """Whether the history has every look."""
    history: list[Moment]


async def verdict(where: Where, name: str, output: Output | None, plot: str | None) -> int:
    """Prints it, or writes the picture to the file `plot`."""
    async with session(where) as here:
        picture, workload = await here.workload(name)
        releases = picture.known.releases_of(here.namespace, workload)
        release = next((one for one in reversed(releases) if one.status.analysis is not None), None)
        if release is None:
            raise Failure(_nothing(here.namespace, workload, releases), NOT_FOUND)
        if plot is not None:
            _write(plot, evidence.plot(release))
            here.screen.say(f"{plot}: the evidence of release {release.metadata.name}")
        elif output in ("json", "yaml"):
            said = _told(release, workload)
            here.screen.say(rendered(said, output))
        elif output == "name":
            here.screen.say(f"release.davylamp.dev/{release.metadata.name}")
        else:
            here.screen.print(evidence.lines(release, here.look, picture.now))
        return OK


def _told(release: Release, workload: str) -> Told:
    meta, analysis = release.metadata, release.spec.analysis
    return Told(
        meta.namespace,
        workload,
        meta.name,
        verdict_of(release),
        analysis.tolerate if analysis is not None else 1.0,
        evidence.complete(release),
        evidence.moments(release),
    )


def _write(file: str, picture: str) -> None:
    try:
        Path(file).write_text(picture)
    except OSError as error:
        raise Failure(f"--plot {file}: {error.strerror or error}", BAD_INPUT) from error


def _nothing(namespace: str, workload: str, releases: list[Release]) -> str:
    newest = releases[-1] if releases else None
    if newest is None:
        return f"there is no release of {namespace}/{workload} yet"
    if newest.spec.analysis is None:
        return f"release {newest.metadata.name} has no analysis: give its policy one, for example analysis: {{}}"
    return f"release {newest.metadata.name} has not been looked at yet; that begins with its first step in effect"
