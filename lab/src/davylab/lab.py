"""A lab as a test sees it: start one (or attach to one), run commands in it, wait for things, stop it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec
from davylamp.embedded.waiting import POLL, wait
from davylamp.embedded.wheels import program

from davylab import cluster, identity, istio, namespace
from davylab.cluster import Info
from davylab.errors import LabError
from davylab.identity import Paths, User

T = TypeVar("T")

BUILD_AND_START_TIMEOUT = 3600.0  # the first start builds the binaries


class Lab:
    """A running control plane. A `with` block stops it at its end; it also ends when this process does.

    >>> with Lab(traefik=True) as lab:          # doctest: +SKIP
    ...     lab.kubectl("apply", "-f", "-", input=manifests)
    ...     lab.wait(lambda: "2/2" in lab.kubectl("get", "deploy", "web"), 20, "web to be ready")
    """

    def __init__(
        self,
        *,
        traefik: bool = False,
        gateway: bool = False,
        istio: bool = False,
        throttle: float | None = None,
        nodes: int = 1,
        audit: bool = False,
        mutating_policies: bool = True,
        restart_cap: float = 10.0,
        users: Sequence[User] = (),
        state: Path | None = None,
    ) -> None:
        """Starts a lab and waits until it is ready. Raises LabError with the end of its log if it is not.

        ``throttle`` and ``restart_cap`` are seconds: see `davylab up --help`. ``state`` is a folder to keep;
        left out, it is a temporary one that goes with the lab.
        """
        self.state = state.resolve() if state else Path(tempfile.mkdtemp(prefix="davylab-"))
        self.temporary = state is None
        self.children: list[subprocess.Popen[Any]] = []
        flags = _flags(self.state, traefik, gateway, throttle, nodes, audit, restart_cap, users)
        flags += ["--istio"] * istio
        flags += [] if mutating_policies else ["--no-mutating-policies"]
        flags += ["--temporary"] * self.temporary
        try:
            self.supervisor: subprocess.Popen[bytes] | None = start(flags, self.state, end_with_us=True)
            self.info = wait_until_ready(self.supervisor, self.state)
        except BaseException:
            self.stop()
            raise

    @classmethod
    def attach(cls, state: Path | str) -> Lab:
        """A lab that is running already; `stop` stops it, leaving a `with` block does not."""
        self = cls.__new__(cls)
        self.state = Path(state).resolve()
        self.temporary = False
        self.children = []
        self.supervisor = None
        self.info = read_info(self.state)
        return self

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.supervisor is None:
            self._end_children()
        else:
            self.stop()

    @property
    def kubeconfig(self) -> Path:
        """For processes outside the namespace, as admin."""
        return Path(self.info.kubeconfig)

    @property
    def inside_kubeconfig(self) -> Path:
        """For processes started with `spawn`, as admin."""
        return Path(self.info.inside_kubeconfig)

    @property
    def controller_kubeconfig(self) -> Path:
        """For Davylamp's controller, started with `spawn`: a service account with the rights of its installation."""
        return self.kubeconfig_of("davylamp", inside=True)

    def kubeconfig_of(self, user: str, *, inside: bool = False) -> Path:
        """The kubeconfig of another user of the token file: `davylamp`, or one given as ``users``."""
        path = Paths(self.state).kubeconfig(User(user, user, ()), inside=inside)
        if not path.exists():
            raise LabError(
                f'no user "{user}" in {self.state}: start the lab with `davylab up --user {user}`, Lab(users=...)'
            )
        return path

    def kubeconfig_of_service_account(self, namespace: str, name: str, *, inside: bool = False) -> Path:
        """A kubeconfig with a token for an existing service account, good for an hour."""
        token = self.kubectl("create", "token", name, "--namespace", namespace).strip()
        paths = Paths(self.state)
        path = paths.kubeconfig(User(f"{namespace}.{name}", name, ()), inside=inside)
        identity.write_kubeconfig(path, self.info.inside_api if inside else self.info.api, paths.certificate, token)
        return path

    @property
    def traefik_url(self) -> str:
        """Traefik's web entry point, for processes outside the namespace."""
        return f"http://{self._traefik(self.info.traefik)}/"

    @property
    def inside_traefik_url(self) -> str:
        """Traefik's web entry point, for processes inside the namespace."""
        return f"http://{self._traefik(self.info.inside_traefik)}/"

    @property
    def inside_istio_url(self) -> str:
        """The HTTP port of Istio's gateway, for processes inside the namespace."""
        return f"http://{self._istio(self.info.inside_istio)}/"

    @property
    def inside_istio_tcp_url(self) -> str:
        """The TCP port of Istio's gateway, for processes inside the namespace; a Gateway's server has port 9000."""
        return self._istio_url(istio.TCP_PORT)

    @property
    def inside_istio_tls_url(self) -> str:
        """The TLS port of Istio's gateway, for processes inside the namespace; a Gateway's server has port 443."""
        return self._istio_url(istio.TLS_PORT)

    def _istio_url(self, port: int) -> str:
        return f"http://{self._istio(self.info.inside_istio).rpartition(':')[0]}:{port}/"

    @property
    def certificate(self) -> str:
        """A self-signed certificate and its key, as PEM: the API server's, for whatever needs one."""
        paths = Paths(self.state)
        return paths.certificate.read_text() + paths.key.read_text()

    @property
    def inside_sidecar_url(self) -> str:
        """The HTTP proxy of a client's sidecar, for processes inside the namespace: the Host header says where to."""
        return f"http://{self._istio(self.info.inside_sidecar)}/"

    def _istio(self, address: str | None) -> str:
        if address is None:
            raise LabError("this lab was started without Istio: Lab(istio=True), `davylab up --istio`")
        return address

    def _traefik(self, address: str | None) -> str:
        if address is None:
            raise LabError("this lab was started without Traefik: Lab(traefik=True), `davylab up --traefik`")
        return address

    def spawn(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        kubeconfig: Path | None = None,
        **popen: Any,
    ) -> subprocess.Popen[Any]:
        """Starts a command inside the namespace; it is ended with the lab. Its pid is the command's own.

        ``env`` is added to ours. KUBECONFIG is the inside admin's unless ``kubeconfig`` names another.
        """
        inside = namespace.enter_command(self.info.pid, user_namespace=self.info.user_namespace)
        child: subprocess.Popen[Any] = subprocess.Popen(
            [*inside, *map(str, command)],
            env={**os.environ, "KUBECONFIG": str(kubeconfig or self.inside_kubeconfig), **(env or {})},
            **popen,
        )
        self.children.append(child)
        return child

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:
        """stdout of kubectl as admin. With ``check`` a failure is a LabError that has its stderr."""
        done = subprocess.run(
            [str(program("kubectl")), "--kubeconfig", str(self.kubeconfig), *args],
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise LabError(f"`kubectl {' '.join(args)}` failed: {done.stderr.strip()}")
        return done.stdout

    def wait(self, predicate: Callable[[], T], timeout: float = 30.0, what: str = "", *, every: float = POLL) -> T:
        """Calls ``predicate`` (``every`` s) until true, and returns its answer; EmbeddedError after ``timeout`` s.

        A LabError of the predicate itself (kubectl: not found yet) counts as "not yet".
        """
        return wait(predicate, timeout, what, every=every)

    def pids(self) -> dict[str, int]:
        """The pids of the components now: one that was killed is started again with another."""
        return read_info(self.state).pids

    def stop(self) -> None:
        """Ends what was spawned, then the lab; returns when its last process is gone."""
        self._end_children()
        if self.supervisor is not None:
            if self.supervisor.poll() is None:
                self.supervisor.send_signal(signal.SIGTERM)
            try:
                self.supervisor.wait(10)
            except subprocess.TimeoutExpired:
                self.supervisor.kill()  # the kernel then kills the components
                self.supervisor.wait()
            if self.supervisor.stdin:
                self.supervisor.stdin.close()
        elif hasattr(self, "info"):
            down(self.state)
        if self.temporary:
            shutil.rmtree(self.state, ignore_errors=True)

    def _end_children(self) -> None:
        running = [child for child in self.children if child.poll() is None]
        for child in running:
            child.terminate()
        for child in running:
            try:
                child.wait(3)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def start(flags: Sequence[str], state: Path, *, end_with_us: bool) -> subprocess.Popen[bytes]:
    """The supervisor as a child, with logs/supervisor.log. ``end_with_us``: it ends with this process."""
    logs = Paths(state).logs
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "supervisor.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "davylab", "up", *flags, *(["--end-with-stdin"] if end_with_us else [])],
            stdin=subprocess.PIPE if end_with_us else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_until_ready(supervisor: subprocess.Popen[bytes], state: Path) -> Info:
    """Raises LabError with the end of the supervisor's log if it ends instead."""
    log = Paths(state).logs / "supervisor.log"
    deadline = time.monotonic() + BUILD_AND_START_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(LabError):
            info = read_info(state)
            if info.pid == supervisor.pid:
                return info
        if (code := supervisor.poll()) is not None:
            raise LabError(f"the lab did not start (exit code {code}):\n{cluster.tail(log)}")
        time.sleep(POLL)
    raise LabError(f"the lab is not ready after {BUILD_AND_START_TIMEOUT:g} s:\n{cluster.tail(log)}")


def read_info(state: Path) -> Info:
    """cluster.json of a running lab. Raises LabError if there is none, or it is a dead one's."""
    path = Paths(state).info
    try:
        info = msgspec.json.decode(path.read_bytes(), type=Info)
    except FileNotFoundError:
        raise LabError(f"no lab is running with the state folder {state}: `davylab up --state {state}`") from None
    if _ended(info.pid):
        raise LabError(f"the lab of {path} (pid {info.pid}) is dead: `davylab up --state {state}`")
    return info


def down(state: Path) -> None:
    """Stops the lab of a state folder and waits for its end."""
    info = read_info(state)
    os.kill(info.pid, signal.SIGTERM)
    wait(lambda: _ended(info.pid), 10, f"the end of the lab's supervisor, pid {info.pid}")


def _ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"  # its parent has yet to look


def _flags(
    state: Path,
    traefik: bool,
    gateway: bool,
    throttle: float | None,
    nodes: int,
    audit: bool,
    restart_cap: float,
    users: Sequence[User],
) -> list[str]:
    flags = ["--state", str(state), "--nodes", str(nodes), "--restart-cap", str(restart_cap)]
    flags += ["--traefik"] * traefik + ["--gateway"] * gateway + ["--audit"] * audit
    flags += ["--throttle", str(throttle)] if throttle is not None else []
    for user in users:
        flags += ["--user", f"{user.short}={user.name}/{','.join(user.groups)}"]
    return flags
