"""`davy simulate`: what is given is turned into a stage and a scenario, and the report shown."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from davylamp.api.units import share
from davylamp.cli.exits import BAD_INPUT, OK, Failure
from davylamp.cli.files import text_of
from davylamp.cli.output import Output, rendered
from davylamp.cli.screen import errors, screen
from davylamp.cli.session import Where, run

if TYPE_CHECKING:
    from rich.progress import TaskID

    from davylamp.embedded.simulate.report import Progress
    from davylamp.embedded.simulate.scenario import Scenario
    from davylamp.embedded.simulate.stage import Stage, Unusable

RPS = 100.0
"""Where nobody says and nothing can be measured."""


class Given(msgspec.Struct, frozen=True):
    """The options, as they were given; durations are in seconds."""

    name: str | None
    file: str | None
    rps: float | None
    stable_errors: str
    canary_errors: str | None
    latency: float
    canary_latency: float | None
    crash: float | None
    replicas: int | None
    testers: str
    approve_after: float
    scenario: str | None
    limit: float | None
    runs: int
    seed: int
    plot: str | None


def simulate(where: Where, given: Given, output: Output | None) -> int:
    """Prints what would happen. The exit code is BAD_INPUT (as a Failure) where the policy can't be used."""
    if importlib.util.find_spec("cel_expr_python") is None:
        raise Failure("davy simulate needs the embedded cluster: pip install 'davylamp[embedded]'")
    from davylamp.embedded.simulate import plot, report, text
    from davylamp.embedded.simulate.stage import Unusable

    if output == "name":
        raise Failure("-o name: a simulation has no name; json and yaml can be had", BAD_INPUT)
    notes: tuple[str, ...] = ()
    try:
        if given.file is not None:
            stage, rate = _from_file(given, given.file), given.rps
        else:
            stage, rate, notes = _live(where, given)
        scenario = _scenario(given, rate if rate is not None else RPS)
    except Unusable as unusable:
        raise _refused(given, unusable) from unusable
    with _silence(), _progress() as progress:
        made = report.simulate(stage, scenario, seed=given.seed, runs=given.runs, notes=notes, progress=progress)
    if given.plot is not None:
        _write(given.plot, plot.svg(made))
    out = screen()
    if output is not None:
        out.say(rendered(made, output))
    else:
        out.print(text.lines(made, where.look(out)))
    return OK


def _refused(given: Given, unusable: Unusable) -> Failure:
    problems = [problem for problem in unusable.problems if not problem.warning]
    what = " ".join(filter(None, (given.file or "", f"policy {unusable.name}" if unusable.name else "")))
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    listed = "".join(f"\n  {problem}" for problem in problems)
    return Failure(f"{what or 'the policy'} can't be used, {count}:{listed}", BAD_INPUT)


# --- what is simulated ---


def _from_file(given: Given, file: str) -> Stage:
    from davylamp.embedded.simulate import stage

    kind, _, name = (given.name or "").rpartition("/")
    if kind not in ("", "policy", "releasepolicy", "rp"):
        raise Failure(f"{given.name}: with -f the name can only be that of a policy in the file", BAD_INPUT)
    return stage.read(text_of(file), given.replicas, name)


def _live(where: Where, given: Given) -> tuple[Stage, float | None, tuple[str, ...]]:
    if given.name is None:
        raise Failure("name a workload of the cluster, or a file with a policy (-f)", BAD_INPUT)
    from davylamp.cli.taken import taken

    return run(taken(where, given.name, given.replicas, rate=given.rps))


# --- what is imagined ---


def _scenario(given: Given, rps: float) -> Scenario:
    from davylamp.embedded.simulate import scenario

    stable = _share("--stable-errors", given.stable_errors)
    canary = stable if given.canary_errors is None else _share("--canary-errors", given.canary_errors)
    usual = scenario.Moment(0, rps, stable, canary)
    moments: tuple[scenario.Moment, ...] = (usual,)
    if given.scenario is not None:
        try:
            moments = scenario.read(text_of(given.scenario), usual)
        except ValueError as error:
            raise Failure(f"--scenario {given.scenario}: {error}", BAD_INPUT) from error
    for option, took in (("--latency", given.latency), ("--canary-latency", given.canary_latency)):
        if took is not None and took <= 0:
            raise Failure(f"{option}: a request takes more than 0 s; write for example 30ms", BAD_INPUT)
    return scenario.Scenario(
        moments=moments,
        stable=scenario.Latency(given.latency),
        canary=scenario.Latency(given.latency if given.canary_latency is None else given.canary_latency),
        crash=given.crash,
        testers=_share("--testers", given.testers),
        approve_after=given.approve_after,
        limit=given.limit,
    )


def _share(option: str, text: str) -> float:
    try:
        found = share(text)
    except ValueError as error:
        raise Failure(f"{option}: {error}", BAD_INPUT) from error
    if found > 1:
        raise Failure(f"{option}: {text} is more than all of them, 100%", BAD_INPUT)
    return found


# --- what is shown ---


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What the controller logs is about the cluster that is simulated, not about one that exists."""
    log = logging.getLogger("davylamp")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on a terminal; nothing elsewhere."""
    out = errors()
    if not out.terminal:
        yield lambda what, done, of: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=out.console(), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done)

        yield show


def _write(file: str, picture: str) -> None:
    try:
        Path(file).write_text(picture, encoding="utf-8")
    except OSError as error:
        raise Failure(f"--plot {file}: {error.strerror or error}", BAD_INPUT) from error
