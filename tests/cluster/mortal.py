"""`python mortal.py before|after ...`: `davy controller ...` that dies, as by SIGKILL, around its first write about a
release: before it is sent, or when the API server has carried it out. What it died of is its last line of output."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from davylamp.cli import main
from davylamp.core.actions import Delete, Patch, Ref
from davylamp.kube.client import Kube
from davylamp.kube.kinds import ref_of_manifest

SPARED = ("ReleasePolicy", "Lease", "Event")
"""Writes of these are not about a release's course: what a policy means, who leads, what was told."""
WRITES = ("create", "patch", "delete")


def _ref(what: Any) -> Ref:
    match what:
        case Patch() | Delete():
            return what.ref
        case Ref():
            return what
    return ref_of_manifest(what)


def _mortal(verb: str, moment: str) -> None:
    write = getattr(Kube, verb)

    async def last(self: Kube, what: Any, *args: Any) -> Any:
        ref = _ref(what)
        spared = ref.kind in SPARED
        answer = await write(self, what, *args) if spared or moment == "after" else None
        if spared:
            return answer
        print(f"died {moment}: {verb} {ref.kind} {getattr(what, 'subresource', '')}".rstrip(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(Kube, verb, last)


if __name__ == "__main__":
    for verb in WRITES:
        _mortal(verb, sys.argv[1])
    sys.exit(main.main(["controller", *sys.argv[2:]]))
