"""The commands by which a person steers a release. Light to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from davylamp.cli.options import (
    STEER,
    Context,
    FindWhere,
    Kubeconfig,
    Name,
    Namespace,
    OutputOption,
    Reason,
    Run,
    Timeout,
    Wait,
    limit_of,
)

if TYPE_CHECKING:
    from davylamp.cli.asks import Verb
    from davylamp.cli.output import Output
    from davylamp.cli.session import Where


def add(app: typer.Typer, where: FindWhere, run: Run) -> None:
    """Add the commands to `app`; `where` finds the cluster that the options mean, `run` ends with the exit code."""

    def ask(
        place: Where,
        verb: Verb,
        name: str,
        output: Output | None,
        reason: str,
        wait: bool,
        timeout: float | None,
        step: int | None = None,
    ) -> None:
        from davylamp.cli.commands import command

        limit = limit_of(timeout, wait)
        run(command(place, verb, name, output, reason=reason, step=step, wait=wait, limit=limit))

    def steering(verb: Verb, summary: str) -> None:
        """A command with a reason that is kept in the Release."""

        def steer(
            ctx: typer.Context,
            name: Name,
            namespace: Namespace = None,
            reason: Reason = "",
            wait: Wait = False,
            timeout: Timeout = None,
            output: OutputOption = None,
            context: Context = None,
            kubeconfig: Kubeconfig = None,
        ) -> None:
            ask(where(ctx, kubeconfig, context, namespace), verb, name, output, reason, wait, timeout)

        app.command(verb, rich_help_panel=STEER, help=summary)(steer)

    steering("pause", "Halt a release where it is, with the traffic as it is. With --wait: until it stands still.")

    @app.command(rich_help_panel=STEER)
    def resume(
        ctx: typer.Context,
        name: Name,
        namespace: Namespace = None,
        wait: Wait = False,
        timeout: Timeout = None,
        output: OutputOption = None,
        context: Context = None,
        kubeconfig: Kubeconfig = None,
    ) -> None:
        """Let a paused release go on."""
        ask(where(ctx, kubeconfig, context, namespace), "resume", name, output, "", wait, timeout)

    @app.command(rich_help_panel=STEER)
    def approve(
        ctx: typer.Context,
        name: Name,
        namespace: Namespace = None,
        reason: Reason = "",
        step: Annotated[
            int | None,
            typer.Option("--step", metavar="NUMBER", min=1, help="The step to approve; default: the present one."),
        ] = None,
        wait: Wait = False,
        timeout: Timeout = None,
        output: OutputOption = None,
        context: Context = None,
        kubeconfig: Kubeconfig = None,
    ) -> None:
        """Let a release leave a step that waits for a person."""
        ask(where(ctx, kubeconfig, context, namespace), "approve", name, output, reason, wait, timeout, step)

    steering("abort", "Take a release back: the traffic first, then its pods. With --wait: 0 where it was taken back.")
    steering("promote", "Complete a release now, whatever steps are left.")
    steering("retry", "Try a rejected template again, with a new release.")
    steering("start", "Release the idle Deployment of a pair as it is, without a new template.")
