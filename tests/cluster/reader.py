"""Reading objects without a kubectl for each look: a test that waits looks twenty times a second."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml
from davylab.errors import LabError

from davylamp.kube.kinds import KINDS, Kind

Json = dict[str, Any]


class Reader:
    """The objects of a lab, as its admin. For several threads: each has a connection of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        content = yaml.safe_load(kubeconfig.read_text())
        cluster = content["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.server, self.context = urlsplit(cluster["server"]), ssl.create_default_context(cadata=authority)
        self.headers = {"Authorization": f"Bearer {content['users'][0]['user']['token']}"}
        self.local = threading.local()

    def get(self, kind: Kind, namespace: str, name: str) -> Json:
        """Raises LabError where it isn't there, or the API server doesn't answer."""
        return self._read(kind.path(namespace, name))

    def list(self, kind: Kind, namespace: str, labels: str = "") -> list[Json]:
        found = self._read(kind.path(namespace) + (f"?labelSelector={quote(labels)}" if labels else ""))
        return [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in found["items"]]

    def _read(self, path: str) -> Json:
        kept = getattr(self.local, "connection", None) is not None
        try:
            return self._answered(path)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.local.connection = None
            if not kept:
                raise LabError(f"GET {path} failed: the API server hung up") from None
            return self._read(path)  # it closes connections that nobody has used for a while
        except (OSError, http.client.HTTPException) as error:
            self.local.connection = None
            raise LabError(f"GET {path} failed: {error}") from error

    def _answered(self, path: str) -> Json:
        connection: http.client.HTTPSConnection | None = getattr(self.local, "connection", None)
        if connection is None:
            host, port = self.server.hostname or "", self.server.port
            connection = http.client.HTTPSConnection(host, port, context=self.context, timeout=10)
            self.local.connection = connection
        connection.request("GET", path, headers=self.headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise LabError(f"GET {path}: {answer.status}: {text.decode()[:500]}")
        found: Json = json.loads(text)
        return found


def known(name: str) -> Kind | None:
    """The kind that kubectl would understand by this name; None for one that isn't in our table."""
    wanted = name.lower()
    return next((kind for kind in KINDS.values() if wanted in (kind.name.lower(), kind.plural, kind.resource)), None)
