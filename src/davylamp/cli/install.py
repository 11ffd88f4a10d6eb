"""`davy install` and `davy uninstall`: their options. What they do is imported when they are called."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from davylamp.cli.options import Context, Kubeconfig, OutputOption


class GateChoice(StrEnum):
    AUTO = "auto"
    ADMISSION = "admission"
    FALLBACK = "fallback"


class DryRun(StrEnum):
    NONE = "none"
    SERVER = "server"


PrintOnly = Annotated[
    bool, typer.Option("--print", help="Print the YAML and touch no cluster: for GitOps, or to read.")
]
Gate = Annotated[
    GateChoice,
    typer.Option(
        "--gate",
        help="How new templates are held until they are released: by the API server (admission), by Deployments that "
        "stay paused (fallback), or by whichever this cluster can do (auto; with --print: admission).",
    ),
]
Only = Annotated[
    str,
    typer.Option(
        "--namespace-only",
        metavar="NAMESPACE",
        help="Rights and gate in this namespace only. Default: in all.",
        show_default=False,
    ),
]
Home = Annotated[str, typer.Option("-n", "--namespace", metavar="NAMESPACE", help="Where the controller lives.")]
Image = Annotated[
    str,
    typer.Option(
        "--image", metavar="IMAGE", help="Also run the controller, from this image. Default: not.", show_default=False
    ),
]
Args = Annotated[
    list[str] | None,
    typer.Option(
        "--controller-option",
        metavar="OPTION",
        help="With --image: an option for it, as --controller-option=--events=steps (see `davy controller --help`); "
        "repeatable.",
        show_default=False,
    ),
]
Writer = Annotated[
    str,
    typer.Option(
        "--writer",
        metavar="USER",
        help="As whom the controller writes; the gate lets this user through. Default: its service account.",
        show_default=False,
    ),
]
DryRunOption = Annotated[
    DryRun, typer.Option("--dry-run", help="server: have the API server check everything, and change nothing.")
]
Force = Annotated[bool, typer.Option("--force", help="Take releases that are under way back first, and don't refuse.")]
Within = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="With --force: how long that may take, for example 90s.")
]


def install(
    print_only: PrintOnly = False,
    gate: Gate = GateChoice.AUTO,
    only: Only = "",
    namespace: Home = "davylamp-system",
    image: Image = "",
    controller_option: Args = None,
    writer: Writer = "",
    dry_run: DryRunOption = DryRun.NONE,
    output: OutputOption = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Put Davylamp into a cluster: its kinds, its rights, and the gate that holds new templates.

    Safe to repeat: it says what it created and changed, and what was so already, and returns when everything works.
    """
    from davylamp.cli import installing
    from davylamp.cli.session import Where
    from davylamp.kube.manifests import Options

    args = installing.controller_options(controller_option or (), image)
    options = Options(namespace=namespace, only=only, image=image, writer=writer, args=args)
    if print_only:
        installing.print_manifests(options, gate.value)
        return
    where = Where(kubeconfig, context)
    installing.do_install(where, options, gate.value, output, dry_run=dry_run is DryRun.SERVER)


def uninstall(
    force: Force = False,
    timeout: Within = "5m",
    output: OutputOption = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Take Davylamp out of a cluster, and leave every Deployment, Service and Ingress as it should be.

    Refuses while a release is under way; --force takes it back first, with the controller or without one. A
    Deployment that holds a template which never became stable stays paused, and is listed with the commands to choose
    from. Safe to repeat.
    """
    from davylamp.cli import installing
    from davylamp.cli.session import Where

    installing.do_uninstall(Where(kubeconfig, context), output, force=force, timeout=timeout)
