"""The options that several commands have. Light to import: every start of `davy` does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from davylamp.api.units import seconds
from davylamp.cli.exits import BAD_INPUT, Failure
from davylamp.cli.output import Output, TableOutput

if TYPE_CHECKING:
    from davylamp.cli.session import Where

FindWhere = Callable[..., "Where"]
"""Finds the cluster that a command's options mean: (ctx, kubeconfig, context, namespace, everywhere)."""
Run = Callable[[Coroutine[Any, Any, int]], None]
"""Runs the work of a command and ends with its exit code."""

SEE, STEER, SET_UP = "See", "Steer a release", "Set up"
"""The groups of commands in `davy --help`."""


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


class Gate(StrEnum):
    AUTO = "auto"
    ADMISSION = "admission"
    FALLBACK = "fallback"


class Cluster(StrEnum):
    EMBEDDED = "embedded"
    REAL = "real"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class Events(StrEnum):
    FEW = "few"
    STEPS = "steps"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _names(ctx: typer.Context, incomplete: str) -> list[str]:
    from davylamp.cli.complete import names

    return names(ctx.params, incomplete)


def _namespaces(ctx: typer.Context, incomplete: str) -> list[str]:
    from davylamp.cli.complete import namespaces

    return namespaces(ctx.params, incomplete)


def _contexts(ctx: typer.Context, incomplete: str) -> list[str]:
    from davylamp.cli.complete import contexts

    return contexts(ctx.params, incomplete)


def duration(text: Any) -> float:
    """Seconds, for an option. Raises typer.BadParameter with what would be right."""
    if isinstance(text, float):
        return text
    try:
        return seconds(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def limit_of(timeout: float | None, wait: bool) -> float | None:
    """Seconds to wait for the end; None for as long as it takes. Raises Failure where there is nothing to wait for."""
    if timeout is not None and not wait:
        raise Failure("--timeout is for --wait", BAD_INPUT)
    return timeout


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The workload: its Deployment's name, or deployment/NAME, policy/NAME, release/NAME.",
        autocompletion=_names,
        show_default=False,
    ),
]
OptionalName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="One workload: its Deployment's name, or deployment/NAME, policy/NAME, release/NAME.",
        autocompletion=_names,
        show_default=False,
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "-n",
        "--namespace",
        metavar="NAME",
        help="The namespace; default: that of the context.",
        autocompletion=_namespaces,
        show_default=False,
    ),
]
Everywhere = Annotated[bool, typer.Option("-A", "--all-namespaces", help="All namespaces.")]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="The context of the kubeconfig; default: its current one.",
        autocompletion=_contexts,
        show_default=False,
    ),
]
Kubeconfig = Annotated[
    str | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="The kubeconfig; default: $KUBECONFIG, ~/.kube/config, or the pod's service account.",
        show_default=False,
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end of the release; the exit code tells which.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        parser=duration,
        help="With --wait: give up after this time (90s, 10m, 1h30m), with exit code 5.",
        show_default=False,
    ),
]
Within = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        parser=duration,
        help="Give up after this time (90s, 10m, 1h30m), with exit code 5.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Output | None, typer.Option("-o", "--output", help="For programs.", show_default=False, case_sensitive=False)
]
TableOption = Annotated[
    TableOutput | None,
    typer.Option("-o", "--output", help="For programs; `wide` has more columns.", show_default=False),
]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why, for everybody to read.", show_default=False)
]
