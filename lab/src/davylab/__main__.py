"""The command line: `davylab`, or `python -m davylab`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from davylamp.embedded.errors import EmbeddedError
from davylamp.embedded.load import generator

from davylab import binaries, cluster, identity, lab, namespace
from davylab.cluster import Info
from davylab.components import Options
from davylab.errors import LabError


def main() -> None:
    try:
        args = _parser().parse_args()
        args.run(args)
    except EmbeddedError as error:
        sys.exit(f"davylab: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="davylab", description=sys.modules["davylab"].__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start a control plane")
    _add_state(up)
    up.add_argument("--detach", action="store_true", help="return when it is ready, and leave it running")
    up.add_argument("--traefik", action="store_true", help="with Traefik, for Ingresses of class nginx")
    up.add_argument("--gateway", action="store_true", help="with Traefik, for Gateway API too (installs its CRDs)")
    up.add_argument("--istio", action="store_true", help="with Istio: istiod, a gateway and a client's sidecar")
    up.add_argument("--throttle", type=float, metavar="SECONDS", help="Traefik's provider throttle (its default: 2)")
    up.add_argument(
        "--no-mutating-policies",
        dest="mutating_policies",
        action="store_false",
        help="an API server without MutatingAdmissionPolicy, as before Kubernetes 1.36",
    )
    up.add_argument("--nodes", type=int, default=1, help="how many nodes (default 1)")
    up.add_argument("--audit", action="store_true", help="write logs/audit.log, a line for each request")
    up.add_argument(
        "--user",
        action="append",
        default=[],
        type=identity.user,
        dest="users",
        metavar="SHORT[=NAME[/GROUP,...]]",
        help="one more user, with STATE/kubeconfig.SHORT; may be given again",
    )
    up.add_argument(
        "--restart-cap",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="longest crash loop back-off (default 10)",
    )
    up.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)
    up.add_argument("--temporary", action="store_true", help=argparse.SUPPRESS)
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="stop it")
    _add_state(down)
    down.set_defaults(run=lambda args: lab.down(args.state))

    inside = commands.add_parser("exec", help="run a command inside the lab's network")
    _add_state(inside)
    inside.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    inside.set_defaults(run=_exec)

    env = commands.add_parser("env", help="print the shell's `export KUBECONFIG=...`")
    _add_state(env)
    env.add_argument("--user", default="admin", help="admin (the default), davylamp, or one given to `up --user`")
    env.add_argument("--service-account", metavar="NAMESPACE/NAME", help="one that exists, with a token made now")
    env.add_argument("--inside", action="store_true", help="for a process inside the lab's network")
    env.set_defaults(run=_env)

    wave = commands.add_parser("load", help="send requests at a fixed rate, and account for each")
    wave.add_argument("--url", required=True, help="http://ADDRESS:PORT/PATH")
    wave.add_argument("--host", default="", help="the Host header (default: the URL's)")
    wave.add_argument("--rps", type=float, default=100.0, help="requests a second (default 100)")
    wave.add_argument("--seconds", type=float, help="for how long (default: until SIGINT or SIGTERM)")
    wave.add_argument("--connections", type=int, default=8, help="kept open; more are opened while all are busy")
    wave.add_argument("--header", type=_header, action="append", default=[], metavar="NAME=VALUE")
    wave.add_argument("--timeout", type=float, default=10.0, help="seconds until a request is lost (default 10)")
    wave.add_argument("--report", type=float, metavar="SECONDS", help="print a line of JSON for each interval")
    wave.add_argument("--json", action="store_true", help="the summary as JSON")
    wave.set_defaults(run=_load)

    build = commands.add_parser("build", help="build the binaries now, if they are not there")
    build.add_argument("--istio", action="store_true", help="istiod too")
    build.set_defaults(run=_build)
    return parser


def _add_state(parser: argparse.ArgumentParser) -> None:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    default = Path(os.environ.get("DAVYLAB_STATE") or Path(base) / "davylab")
    parser.add_argument("--state", type=Path, default=default, help=f"folder of the lab (default {default})")


def _header(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f'"{text}" is not NAME=VALUE')
    return name, value


def _load(args: argparse.Namespace) -> None:
    if not args.url.startswith("http://"):
        raise LabError(f'--url "{args.url}": only http:// is spoken here')
    settings = generator.Settings(
        url=args.url,
        host=args.host,
        rps=args.rps,
        seconds=args.seconds,
        connections=args.connections,
        headers=tuple(args.header),
        timeout=args.timeout,
        report=args.report,
    )
    generator.run(settings, as_json=args.json)


def _build(args: argparse.Namespace) -> None:
    found = [*binaries.find_or_build(), *([binaries.find_or_build_istiod()] if args.istio else [])]
    print("\n".join(map(str, found)))


def _up(args: argparse.Namespace) -> None:
    if args.detach:
        return _detach(args)
    options = Options(
        state=args.state,
        traefik=args.traefik,
        gateway=args.gateway,
        istio=args.istio,
        throttle=args.throttle,
        mutating_policies=args.mutating_policies,
        nodes=args.nodes,
        audit=args.audit,
        users=tuple(args.users),
        restart_cap=args.restart_cap,
        end_with_stdin=args.end_with_stdin,
        temporary=args.temporary,
    )
    cluster.up(options, on_ready=lambda info: print(_howto(args.state, info), flush=True))
    return None


def _detach(args: argparse.Namespace) -> None:
    flags = [flag for flag in sys.argv[2:] if flag != "--detach"]
    supervisor = lab.start(flags, args.state, end_with_us=False)
    print(lab.wait_until_ready(supervisor, args.state).kubeconfig)


def _howto(state: Path, info: Info) -> str:
    lines = [
        f"ready after {info.seconds_to_ready} s",
        f"  export KUBECONFIG={info.kubeconfig}",
        f"  davylab exec --state {state} -- COMMAND    # where pods' addresses and {info.inside_api} are",
    ]
    if info.traefik:
        lines.append(f"  curl -H 'Host: shop.example' http://{info.traefik}/    # Traefik, Ingresses of class nginx")
    if info.istio:
        lines.append(f"  curl -H 'Host: shop.example' http://{info.istio}/    # Istio's gateway")
    lines.append(f"  logs: {info.logs}; Ctrl-C, or `davylab down --state {state}`, stops everything")
    return "\n".join(lines)


def _exec(args: argparse.Namespace) -> None:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise LabError("no command given: davylab exec --state DIR -- COMMAND ...")
    info = lab.read_info(args.state)
    before = namespace.enter_command(info.pid, user_namespace=info.user_namespace)
    os.environ["KUBECONFIG"] = info.inside_kubeconfig
    os.execvp(before[0], [*before, *command])


def _env(args: argparse.Namespace) -> None:
    running = lab.Lab.attach(args.state)
    info = running.info
    if args.service_account:
        space, _, name = args.service_account.partition("/")
        path = running.kubeconfig_of_service_account(space, name, inside=args.inside)
    else:
        path = running.kubeconfig_of(args.user, inside=args.inside)
    print(f"export KUBECONFIG={path}")
    if info.istio:
        print(f"export DAVYLAB_ISTIO=http://{info.inside_istio if args.inside else info.istio}")
    if info.traefik:
        print(f"export DAVYLAB_TRAEFIK=http://{info.inside_traefik if args.inside else info.traefik}")


if __name__ == "__main__":
    main()
