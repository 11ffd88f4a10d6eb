"""`davy adopt`: a canary made by hand becomes a release, at its present weight."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from davylamp.api.problems import Problem
from davylamp.api.types import ReleasePolicy
from davylamp.cli.asks import Request
from davylamp.cli.commands import asked
from davylamp.cli.exits import BAD_INPUT, NOT_FOUND, OK, REFUSED, Failure
from davylamp.cli.output import Output, rendered
from davylamp.cli.picture import TRAFFIC, Picture
from davylamp.cli.screen import errors
from davylamp.cli.session import Session, Where, session
from davylamp.core import manifests
from davylamp.core.matching import words
from davylamp.routers import adoption
from davylamp.routers.adoption import ByHand, Side, Unfit
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.review import review
from davylamp.routers.wording import some
from davylamp.view.words import short


async def adopt(where: Where, name: str, output: Output | None, *, apply: bool, reason: str = "") -> int:
    """Tells what was found, prints the policy, and with `apply` makes it and starts the release."""
    async with session(where) as here:
        picture = Picture(here.api, here.namespace)
        await picture.read(always=TRAFFIC[:2])
        objects = picture.known.namespace(here.namespace)
        by_hand = _meant(objects, name)
        manifest = by_hand.policy(here.namespace)
        beside = errors()
        for line in told(by_hand, here.namespace):
            beside.say(line)
        policy = _decoded(manifest)
        objects.put(policy)
        _check(review(policy, objects), policy, beside.say)
        if not apply:
            here.screen.say(rendered(manifest, output) if output in ("json", "yaml") else _yaml(manifest))
            beside.say(f"nothing was written: `davy adopt {name} --apply` makes this policy and starts the release")
            return OK
        release = await _started(here, picture, policy, manifest, reason)
        if output in ("json", "yaml"):
            here.screen.say(rendered(manifest, output))
        elif output == "name":
            here.screen.say(f"releasepolicy.davylamp.dev/{policy.metadata.name}")
        else:
            told_of = f"policy {policy.metadata.name} made; release {release} goes on from {by_hand.weight} %"
            here.screen.say(here.look.text(f"{told_of}; `davy watch {policy.metadata.name}` shows how"))
        return OK


def _meant(objects: NamespaceObjects, name: str) -> ByHand:
    """The canary that `name` is a part of. Raises Failure."""
    fitting: list[ByHand] = []
    unfit: list[str] = []
    for ingress in adoption.canaries(objects):
        try:
            one = adoption.found(ingress, objects)
        except Unfit as error:
            unfit.append(f"{error}")
            continue
        if name in one.names:
            fitting.append(one)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        several = some(one.canary.ingress for one in fitting)
        raise Failure(f'"{name}" belongs to several canary Ingresses, {several}: name one of them', BAD_INPUT)
    if unfit:
        raise Failure(f'no canary made by hand with "{name}" can be taken over: {"; ".join(unfit)}', BAD_INPUT)
    there = [ingress.metadata.name for ingress in adoption.canaries(objects)]
    hint = f"there are {some(there)}" if there else "there is no canary Ingress at all"
    raise Failure(f'no canary Ingress in namespace {objects.namespace} has to do with "{name}"; {hint}', NOT_FOUND)


def told(found: ByHand, namespace: str) -> list[str]:
    """What was found, for people."""
    where = some(map(str, found.places))
    share = f"{found.weight} % of it" if found.weight or not found.match else "none of it"
    testers = f", and testers ({words(found.match)})," if found.match else ""
    return [
        f"found in {namespace}:",
        f"  Ingress {found.main.ingress} sends {where} to {_side(found.main)}",
        f"  Ingress {found.canary.ingress} sends {share}{testers} to {_side(found.canary)}",
    ]


def _side(side: Side) -> str:
    deployment = side.deployment
    image, pods = short(manifests.images(deployment.spec.template)), deployment.spec.replicas
    count = "1 pod" if pods == 1 else f"{pods} pods"
    return f"Service {side.service}: Deployment {deployment.metadata.name} ({image}, {count})"


def _decoded(manifest: dict[str, Any]) -> ReleasePolicy:
    return msgspec.convert(manifest, ReleasePolicy)


def _check(problems: tuple[Problem, ...], policy: ReleasePolicy, say: Any) -> None:
    wrong = [problem for problem in problems if not problem.warning]
    for problem in problems:
        if problem.warning:
            say(f"  warning {problem}")
    if wrong:
        listed = "".join(f"\n  {problem}" for problem in wrong)
        raise Failure(f"it can't be taken over as it is; of policy {policy.metadata.name}:{listed}", BAD_INPUT)


def _yaml(manifest: dict[str, Any]) -> str:
    return yaml.safe_dump(manifest, sort_keys=False, width=110).rstrip()


async def _started(
    here: Session, picture: Picture, policy: ReleasePolicy, manifest: dict[str, Any], reason: str
) -> str:
    """Make the policy, then ask for the release: in this order, since a word without a policy says nothing. The name
    of the release. (If it ends in between, the same command or `davy start` goes on.)"""
    made = await here.api.create(manifest)
    picture.known.policies.offer(made)
    workload = picture.known.workload_of(here.namespace, policy.spec.target.workload)
    request = Request("start", await here.who(), reason)
    answer = await asked(here, picture, workload, request)
    if answer.patch is None:
        raise Failure(answer.message, REFUSED)
    return answer.release
