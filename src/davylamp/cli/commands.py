"""`davy pause | resume | approve | abort | promote | retry | start`: a person's word, written into the Release's spec.

Before there is a Release (`start`) it is an annotation of the idle Deployment of a pair.
"""

from __future__ import annotations

from davylamp.api.types import Phase
from davylamp.cli.asks import Answer, Request, Verb, ask
from davylamp.cli.exits import FAILED, OK, REFUSED, Failure
from davylamp.cli.output import Output
from davylamp.cli.picture import Picture
from davylamp.cli.session import Session, Where, session
from davylamp.cli.status import show
from davylamp.cli.waiting import tell, waited
from davylamp.kube.client import ApiError

TRIES = 5
"""Writes of a word, where others write the same object at the same time."""


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
        answer = await asked(here, picture, workload, request)
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


async def asked(here: Session, picture: Picture, name: str, request: Request) -> Answer:
    """Ask the workload `name` for something. Where somebody else has written the object meanwhile (the controller
    does), the same is asked of it as it is now. Raises Failure and ApiError."""
    for _ in range(TRIES):
        answer = ask(request, picture.world(here.namespace, name), picture.view(here.namespace, name))
        if answer.patch is None:
            return answer
        ref, store = answer.patch.ref, picture.known.stores[answer.patch.ref.kind]
        try:
            store.offer(await here.api.patch(answer.patch))
        except ApiError as error:
            if not (error.conflict or error.not_found):
                raise
            fresh = await here.api.read(ref) if error.conflict else None
            if fresh is None:
                what = "release" if ref.kind == "Release" else ref.kind
                raise Failure(f"{what} {ref.name} of {here.namespace}/{name} is gone", REFUSED) from error
            store.offer(fresh)
        else:
            return answer
    raise Failure(f"{ref.kind} {ref.name} changes all the time; try again", FAILED)
