"""The lab's own session with its API server."""

from __future__ import annotations

import ssl
from pathlib import Path

from davylamp.embedded.kubelet.api import Api

from davylab.identity import server_and_token


def connect(kubeconfig: Path, certificate: Path) -> Api:
    """A session as the user of ``kubeconfig``."""
    server, token = server_and_token(kubeconfig)
    return Api(server, token, ssl.create_default_context(cafile=str(certificate)))
