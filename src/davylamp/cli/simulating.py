"""`davy simulate`: its options. What it does is imported when it is called."""

from __future__ import annotations

from typing import Annotated

import typer

from davylamp.cli.options import (
    SEE,
    Context,
    FindWhere,
    Kubeconfig,
    Namespace,
    OptionalName,
    OutputOption,
    duration,
)

File = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--filename",
        metavar="FILE",
        help="A policy, with its Deployment, Service and Ingress if you like; - is standard input. "
        "Default: what the cluster has for NAME.",
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rps",
        metavar="NUMBER",
        min=0.0,
        help="Requests per second, of both versions together. Default: 100, or what the pods of NAME tell.",
    ),
]
Crash = Annotated[
    float | None,
    typer.Option(
        "--crash", metavar="DURATION", parser=duration, help="The new version's containers end so long after a start."
    ),
]
Scenario = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="FILE",
        help="A recorded series: CSV or YAML with time, rps, stable_errors, canary_errors.",
    ),
]
Limit = Annotated[
    float | None,
    typer.Option(
        "--limit", metavar="DURATION", parser=duration, help="Give up watching a release that hasn't ended by then."
    ),
]


def add(app: typer.Typer, where: FindWhere) -> None:
    """Add the command to `app`; `where` finds the cluster that the options mean."""

    @app.command(rich_help_panel=SEE)
    def simulate(
        ctx: typer.Context,
        name: OptionalName = None,
        file: File = None,
        rps: Rate = None,
        stable_errors: Annotated[
            str, typer.Option(metavar="PERCENT", help="How many of the old version's requests fail.")
        ] = "0.1%",
        canary_errors: Annotated[
            str | None, typer.Option(metavar="PERCENT", help="The same of the new version. Default: as the old one's.")
        ] = None,
        latency: Annotated[
            float,
            typer.Option(
                parser=duration,
                metavar="DURATION",
                help="Half of the old version's requests take less.",
                show_default="30ms",
            ),
        ] = 0.03,
        canary_latency: Annotated[
            float | None,
            typer.Option(
                parser=duration, metavar="DURATION", help="The same of the new version. Default: as the old one's."
            ),
        ] = None,
        crash: Crash = None,
        replicas: Annotated[
            int | None, typer.Option(min=1, max=500, metavar="NUMBER", help="Pods of the Deployment.")
        ] = None,
        testers: Annotated[
            str, typer.Option(metavar="PERCENT", help="How many of the requests the policy's match chooses.")
        ] = "0%",
        approve_after: Annotated[
            float,
            typer.Option(
                parser=duration, metavar="DURATION", help="How long people take to approve.", show_default="5m"
            ),
        ] = 300.0,
        scenario: Scenario = None,
        limit: Limit = None,
        runs: Annotated[int, typer.Option(min=1, max=1_000_000, metavar="NUMBER", help="How many releases.")] = 1,
        seed: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="The same seed gives the same releases.")] = 0,
        plot: Annotated[
            str | None, typer.Option("--plot", metavar="FILE", help="Also draw the first release (SVG).")
        ] = None,
        namespace: Namespace = None,
        output: OutputOption = None,
        context: Context = None,
        kubeconfig: Kubeconfig = None,
    ) -> None:
        """What a policy would do: releases by the real controller, with imagined pods and requests, in virtual time.

        One release is told step by step; of many (--runs) you get how often and how soon they are taken back.
        """
        from davylamp.cli.simulate import Given, simulate

        given = Given(
            name=name,
            file=file,
            rps=rps,
            stable_errors=stable_errors,
            canary_errors=canary_errors,
            latency=latency,
            canary_latency=canary_latency,
            crash=crash,
            replicas=replicas,
            testers=testers,
            approve_after=approve_after,
            scenario=scenario,
            limit=limit,
            runs=runs,
            seed=seed,
            plot=plot,
        )
        raise typer.Exit(simulate(where(ctx, kubeconfig, context, namespace), given, output))
