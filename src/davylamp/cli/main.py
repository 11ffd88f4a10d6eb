"""`davy`, and `kubectl davy`: which commands there are, and how they end.

Only what `davy --help` needs is imported here; each command imports its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from davylamp.cli import exits, judging, serving, simulating, steering
from davylamp.cli.exits import Failure
from davylamp.cli.options import (
    SEE,
    SET_UP,
    Cluster,
    Context,
    Everywhere,
    Kubeconfig,
    Name,
    Namespace,
    OptionalName,
    OutputOption,
    Reason,
    Shell,
    TableOption,
    Timeout,
    Wait,
    Within,
    limit_of,
)

if TYPE_CHECKING:
    from davylamp.cli.session import Where

PLUGIN = "kubectl-davy"
_CODES = "\n".join(f"{code:>3}  {meaning}" for code, meaning in exits.MEANINGS.items())

app = typer.Typer(
    name="davy",
    help="Releases new versions of ordinary Deployments gradually, watches them, and takes them back when they fail.",
    epilog=f"Exit codes\n\n\b\n{_CODES}",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def program() -> str:
    """What this person calls us by."""
    return "kubectl davy" if Path(sys.argv[0]).name.startswith(PLUGIN) else "davy"


def _where(
    ctx: typer.Context,
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
    everywhere: bool = False,
) -> Where:
    """The options of the command, or those before it (`davy -n shop status`)."""
    from davylamp.cli.session import Where

    before = ctx.obj or {}
    return Where(
        kubeconfig or before.get("kubeconfig"),
        context or before.get("context"),
        namespace or (None if everywhere else before.get("namespace")),
        everywhere,
        program(),
    )


def _run(work: Coroutine[Any, Any, int]) -> None:
    from davylamp.cli.session import run

    try:
        code = run(work)
    except BrokenPipeError:
        code = _nobody_reads()
    raise typer.Exit(code)


@app.callback()
def root(
    ctx: typer.Context,
    namespace: Annotated[str | None, typer.Option("-n", "--namespace", hidden=True)] = None,
    context: Annotated[str | None, typer.Option("--context", hidden=True)] = None,
    kubeconfig: Annotated[str | None, typer.Option("--kubeconfig", hidden=True)] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the Python traceback of an error.")] = False,
) -> None:
    ctx.obj = {"namespace": namespace, "context": context, "kubeconfig": kubeconfig}


# --- see ---


@app.command(rich_help_panel=SEE)
def status(
    ctx: typer.Context,
    name: OptionalName = None,
    namespace: Namespace = None,
    everywhere: Everywhere = False,
    output: TableOption = None,
    wait: Wait = False,
    timeout: Timeout = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """What is: all workloads with a policy, or one in full.

    With --wait the exit code tells how the release ended; see `davy --help`.
    """
    from davylamp.cli.status import status

    where = _where(ctx, kubeconfig, context, namespace, everywhere)
    _run(status(where, name, output, wait=wait, limit=limit_of(timeout, wait)))


@app.command(rich_help_panel=SEE)
def watch(
    ctx: typer.Context,
    name: Name,
    namespace: Namespace = None,
    forever: Annotated[bool, typer.Option("--forever", help="Don't end with the release.")] = False,
    timeout: Within = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """A workload live, until its release ends. In a pipe: one line for each change.

    The exit code tells how the release ended; see `davy --help`.
    """
    from davylamp.cli.watch import watch

    _run(watch(_where(ctx, kubeconfig, context, namespace), name, forever=forever, limit=timeout))


@app.command(rich_help_panel=SEE)
def history(
    ctx: typer.Context,
    name: OptionalName = None,
    namespace: Namespace = None,
    everywhere: Everywhere = False,
    output: TableOption = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """The releases of a workload, or of all, the newest first."""
    from davylamp.cli.history import history

    _run(history(_where(ctx, kubeconfig, context, namespace, everywhere), name, output))


@app.command(rich_help_panel=SEE)
def validate(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Option("-f", "--filename", metavar="FILE", help="A file with policies; - is standard input. Repeatable."),
    ],
    offline: Annotated[bool, typer.Option("--offline", help="Don't ask the cluster: check the files alone.")] = False,
    namespace: Namespace = None,
    output: OutputOption = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Everything that is wrong with policies in files, before they are applied."""
    from davylamp.cli.validate import validate

    _run(validate(_where(ctx, kubeconfig, context, namespace), files, output, offline=offline))


