"""A network namespace of the calling process's own, with one device that is a whole pod network.

`ip route add local 10.244.0.0/16 dev lo` (AnyIP) makes every address of the range local: any process may bind
any of them, and reach all the others, without setting up a single interface. Nothing has to be cleaned up:
the namespace goes when its last process ends.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

from davylab.errors import LabError

POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"  # local too, so that a ClusterIP refuses at once rather than hangs
API_ADDRESS = "10.244.0.1"
TRAEFIK_ADDRESS = "10.244.0.2"
ISTIOD_ADDRESS = "10.244.0.3"
GATEWAY_ADDRESS = "10.244.0.4"
SIDECAR_ADDRESS = "10.244.0.5"

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


def enter() -> bool:
    """Moves the calling process, which must have one thread only, into a new network namespace.

    Without root it makes a user namespace too, in which the caller is root, and returns True. Sockets opened
    before stay where they were: that is how the relay listens outside and connects inside.
    """
    if shutil.which("ip") is None:
        raise LabError("the lab sets up its network with `ip`: install iproute2")
    uid, gid = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNET if uid == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        what = "network namespace" if uid == 0 else "user and network namespace"
        raise LabError(
            f"no {what}: {os.strerror(ctypes.get_errno())}. In a container it needs CAP_SYS_ADMIN; without "
            "root, the kernel must allow user namespaces (sysctl kernel.unprivileged_userns_clone, and on "
            "Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)"
        )
    if flags & _CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _ip("link", "set", "lo", "up")
    for network in (POD_NETWORK, SERVICE_NETWORK):
        _ip("route", "add", "local", network, "dev", "lo")
    return bool(flags & _CLONE_NEWUSER)


def enter_command(pid: int, *, user_namespace: bool) -> list[str]:
    """What to put before a command so that it runs in the network namespace of ``pid``."""
    if shutil.which("nsenter") is None:
        raise LabError("commands are run inside the lab with `nsenter`: install util-linux")
    user = ["--user", "--preserve-credentials"] if user_namespace else []
    return ["nsenter", "--target", str(pid), *user, "--net", "--"]


def _ip(*args: str) -> None:
    done = subprocess.run(["ip", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"`ip {' '.join(args)}` in the new namespace failed: {done.stderr.strip()}")
