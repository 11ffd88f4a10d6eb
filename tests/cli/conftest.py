"""`davy` in this process, against an API server in memory that is filled from the model of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from functools import partial

import msgspec
import pytest

from davylamp.cli import main as program
from davylamp.cli.screen import Screen
from davylamp.core.actions import Ref
from davylamp.kube.clock import SystemClock
from davylamp.kube.kinds import kind_of
from tests.core.model import NAMESPACE, Cluster, Json
from tests.kube.fake import FakeApi, idle


class Result(msgspec.Struct, frozen=True):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Server(FakeApi):
    """Mirrors a cluster of the model, both ways: what `davy` writes reaches the cluster too."""

    namespace = NAMESPACE

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster = cluster
        self.user = "ann"
        self.driving: asyncio.Task[None] | None = None
        self.drives = False
        """The controller works from the first watch on."""
        self.mirror()
        self.before = self._on_request

    def mirror(self) -> None:
        """Tell watches what has changed in the cluster."""
        there = {_ref(obj): _manifest(obj) for obj in self.cluster.objects.values()}
        for ref in self.objects.keys() - there.keys():
            self._store("DELETED", ref, self.objects.pop(ref), None)
        for ref, obj in there.items():
            old = self.objects.get(ref)
            if old is None or _content(old) != _content(obj):
                self._store("MODIFIED" if old is not None else "ADDED", ref, obj, old)

    def asked(self) -> Json:
        """The spec of the newest Release, with what people asked for."""
        spec: Json = self.of_kind("Release")[-1]["spec"]
        return spec

    def _on_request(self, verb: str, ref: Ref) -> None:
        if verb == "watch" and self.drives and self.driving is None:
            self.driving = asyncio.get_running_loop().create_task(self._drive())

    async def _drive(self) -> None:
        """The controller and the time, as `Cluster.run` has them, with all watches heard in between."""
        for _ in range(400):
            await idle_or_so()
            self._take_over_commands()
            decided = self.cluster.look()
            self.mirror()
            if decided.actions or decided.log_wanted:
                continue
            if decided.wake_at is None:
                return
            self.cluster.now = max(decided.wake_at, self.cluster.now)

    def _take_over_commands(self) -> None:
        for obj in self.of_kind("Release"):
            mine = self.cluster.objects.get(("Release", obj["metadata"]["name"]))
            if mine is not None and mine["spec"] != obj["spec"]:
                spec = copy.deepcopy(obj["spec"])
                self.cluster.edit("Release", obj["metadata"]["name"], partial(_replace_spec, spec=spec))


def _replace_spec(obj: Json, spec: Json) -> None:
    obj["spec"] = spec


async def idle_or_so() -> None:
    with contextlib.suppress(AssertionError):
        await idle()


def _ref(obj: Json) -> Ref:
    return Ref(obj["kind"], NAMESPACE if kind_of(obj["kind"]).namespaced else "", obj["metadata"]["name"])


def _manifest(obj: Json) -> Json:
    found: Json = {"apiVersion": kind_of(obj["kind"]).api_version} | copy.deepcopy(obj)
    if not kind_of(obj["kind"]).namespaced:
        del found["metadata"]["namespace"]
    return found


def _content(obj: Json) -> Json:
    return obj | {"metadata": {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}}


class Clock(SystemClock):
    """The time of day is the cluster's."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def now(self) -> datetime:
        return self.cluster.now


Davy = Callable[..., Result]
Serve = Callable[[Cluster], Server]


@pytest.fixture
def davy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Davy]:
    """Runs a command in this process."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()

    def run(*args: str) -> Result:
        capsys.readouterr()
        code = program.main(list(args))
        out, err = capsys.readouterr()
        return Result(code, out, err)

    yield run
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Makes `davy` see this cluster."""
    monkeypatch.setattr("davylamp.cli.session._user", lambda: "ann")
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")

    def served(cluster: Cluster) -> Server:
        server = Server(cluster)

        @contextlib.asynccontextmanager
        async def connect(kubeconfig: str | None, context: str | None) -> AsyncIterator[Server]:
            yield server

        monkeypatch.setattr("davylamp.cli.session.connect", connect)
        monkeypatch.setattr("davylamp.cli.picture.SystemClock", lambda: Clock(cluster))
        monkeypatch.setattr("davylamp.cli.history.SystemClock", lambda: Clock(cluster))
        return server

    return served


class Terminal(io.StringIO):
    """A stream that says it is one."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("davylamp.cli.session.screen", lambda: Screen(stream, terminal=True, utf8=True, width=100))
    return stream