steering.add(app, _where, _run)
judging.add(app, _where, _run)
simulating.add(app, _where)
serving.add(app, _where, _run)


# --- set up ---


@app.command(rich_help_panel=SET_UP)
def adopt(
    ctx: typer.Context,
    name: Name,
    apply: Annotated[
        bool, typer.Option("--apply", help="Make the policy, and start the release at the present weight.")
    ] = False,
    namespace: Namespace = None,
    reason: Reason = "",
    output: OutputOption = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Turn a canary made by hand (two Deployments, two Services, a canary Ingress) into a release at its weight.

    Without --apply nothing is written: the policy is printed.
    """
    from davylamp.cli.adopt import adopt

    _run(adopt(_where(ctx, kubeconfig, context, namespace), name, output, apply=apply, reason=reason))


@app.command(rich_help_panel=SET_UP)
def demo(
    cluster: Annotated[
        Cluster, typer.Option(help="In this process, or etcd and Kubernetes' own programs (davylab).")
    ] = Cluster.EMBEDDED,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster running, until Ctrl-C.")] = False,
) -> None:
    """See a good and a bad release live in a minute, on a cluster of its own.

    It exits with 0 if both releases ended as they should and every request was answered.
    """
    from davylamp.cli.demo import demo

    _run(demo(cluster.value, keep=keep))


@app.command(rich_help_panel=SET_UP)
def version() -> None:
    """The version of this program."""
    from davylamp import __version__

    typer.echo(f"davylamp {__version__}")


@app.command(rich_help_panel=SET_UP)
def completion(shell: Annotated[Shell, typer.Argument(show_default=False)]) -> None:
    """A script that lets a shell complete `davy`.

    \b
    bash: source <(davy completion bash)        in ~/.bashrc
    zsh:  source <(davy completion zsh)         in ~/.zshrc, after compinit
    fish: davy completion fish | source         in ~/.config/fish/config.fish
    """
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="davy", complete_var=COMPLETE, shell=shell.value))


COMPLETE = "_DAVY_COMPLETE"


def _add_install(words: Iterable[str]) -> None:
    """`davy install` has much to import. Who doesn't call it gets a line in the help instead."""
    app.registered_commands[:] = [known for known in app.registered_commands if known.name not in _INSTALL]
    if _INSTALL.keys() & set(words):
        from davylamp.cli.install import install, uninstall

        app.command("install", rich_help_panel=SET_UP)(install)
        app.command("uninstall", rich_help_panel=SET_UP)(uninstall)
        return
    for name, summary in _INSTALL.items():
        app.command(name, rich_help_panel=SET_UP, help=summary)(lambda: None)


_INSTALL = {
    "install": "Put Davylamp into a cluster: its kinds, its rights, and the gate that holds new templates.",
    "uninstall": "Take Davylamp out of a cluster, and leave every Deployment, Service and Ingress as it should be.",
}


# --- start and end ---


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. `args` are the words after the program's name."""
    words = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    completing = COMPLETE in os.environ
    if completing:
        from typer._completion_classes import completion_init

        completion_init()
    _add_install(
        [*words, *os.environ.get("COMP_WORDS", "").split(), *os.environ.get("_TYPER_COMPLETE_ARGS", "").split()]
    )
    try:
        code = app(words, prog_name=program(), complete_var=COMPLETE, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _nobody_reads()
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except Exception as error:
        if debug:
            raise
        return _ended(error)
    return int(code or 0)


def _ended(error: Exception) -> int:
    """The exit code of an error, which is told in a line."""
    match error:
        case Failure():
            code, message = error.code, error.message
        case typer.TyperException():
            message = _usage(error)
            code = exits.BAD_INPUT if message else exits.OK
        case typer.Abort():
            return exits.INTERRUPTED
        case _:
            code = exits.FAILED
            message = f"{type(error).__name__}: {error} (this is a bug; --debug shows more)"
    if message:
        sys.stderr.write(f"davy: {message}\n")
    return code


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the words of a command. (Nothing, where help was shown for there being none.)"""
    message = error.format_message().replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else program()
    return f"{message.rstrip('.?')}; see `{path} --help`" if message else ""


def _nobody_reads() -> int:
    """Whoever read our output has gone (`davy watch web | head`)."""
    # Python would complain when it flushes at its end; so what is left goes nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.BROKEN_PIPE


if __name__ == "__main__":
    sys.exit(main())
