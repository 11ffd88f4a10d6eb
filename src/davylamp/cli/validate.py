"""`davy validate`: everything that is wrong with policies in files, before they are applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from davylamp.api.parse import parse_policy
from davylamp.api.problems import Problem
from davylamp.api.types import ReleasePolicy
from davylamp.cli.exits import BAD_INPUT, OK, Failure
from davylamp.cli.files import text_of
from davylamp.cli.output import Output, rendered
from davylamp.cli.picture import TRAFFIC, Picture
from davylamp.cli.screen import screen
from davylamp.cli.session import Session, Where, session
from davylamp.routers.policy import problems_of_policy
from davylamp.routers.review import review
from davylamp.view.lines import Line, Look, Span, fold


class Checked(msgspec.Struct, frozen=True):
    """One policy of a file. `name` is "" for what couldn't be read as one."""

    file: str
    namespace: str
    name: str
    problems: tuple[Problem, ...]

    @property
    def usable(self) -> bool:
        return all(problem.warning for problem in self.problems)


async def validate(where: Where, files: Sequence[str], output: Output | None, *, offline: bool) -> int:
    """Prints every problem of every file. The exit code is BAD_INPUT where a policy can't be used."""
    parsed = [(file, *parse_policy(text_of(file))) for file in files]
    checked: list[Checked] = [Checked(file, "", "", tuple(wrong)) for file, _, wrong in parsed if wrong]
    policies = [(file, policy) for file, found, _ in parsed for policy in found]
    if offline:
        for file, policy in policies:
            meta = policy.metadata
            checked.append(Checked(file, meta.namespace, meta.name, tuple(problems_of_policy(policy))))
    elif policies:
        async with session(where) as here:
            checked += await _against_cluster(here, policies)
    checked.sort(key=lambda one: files.index(one.file))
    out = screen()
    if output is not None:
        out.say(rendered(checked, output))
    else:
        out.print(told(checked, where.look(out), offline=offline))
    return OK if all(one.usable for one in checked) else BAD_INPUT


async def _against_cluster(here: Session, policies: Iterable[tuple[str, ReleasePolicy]]) -> list[Checked]:
    """With the policies as if they were applied, all of them."""
    placed = [(file, _placed(policy, here)) for file, policy in policies]
    pictures: dict[str, Picture] = {}
    for _, policy in placed:
        namespace = policy.metadata.namespace
        if namespace not in pictures:
            pictures[namespace] = Picture(here.api, namespace)
            await pictures[namespace].read(always=TRAFFIC[:2])
        pictures[namespace].known.namespace(namespace).put(policy)
    return [
        Checked(
            file,
            policy.metadata.namespace,
            policy.metadata.name,
            review(policy, pictures[policy.metadata.namespace].known.namespace(policy.metadata.namespace)),
        )
        for file, policy in placed
    ]


def _placed(policy: ReleasePolicy, here: Session) -> ReleasePolicy:
    """In its namespace, or in the one where `kubectl apply` would put it."""
    namespace = policy.metadata.namespace or here.namespace
    if here.where.namespace and namespace != here.where.namespace:
        name = policy.metadata.name
        raise Failure(
            f"ReleasePolicy {name}: metadata.namespace is {namespace}, and --namespace {here.where.namespace}",
            BAD_INPUT,
        )
    return msgspec.structs.replace(policy, metadata=msgspec.structs.replace(policy.metadata, namespace=namespace))


def told(checked: Iterable[Checked], look: Look, *, offline: bool) -> list[Line]:
    """Each policy in a line, its problems below it."""
    lines: list[Line] = []
    for one in checked:
        errors = [problem for problem in one.problems if not problem.warning]
        warnings = [problem for problem in one.problems if problem.warning]
        what = f"{one.file}: policy {'/'.join(filter(None, (one.namespace, one.name)))}" if one.name else one.file
        lines.append((Span(f"{what} "), _verdict(one, errors, warnings, offline=offline)))
        for problem in (*errors, *warnings):
            mark = Span("  warning ", "waiting") if problem.warning else Span("  ")
            lines.append((mark, Span(look.text(problem.path), "strong"), Span(f": {look.text(problem.message)}")))
    return [piece for line in lines for piece in fold(line, look.width, 6)]


def _verdict(one: Checked, errors: list[Problem], warnings: list[Problem], *, offline: bool) -> Span:
    if errors:
        return Span(f"can't be used, {_count(len(errors), 'problem')}:", "bad")
    good = "is well-formed (--offline: the cluster was not asked)" if offline else "can be used"
    return Span(f"{good}, {_count(len(warnings), 'warning')}:" if warnings else good, "good")


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
