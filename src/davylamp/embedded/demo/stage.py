"""Where the demo is played: any cluster that offers this much. `davylab.Lab` does, and the embedded cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Stage(Protocol):
    """A cluster with Traefik in front of it, whose pods are processes."""

    @property
    def kubeconfig(self) -> Path:
        """For us and for the person who watches, as admin."""

    @property
    def controller_kubeconfig(self) -> Path:
        """For the controller, which is started with `spawn`."""

    @property
    def traefik_url(self) -> str:
        """The entry point of the Ingress controller, for us."""

    @property
    def inside_traefik_url(self) -> str:
        """The same for processes that are started with `spawn`."""

    @property
    def state(self) -> Path:
        """A folder for logs."""

    def spawn(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        kubeconfig: Path | None = None,
        **popen: Any,
    ) -> subprocess.Popen[Any]:
        """A process that can reach the pods; it ends with the stage."""
