"""The API server as an interface: what can be asked of it, and the answers.

`Api` is what the rest of the program sees; `davylamp.kube.client` has the real one, tests have one in memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, Protocol

import msgspec

from davylamp.core.actions import Patch, Ref

Propagation = Literal["Background", "Foreground", "Orphan"]


class WatchEvent(msgspec.Struct, frozen=True):
    """One line of a watch. `object` is slim, and None for a BOOKMARK, which only carries a resource version.

    `synced` marks the bookmark that ends the initial events: everything that existed has been sent.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Any
    resource_version: str
    synced: bool = False


class Page(msgspec.Struct, frozen=True):
    """A part of a list. `resource_version` is that of the whole list, from which a watch can go on."""

    items: Sequence[Any]
    resource_version: str


class Api(Protocol):
    """Requests to one API server.

    Every method raises `ApiError` where the API server refuses or can't be reached, and LookupError for a kind that
    is not in `davylamp.kube.kinds`. Objects that come back are slim (see `davylamp.api.objects`), but for `get` and
    `list_raw`, which give all of JSON. `namespace=""` in `list` and `watch` means all namespaces.
    """

    async def get(self, ref: Ref) -> dict[str, Any] | None:
        """The whole object, or None where there is none (404)."""

    async def read(self, ref: Ref) -> Any | None:
        """The slim object, or None where there is none (404)."""

    async def list(self, kind: str, namespace: str = "", labels: str = "") -> Sequence[Any]:
        """The slim objects that match the label selector `labels`, fetched in pages."""

    async def list_raw(self, kind: str, namespace: str = "", labels: str = "") -> Sequence[dict[str, Any]]:
        """The same as whole objects (each with its apiVersion and kind)."""

    def pages(self, kind: str, namespace: str = "", labels: str = "") -> AsyncGenerator[Page, None]:
        """The same page by page; all pages belong to one resource version."""

    async def create(self, manifest: dict[str, Any]) -> Any:
        """Create the object; 409 AlreadyExists is an ApiError with `already_exists`."""

    async def patch(self, patch: Patch) -> Any:
        """Carry out a merge or JSON patch."""

    async def apply(self, manifest: dict[str, Any], force: bool = True) -> Any:
        """Server-side apply as field manager `davylamp`."""

    async def delete(self, ref: Ref, uid: str = "", propagation: Propagation = "Background") -> Any | None:
        """Delete the object, if its uid is `uid` where that is given (else 409). Returns it as it is now where it
        lives on for its finalizers or a grace period, None where it is gone. 404 is an ApiError."""

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str = "",
        *,
        previous: bool = False,
        tail: int | None = 1,
        limit_bytes: int | None = 4096,
    ) -> str:
        """The end of a container's log: `tail` lines, at most `limit_bytes` bytes."""

    async def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> bytes:
        """What a pod answers to GET `path` at `port`, by way of the API server. Raises ApiError with its status."""

    def follow_logs(
        self,
        namespace: str,
        pod: str,
        container: str = "",
        *,
        tail: int | None = None,
        since_seconds: int | None = None,
        timestamps: bool = False,
    ) -> AsyncGenerator[str, None]:
        """Lines of a container's log as they come, without line ends, until the container ends."""

    def watch(
        self, kind: str, namespace: str = "", *, resource_version: str = "", labels: str = "", initial: bool = True
    ) -> AsyncGenerator[WatchEvent, None]:
        """One watch request. With `initial` it starts with an ADDED for everything there is and a bookmark `synced`
        (a streaming list, Kubernetes 1.32 and later; a server that can't raises ApiError `invalid`); without it
        with what came after `resource_version` (`gone` where that is too old). It ends when the server ends it."""

    async def exists_api(self, group_version: str, resource: str) -> bool:
        """Does the server offer `resource` (a plural) in `group_version` (`apps/v1`)?"""

    async def version(self) -> dict[str, str]:
        """The server's version: gitVersion, major, minor."""

    async def whoami(self) -> str:
        """The user name that the server knows us by."""
