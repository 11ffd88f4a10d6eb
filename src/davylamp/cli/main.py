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

from davylamp.cli import exits, judging, simulating
from davylamp.cli.exits import Failure
from davylamp.cli.options import (
    SEE,
    SET_UP,
    STEER,
    Cluster,
    Context,
    Everywhere,
    Gate,
    Kubeconfig,
    LogFormat,
    LogLevel,
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
)

if TYPE_CHECKING:
    from davylamp.cli.asks import Verb
    from davylamp.cli.output import Output
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
    _run(status(where, name, output, wait=wait, limit=_limit(timeout, wait)))


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


# --- steer ---


def _limit(timeout: float | None, wait: bool) -> float | None:
    if timeout is not None and not wait:
        raise Failure("--timeout is for --wait", exits.BAD_INPUT)
    return timeout


def _ask(
    where: Where,
    verb: Verb,
    name: str,
    output: Output | None,
    reason: str,
    wait: bool,
    timeout: float | None,
    step: int | None = None,
) -> None:
    from davylamp.cli.commands import command

    limit = _limit(timeout, wait)
    _run(command(where, verb, name, output, reason=reason, step=step, wait=wait, limit=limit))


def _steering(verb: Verb, summary: str) -> None:
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
        _ask(_where(ctx, kubeconfig, context, namespace), verb, name, output, reason, wait, timeout)

    app.command(verb, rich_help_panel=STEER, help=summary)(steer)


_steering("pause", "Halt a release where it is, with the traffic as it is. With --wait: until it stands still.")


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
    _ask(_where(ctx, kubeconfig, context, namespace), "resume", name, output, "", wait, timeout)


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
    _ask(_where(ctx, kubeconfig, context, namespace), "approve", name, output, reason, wait, timeout, step)


_steering("abort", "Take a release back: the traffic first, then its pods. With --wait: 0 where it was taken back.")
_steering("promote", "Complete a release now, whatever steps are left.")
_steering("retry", "Try a rejected template again, with a new release.")
_steering("start", "Release the idle Deployment of a pair as it is, without a new template.")


judging.add(app, _where, _run)
simulating.add(app, _where)


# --- set up ---


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
            metavar="ADDR:PORT", help="Where /healthz, /readyz, /metrics and /feedback are; an empty text for nowhere."
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
    log_format: Annotated[LogFormat, typer.Option(help="For people, or for machines.")] = LogFormat.TEXT,
    log_level: Annotated[LogLevel, typer.Option(help="What is worth a line.")] = LogLevel.INFO,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Run the controller: what moves the traffic, and takes it back."""
    import logging

    from davylamp.controller.main import Options, run
    from davylamp.signals.addresses import networks

    where = _where(ctx, kubeconfig, context, None)
    logging.getLogger("davylamp").setLevel(log_level.upper())
    options = Options(
        kubeconfig=where.kubeconfig,
        context=where.context,
        namespaces=tuple(namespaces or filter(None, [where.namespace])),
        gate=gate.value,
        listen=listen,
        leader_elect=leader_elect,
        lease_namespace=lease_namespace,
        log_format=log_format.value,
        workers=workers,
        allow_addresses=tuple(allow_address or ()),
        proxies=tuple(proxy or ()),
    )
    try:
        networks((*options.allow_addresses, *options.proxies))
    except ValueError as error:
        raise Failure(str(error), exits.BAD_INPUT) from error

    async def until_stopped() -> int:
        try:
            await run(options)
        except ValueError as error:
            raise Failure(f"--listen {listen}: {error}", exits.BAD_INPUT) from error
        except OSError as error:
            raise Failure(f"--listen {listen}: {error.strerror or error}") from error
        return exits.OK

    _run(until_stopped())


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
