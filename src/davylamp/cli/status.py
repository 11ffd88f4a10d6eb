"""`davy status`: all workloads in a table, or one of them in full."""

from __future__ import annotations

from collections.abc import Sequence

from davylamp.cli.exits import BAD_INPUT, OK, Failure
from davylamp.cli.naming import some
from davylamp.cli.output import Output, TableOutput, rendered
from davylamp.cli.picture import Picture
from davylamp.cli.screen import errors
from davylamp.cli.session import Session, Where, session
from davylamp.cli.waiting import tell, waited
from davylamp.routers.review import resolve
from davylamp.view.lines import Span
from davylamp.view.model import WorkloadView
from davylamp.view.table import table
from davylamp.view.text import render


async def status(
    where: Where, name: str | None, output: TableOutput | None, *, wait: bool = False, limit: float | None = None
) -> int:
    """Prints it. The exit code is that of the end waited for, 0 where nothing was waited for."""
    if name is None and wait:
        raise Failure("--wait needs the NAME of one workload", BAD_INPUT)
    if name is not None and where.everywhere:
        raise Failure("a NAME is looked for in one namespace: leave --all-namespaces out", BAD_INPUT)
    async with session(where) as here:
        picture = await here.picture()
        if name is None:
            return _all(here, picture, picture.workloads(), output)
        found = some(picture.known, here.namespace, name)
        if len(found) != 1:
            if wait:
                raise Failure(f'"{name}" is {len(found)} Deployments; --wait needs one', BAD_INPUT)
            return _all(here, picture, [(here.namespace, one) for one in found], output, policy=name)
        if wait:
            ended = await waited(here, picture, found[0], limit)
            show(here, picture, found[0], output)
            return tell(found[0], ended)
        await picture.read_pods(here.namespace, found[0])
        show(here, picture, found[0], output)
        return OK


def show(here: Session, picture: Picture, name: str, output: TableOutput | Output | None) -> None:
    """One workload as the picture has it now."""
    seen = picture.view(here.namespace, name)
    if output in ("json", "yaml"):
        here.screen.say(rendered(seen, output))
    elif output == "name":
        here.screen.say(f"deployment.apps/{name}")
    else:
        pods = "all" if output == "wide" else "unready"
        here.screen.print(render(seen, here.look, picture.now, pods=pods))  # type: ignore[arg-type]


def _all(
    here: Session,
    picture: Picture,
    found: Sequence[tuple[str, str]],
    output: TableOutput | None,
    policy: str | None = None,
) -> int:
    views = [picture.view(namespace, name) for namespace, name in found]
    if output in ("json", "yaml"):
        here.screen.say(rendered(views, output))
    elif output == "name":
        for view in views:
            here.screen.say(f"deployment.apps/{view.name}")
    else:
        _table(here, picture, views, wide=output == "wide", policy=policy)
    return OK


def _table(here: Session, picture: Picture, views: list[WorkloadView], *, wide: bool, policy: str | None) -> None:
    if views:
        here.screen.print(table(views, here.look, picture.now, namespaces=here.where.everywhere, wide=wide))
    idle = [p for p in picture.idle_policies() if policy is None or policy.rpartition("/")[2] == p.metadata.name]
    for found in idle:
        meta = found.metadata
        for problem in resolve(found, None, picture.known.namespace(meta.namespace)).problems:
            said = Span(f"policy {meta.namespace}/{meta.name}: {here.look.text(str(problem))}", "waiting")
            here.screen.print([(said,)])
    if not views and not idle:
        place = f"namespace {here.namespace}" if here.namespace else "any namespace"
        errors().say(f"No ReleasePolicies in {place}.")
