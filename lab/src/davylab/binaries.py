"""Where etcd, the Kubernetes control plane and istiod come from: a folder of yours, the cache, or a build.

The first of these that there is:

1. ``DAVYLAB_ASSETS``: a folder with all four binaries, of whatever version. One missing is an error.
2. ``KUBEBUILDER_ASSETS``: the same, but passed over if one is missing (envtest's folders lack two of them).
3. the cache, ``${XDG_CACHE_HOME:-~/.cache}/davylab/<versions and platform>/``.
4. a build from Go modules into the cache: about 18 CPU-minutes, once.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from davylab.errors import LabError

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


class Binaries(NamedTuple):
    """Paths of the four programs, in the order of ``NAMES``."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    scheduler: Path


def versions() -> dict[str, Any]:
    """The contents of versions.toml."""
    return tomllib.loads((Path(__file__).parent / "versions.toml").read_text())


def cache_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "davylab"


def version_key() -> str:
    """The cache folder's name, e.g. ``kubernetes-v1.37.2-etcd-v3.7.3-linux-x86_64``."""
    pins = versions()
    machine = f"{platform.system().lower()}-{platform.machine()}"
    return f"kubernetes-{pins['kubernetes']['version']}-etcd-{pins['etcd']['version']}-{machine}"


def find_or_build() -> Binaries:
    """The four binaries, built first if there are none.

    Raises LabError if ``DAVYLAB_ASSETS`` is incomplete, Go is missing, or the build fails.
    """
    if assets := os.environ.get("DAVYLAB_ASSETS"):
        if missing := _missing(Path(assets)):
            raise LabError(
                f"DAVYLAB_ASSETS={assets} lacks {', '.join(missing)}: put {', '.join(NAMES)} there, or unset it"
            )
        return _in(Path(assets))
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        missing = _missing(Path(assets))
        if not missing:
            return _in(Path(assets))
        _say(f"KUBEBUILDER_ASSETS={assets} lacks {', '.join(missing)}: not used")
    folder = cache_root() / version_key()
    if _missing(folder):
        build(folder)
    return _in(folder)


ISTIOD = "pilot-discovery"


def find_or_build_istiod() -> Path:
    """istiod: from ``DAVYLAB_ASSETS`` if it is there, from the cache, or built (3 to 6 CPU-minutes, once)."""
    assets = os.environ.get("DAVYLAB_ASSETS")
    if assets and not _missing(Path(assets), (ISTIOD,)):
        return Path(assets) / ISTIOD
    machine = f"{platform.system().lower()}-{platform.machine()}"
    folder = cache_root() / f"istio-{versions()['istio']['version']}-{machine}"
    if _missing(folder, (ISTIOD,)):
        build(folder, (ISTIOD,), minutes=6)
    return folder / ISTIOD


def build(folder: Path, names: tuple[str, ...] = NAMES, minutes: int = 18) -> None:
    """Builds what ``folder`` lacks of ``names``. A second process that wants the same waits, then finds it done."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        missing = _missing(folder, names)
        if not missing:
            return
        go = shutil.which("go")
        if go is None:
            raise LabError(_NO_GO.format(missing=", ".join(missing), folder=folder))
        _say(f"building {', '.join(missing)} from source into {folder}: about {minutes} CPU-minutes, once")
        with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as scratch:
            for name in missing:
                # Into the scratch folder and then a rename: a binary in the cache is always a whole one.
                _build_one(go, name, Path(scratch)).replace(folder / name)


_NO_GO = """the control plane has to be built once, and there is no `go` on the PATH (missing: {missing}).
Any one of these helps:
  - install Go 1.24 or later (it fetches the toolchain that it needs by itself), then `davylab build`
  - set DAVYLAB_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager and kube-scheduler,
    e.g. from the Kubernetes release's server tarball and etcd's release
  - copy the folder {folder} from a machine that has it"""


def module_folder(section: str) -> Path:
    """The unpacked source of a module in versions.toml, in Go's module cache; downloads it if need be."""
    pin = versions()[section]
    if not (go := shutil.which("go")):
        raise LabError(f"{pin['module']} {pin['version']} is a Go module, and there is no `go` on the PATH")
    return Path(_download(go, pin)["Dir"])


