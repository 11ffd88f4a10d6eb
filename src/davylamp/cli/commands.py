"""`davy pause | resume | approve | abort | promote | retry | start`: a person's word, written into the Release's spec.

Before there is a Release (`start`) it is an annotation of the idle Deployment of a pair.
"""

from __future__ import annotations

from davylamp.api.types import Phase
from davylamp.cli.asks import Answer, Request, Verb, ask
from davylamp.cli.exits import OK, REFUSED, Failure
from davylamp.cli.output import Output
from davylamp.cli.picture import Picture
from davylamp.cli.session import Session, Where, session
from davylamp.cli.status import show
from davylamp.cli.waiting import tell, waited
from davylamp.kube.client import ApiError


async def command(
    where: Where,
    verb: Verb,
    name: str,
    output: Output | None,
    *,
    reason: str = "",
    step: int | None = None,
    wait: bool = False,
    limit: float | None = None,
) -> int:
    """Asks for it, and with `wait` stays until it has come about."""
    async with session(where) as here:
        picture, workload = await here.workload(name)
        request = Request(verb, await here.who(), reason, step)
        answer = await _asked(here, picture, workload, request)
        if output == "name":
            here.screen.say(f"release.davylamp.dev/{answer.release}")
        elif output is None:
            hint = f"; {answer.next}" if answer.next and not wait else ""
            here.screen.say(here.look.text(f"{here.namespace}/{workload}: {answer.message}{hint}"))
        if not wait:
            if output in ("json", "yaml"):
                await picture.read_pods(here.namespace, workload)
                show(here, picture, workload, output)
            return OK
        ended = await waited(
            here,
            picture,
            workload,
            limit,
            followed="" if verb in ("retry", "start") else answer.release,
            good=Phase.ROLLED_BACK if verb == "abort" else Phase.COMPLETED,
            until="Paused" if verb == "pause" else "",
        )
        if output != "name":
            show(here, picture, workload, output)
        return tell(workload, ended)


async def _asked(here: Session, picture: Picture, name: str, request: Request) -> Answer:
    answer = ask(request, picture.world(here.namespace, name), picture.view(here.namespace, name))
    if answer.patch is None:
        return answer
    try:
        written = await here.api.patch(answer.patch)
    except ApiError as error:
        if error.not_found:
            what = "release" if answer.patch.ref.kind == "Release" else answer.patch.ref.kind
            gone = f"{what} {answer.patch.ref.name} of {here.namespace}/{name} is gone"
            raise Failure(gone, REFUSED) from error
        raise
    picture.known.stores[answer.patch.ref.kind].offer(written)
    return answer
