"""What `davy install` and `davy uninstall` do in the cluster, and how they tell it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec
import typer

from davylamp.api.units import seconds
from davylamp.cli import serving
from davylamp.cli.exits import BAD_INPUT, REFUSED, TIMED_OUT, Failure
from davylamp.cli.output import Output, rendered
from davylamp.cli.screen import Screen, screen
from davylamp.cli.session import Where, run
from davylamp.core.world import Gate
from davylamp.kube.client import connect
from davylamp.kube.clock import SystemClock
from davylamp.kube.held import Held
from davylamp.kube.install import Change, InstallProblem, InstallReport, Options, choose_gate, install
from davylamp.kube.manifests import document
from davylamp.kube.trial import trial
from davylamp.kube.uninstall import UninstallReport, uninstall
from davylamp.signals.addresses import networks
from davylamp.view.lines import Line, Span, Style

CODES = {"bad input": BAD_INPUT, "refused": REFUSED, "timed out": TIMED_OUT}
GateChoice = Literal["auto", "admission", "fallback"]


GIVEN = ("leader_elect", "lease_namespace", "listen", "namespaces", "gate", "log_format", "kubeconfig", "context")
"""Options of the controller that an installation decides."""


def controller_options(options: Sequence[str], image: str) -> tuple[str, ...]:
    """`options` for the controller that is installed. Raises Failure where it would not start with them."""
    if options and not image:
        raise Failure("--controller-option: set --image too; without it no controller is installed", BAD_INPUT)
    app = typer.Typer()
    serving.add(app, lambda *_: Where(), lambda _: None)
    try:
        context = typer.main.get_command(app).make_context("davy controller", list(options))
        networks([*(context.params["allow_address"] or ()), *(context.params["proxy"] or ())])
    except (typer.TyperException, ValueError) as error:
        wrong = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        raise Failure(f"--controller-option: {wrong.rstrip('.?')}", BAD_INPUT) from error
    for name in GIVEN:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            said = f"--{name.replace('_', '-')}".replace("--namespaces", "--namespace")
            raise Failure(f"--controller-option: {said} is decided by the installation's own options", BAD_INPUT)
    return tuple(options)


def print_manifests(options: Options, gate: GateChoice) -> None:
    """The YAML of an installation on standard output."""
    chosen: Gate = "fallback" if gate == "fallback" else "admission"
    sys.stdout.write(document(msgspec.structs.replace(options, gate=chosen)))


def do_install(where: Where, options: Options, gate: GateChoice, output: Output | None, *, dry_run: bool) -> None:
    """Install, and print the report. Raises Failure."""
    report = run(_install(where, options, gate, dry_run=dry_run))
    if output is not None:
        print(rendered(report, output))
        return
    screen().print(told_install(report, options, dry_run=dry_run))


async def _install(where: Where, options: Options, gate: GateChoice, *, dry_run: bool) -> InstallReport:
    say = _Progress(screen(sys.stderr))
    try:
        async with connect(where.kubeconfig, where.context) as api, trial(api) as tried:
            wanted = msgspec.structs.replace(options, gate=await choose_gate(api, gate))
            return await install(api, tried, wanted, SystemClock(), dry_run=dry_run, say=say)
    except InstallProblem as problem:
        raise Failure(str(problem), CODES[problem.kind]) from problem


def do_uninstall(where: Where, output: Output | None, *, force: bool, timeout: str) -> None:
    """Uninstall, and print the report. Raises Failure."""
    try:
        within = seconds(timeout)
    except ValueError as error:
        raise Failure(f"--timeout: {error}", BAD_INPUT) from error
    report = run(_uninstall(where, force=force, within=within))
    if output is not None:
        print(rendered(report, output))
        return
    screen().print(told_uninstall(report))


async def _uninstall(where: Where, *, force: bool, within: float) -> UninstallReport:
    say = _Progress(screen(sys.stderr))
    kubectl = f"kubectl {where.flags}".rstrip()
    try:
        async with connect(where.kubeconfig, where.context) as api:
            by = await api.whoami()
            return await uninstall(api, SystemClock(), force=force, by=by, within=within, kubectl=kubectl, say=say)
    except InstallProblem as problem:
        raise Failure(str(problem), CODES[problem.kind]) from problem


class _Progress:
    """Says on standard error what is waited for, each thing once."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._last = ""

    def __call__(self, text: str) -> None:
        if text != self._last:
            self._last = text
            self._screen.print([_line(f"{text} …" if self._screen.utf8 else f"{text} ...", "dim")])


# --- what a person reads ---

_STYLES: dict[str, Style] = {"created": "good", "changed": "busy", "deleted": "waiting"}


def told_install(report: InstallReport, options: Options, *, dry_run: bool) -> Iterator[Line]:
    """The report of an installation, as lines."""
    yield from _changes(report.changes, dry_run=dry_run)
    if report.gate_active_after is not None:
        yield _line(
            f"the gate is active: it was seen to hold a Deployment after {report.gate_active_after:.1f} s", "good"
        )
    for note in report.notes:
        yield _line(f"note: {note}", "waiting")
    if not options.image and not dry_run:
        who = f"as {options.user}"
        yield _line(f"next: run the controller, `davy controller` {who}, or install it with --image", "")


def told_uninstall(report: UninstallReport) -> Iterator[Line]:
    """The report of an uninstallation, as lines. What asks for a decision comes last."""
    yield from _changes(report.changes, dry_run=False)
    for note in report.notes:
        yield _line(f"note: {note}", "waiting")
    if not report.held:
        yield _line("Davylamp is gone from this cluster", "good")
        return
    some = "1 Deployment stays" if len(report.held) == 1 else f"{len(report.held)} Deployments stay"
    yield _line(f"Davylamp is gone from this cluster, but {some} paused", "bad")
    yield _line("  with a template that never became stable: nothing is rolled out until somebody decides.", "bad")
    for held in report.held:
        yield from _held(held)


def _held(held: Held) -> Iterator[Line]:
    yield (Span(f"{held.namespace}/{held.name}", "strong"), Span(f" holds {held.wanted}; its pods run {held.running}"))
    yield _line(f"  to roll {held.wanted} out:", "")
    yield _line(f"    {held.accept}", "busy")
    yield _line(f"  to stay with {held.running}:", "")
    yield _line(f"    {held.keep}", "busy")


def _changes(changes: Iterable[Change], *, dry_run: bool) -> Iterator[Line]:
    """One line for each object that something became of; the others are counted."""
    counts = Counter(change.result for change in changes)
    would = "would be " if dry_run else ""
    for change in changes:
        if change.result in _STYLES:
            where = f"{change.namespace}/{change.name}" if change.namespace else change.name
            yield (
                Span(f"{would}{change.result}".ljust(len(would) + 9), _STYLES[change.result]),
                Span(f"{change.kind} {where}"),
            )
    for result in ("unchanged", "left alone"):
        if counts[result]:
            yield _line(f"{result}: {'1 object' if counts[result] == 1 else f'{counts[result]} objects'}", "dim")


def _line(text: str, style: Style) -> Line:
    return (Span(text, style),)