def _build_one(go: str, name: str, scratch: Path) -> Path:
    pins = versions()
    if name == "etcd":
        pin = pins["etcd"]
        package, flags = pin["module"], ["-s", "-w"]
    elif name == ISTIOD:
        pin = pins["istio"]
        package, flags = f"{pin['module']}/pilot/cmd/{name}", ["-s", "-w"]
    else:
        pin = pins["kubernetes"]
        package, flags = f"{pin['module']}/cmd/{name}", ["-s", "-w", *_version_flags(pin["version"])]
    module = scratch / pin["module"].replace("/", "_")
    module.mkdir(exist_ok=True)
    (module / "go.mod").write_text(go_mod(pin, Path(_download(go, pin)["GoMod"]).read_text()))
    output = scratch / name
    command = [go, "build", "-mod=mod", "-trimpath", "-ldflags", " ".join(flags), "-o", str(output), package]
    started = time.monotonic()
    log = scratch / f"{name}.log"
    with log.open("wb") as sink, _progress(name, pin["version"]) as tick:
        process = subprocess.Popen(
            command, cwd=module, env={**os.environ, "CGO_ENABLED": "0"}, stdout=sink, stderr=sink
        )
        try:
            while (code := _wait(process, 0.2)) is None:
                tick(time.monotonic() - started)
        except BaseException:
            process.kill()
            raise
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"building {name} {pin['version']} failed ({' '.join(command)}):\n{tail}")
    seconds, size = time.monotonic() - started, output.stat().st_size >> 20
    _say(f"{name} {pin['version']}: built in {seconds:.0f} s, {size} MB")
    return output


def go_mod(pin: dict[str, Any], upstream: str) -> str:
    """A go.mod that requires the pinned module alone.

    ``upstream`` is the module's own go.mod. Kubernetes replaces its staging modules (k8s.io/api, ...) by
    folders of its repository, and replacements count in the main module only: here each becomes its
    published version.
    """
    staging = re.findall(r"^\s*(k8s\.io/\S+) => \./staging/", upstream, re.MULTILINE)
    go_line = re.search(r"^go \S+$", upstream, re.MULTILINE)
    lines = ["module davylab", "", go_line[0] if go_line else "go 1.24", ""]
    if godebug := re.search(r"^godebug \S+$", upstream, re.MULTILINE):
        lines += [godebug[0], ""]
    lines += [f"require {pin['module']} {pin['version']}", ""]
    lines += [f"replace {name} => {name} {pin['staging']}" for name in staging]
    return "\n".join(lines) + "\n"


def _version_flags(version: str) -> list[str]:
    major, minor, _ = version.removeprefix("v").split(".", 2)
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return [f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items()]


def _download(go: str, pin: dict[str, Any]) -> dict[str, Any]:
    wanted = f"{pin['module']}@{pin['version']}"
    with tempfile.TemporaryDirectory() as elsewhere:  # not inside some other module of the caller's
        done = subprocess.run(
            [go, "mod", "download", "-json", wanted],
            capture_output=True,
            text=True,
            cwd=elsewhere,
            check=False,
        )
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode or "Error" in answer:
        raise LabError(f"`go mod download {wanted}` failed: {answer.get('Error') or done.stderr.strip()}")
    return answer


def _missing(folder: Path, names: tuple[str, ...] = NAMES) -> list[str]:
    return [name for name in names if not os.access(folder / name, os.X_OK)]


def _in(folder: Path) -> Binaries:
    return Binaries(*(folder / name for name in NAMES))


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another process is building: waiting for {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _progress(name: str, version: str) -> Iterator[Any]:
    """A line that counts seconds on a terminal; elsewhere one line at the start."""
    tty = sys.stderr.isatty()
    if not tty:
        _say(f"{name} {version}: building")

    def tick(elapsed: float) -> None:
        if tty:
            mark = "|/-\\"[int(elapsed * 5) % 4]
            print(
                f"\r\x1b[Kdavylab: {mark} {name} {version}: building, {elapsed:.0f} s",
                end="",
                file=sys.stderr,
            )

    try:
        yield tick
    finally:
        if tty:
            print("\r\x1b[K", end="", file=sys.stderr)


def _say(text: str) -> None:
    print(f"davylab: {text}", file=sys.stderr, flush=True)
