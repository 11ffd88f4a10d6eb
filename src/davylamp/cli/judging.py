"""The commands about verdicts: `davy verdict`, `davy analysis detect`, `davy feedback`. Light to import."""

from __future__ import annotations

from typing import Annotated

import typer

from davylamp.cli.options import SEE, STEER, Context, FindWhere, Kubeconfig, Name, Namespace, OutputOption, Run


def add(app: typer.Typer, where: FindWhere, run: Run) -> None:
    """Add the commands to `app`; `where` finds the cluster that the options mean, `run` ends with the exit code."""

    @app.command(rich_help_panel=SEE)
    def verdict(
        ctx: typer.Context,
        name: Name,
        namespace: Namespace = None,
        plot: Annotated[
            str | None, typer.Option("--plot", metavar="FILE", help="Write a picture of it (SVG) instead.")
        ] = None,
        output: OutputOption = None,
        context: Context = None,
        kubeconfig: Kubeconfig = None,
    ) -> None:
        """Why a release is held, goes on or is taken back: each check's evidence over time.

        As JSON with the counts that went in.
        """
        from davylamp.cli.verdict import verdict

        run(verdict(where(ctx, kubeconfig, context, namespace), name, output, plot))

    analysis = typer.Typer(help="What a policy's analysis would measure.", no_args_is_help=True)

    @analysis.command()
    def detect(
        ctx: typer.Context,
        name: Name,
        namespace: Namespace = None,
        output: OutputOption = None,
        context: Context = None,
        kubeconfig: Kubeconfig = None,
    ) -> None:
        """What metrics the pods of a workload have, and which check each would feed.

        Asks one pod by way of the API server, which needs the right to get pods/proxy.
        """
        from davylamp.cli.detect import detected

        run(detected(where(ctx, kubeconfig, context, namespace), name, output))

    app.add_typer(analysis, name="analysis", rich_help_panel=SEE)

    @app.command(rich_help_panel=STEER)
    def feedback(
        ctx: typer.Context,
        name: Name,
        bad: Annotated[bool, typer.Option("--bad/--good", help="Whether something is wrong.", show_default=False)],
        namespace: Namespace = None,
        note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What the user said.")] = "",
        user: Annotated[
            str, typer.Option("--user", metavar="KEY", help="Who: each counts once. Default: somebody new.")
        ] = "",
        stable: Annotated[
            bool, typer.Option("--stable", help="The user was served by the stable version, not by the canary.")
        ] = False,
        context: Context = None,
        kubeconfig: Kubeconfig = None,
    ) -> None:
        """Pass on what a user says of the version that a release tries."""
        from davylamp.cli.feedback import Said, feedback

        said = Said(bad, note, user, stable)
        run(feedback(where(ctx, kubeconfig, context, namespace), name, said))
