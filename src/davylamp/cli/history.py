"""`davy history`: the releases of a workload, or of all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from davylamp.api.types import Release
from davylamp.cli.exits import OK
from davylamp.cli.naming import one, split
from davylamp.cli.output import TableOutput, rendered
from davylamp.cli.picture import Picture
from davylamp.cli.screen import errors
from davylamp.cli.session import Session, Where, session
from davylamp.kube.clock import SystemClock
from davylamp.view.table import history as table


async def history(where: Where, name: str | None, output: TableOutput | None) -> int:
    """Prints it, the newest release first. As JSON and YAML the Releases themselves."""
    async with session(where) as here:
        releases = list(await here.api.list("Release", here.namespace))
        workload = await _workload(here, name, releases) if name is not None else None
        found = [r for r in releases if workload is None or r.spec.workload == workload]
        found.sort(key=_began, reverse=True)
        if output in ("json", "yaml"):
            here.screen.say(rendered(await _raw(here, found), output))
        elif output == "name":
            for release in found:
                here.screen.say(f"release.davylamp.dev/{release.metadata.name}")
        elif found:
            everywhere = where.everywhere
            lines = table(found, here.look, SystemClock().now(), namespaces=everywhere, names=workload is None)
            here.screen.print(lines)
        else:
            whose = f" of {here.namespace}/{workload}" if workload else f" in {here.namespace or 'any namespace'}"
            errors().say(f"No releases{whose} yet.")
        return OK


async def _workload(here: Session, name: str, releases: list[Release]) -> str:
    """Asks for no more than the Releases where one of them has this workload."""
    kind, bare = split(name)
    known = {name: r.spec.workload for r in releases for name in r.spec.deployments}
    if kind in ("", "Deployment") and bare in known:
        return known[bare]
    picture = Picture(here.api, here.namespace)
    await picture.read()
    return one(picture.known, here.namespace, name)


def _began(release: Release) -> tuple[datetime, int, str]:
    at = release.metadata.creation_timestamp or datetime.min.replace(tzinfo=UTC)
    return (at, release.spec.attempt, release.metadata.name)


async def _raw(here: Session, releases: list[Release]) -> list[dict[str, Any]]:
    """As kubectl would print them: without managedFields, which fill pages."""
    by_uid = {obj["metadata"]["uid"]: obj for obj in await here.api.list_raw("Release", here.namespace)}
    for obj in by_uid.values():
        obj["metadata"].pop("managedFields", None)
    return [by_uid[r.metadata.uid] for r in releases if r.metadata.uid in by_uid]
