"""Programs that come as Python wheels, with the extra `embedded`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from davylamp.embedded.errors import EmbeddedError

PROGRAMS = ("traefik", "kubectl")


def program(name: str) -> Path:
    """One of these: beside our Python, or else on the PATH. Raises EmbeddedError where there is none."""
    beside = Path(sys.prefix) / "bin"
    found = shutil.which(name, path=str(beside)) or shutil.which(name)
    if found is None:
        raise EmbeddedError(f"no `{name}` in {beside} nor on the PATH: pip install 'davylamp[embedded]'")
    return Path(found)
