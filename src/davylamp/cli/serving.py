"""The command `davy controller`. Light to import."""

from __future__ import annotations

from typing import Annotated

import typer

from davylamp.cli import exits
from davylamp.cli.exits import Failure
from davylamp.cli.options import SET_UP, Context, Events, FindWhere, Gate, Kubeconfig, LogFormat, LogLevel, Run


def add(app: typer.Typer, where: FindWhere, run: Run) -> None:
    """Add the command to `app`; `where` finds the cluster that the options mean, `run` ends with the exit code."""

    @app.command(rich_help_panel=SET_UP)
    def controller(
        ctx: typer.Context,
        namespaces: Annotated[
            list[str] | None,
            typer.Option(
                "-n", "--namespace", metavar="NAME", help="Serve this namespace only; repeatable. Default: all of them."
            ),
        ] = None,
        gate: Annotated[
            Gate, typer.Option(help="How templates are kept from rolling; auto: as the API server can.")
        ] = Gate.AUTO,
        leader_elect: Annotated[
            bool, typer.Option("--leader-elect", help="Work only while holding a Lease, so that several may run.")
        ] = False,
        lease_namespace: Annotated[
            str, typer.Option("--lease-namespace", metavar="NAME", help="Where that Lease is.")
        ] = "davylamp-system",
        listen: Annotated[
            str,
            typer.Option(
                metavar="ADDR:PORT",
                help="Where /healthz, /readyz, /metrics and /feedback are; an empty text for nowhere.",
            ),
        ] = ":8080",
        allow_address: Annotated[
            list[str] | None,
            typer.Option(
                "--allow-address",
                metavar="NETWORK",
                help="Let policies lead to such addresses (127.0.0.0/8, say), which are refused otherwise; repeatable.",
            ),
        ] = None,
        proxy: Annotated[
            list[str] | None,
            typer.Option(
                "--trust-proxy",
                metavar="NETWORK",
                help="Proxies before /feedback whose X-Forwarded-For is believed; repeatable.",
            ),
        ] = None,
        workers: Annotated[int, typer.Option(min=1, max=1000, help="How many workloads are worked on at once.")] = 64,
        events: Annotated[
            Events, typer.Option(help="What Events tell: ends and what needs a person, or each beginning and step too.")
        ] = Events.FEW,
        log_format: Annotated[LogFormat, typer.Option(help="For people, or for machines.")] = LogFormat.TEXT,
        log_level: Annotated[LogLevel, typer.Option(help="What is worth a line.")] = LogLevel.INFO,
        context: Context = None,
        kubeconfig: Kubeconfig = None,
    ) -> None:
        """Run the controller: what moves the traffic, and takes it back."""
        import logging

        from davylamp.controller import main
        from davylamp.signals.addresses import networks

        place = where(ctx, kubeconfig, context, None)
        logging.getLogger("davylamp").setLevel(log_level.upper())
        options = main.Options(
            kubeconfig=place.kubeconfig,
            context=place.context,
            namespaces=tuple(namespaces or filter(None, [place.namespace])),
            gate=gate.value,
            listen=listen,
            leader_elect=leader_elect,
            lease_namespace=lease_namespace,
            log_format=log_format.value,
            workers=workers,
            events=events.value,
            allow_addresses=tuple(allow_address or ()),
            proxies=tuple(proxy or ()),
        )
        try:
            networks((*options.allow_addresses, *options.proxies))
        except ValueError as error:
            raise Failure(str(error), exits.BAD_INPUT) from error

        async def until_stopped() -> int:
            try:
                await main.run(options)
            except ValueError as error:
                raise Failure(f"--listen {listen}: {error}", exits.BAD_INPUT) from error
            except OSError as error:
                raise Failure(f"--listen {listen}: {error.strerror or error}") from error
            return exits.OK

        run(until_stopped())
