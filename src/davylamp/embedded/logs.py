"""The log of a container, from whatever runs the pods (`Store.logs`)."""

from __future__ import annotations

from davylamp.embedded import status
from davylamp.embedded.store import Store


def container_of(store: Store, namespace: str, pod: str, container: str) -> str:
    """The container that is meant: the only one where none is named. Raises StatusError 400 or 404."""
    found = store.get("Pod", namespace, pod)
    if found is None:
        raise status.not_found("", "pods", pod)
    spec = found["spec"]
    names = [entry["name"] for entry in spec.get("containers") or ()]
    others = [entry["name"] for entry in spec.get("initContainers") or ()]
    if not container:
        if len(names) != 1:
            listed = " ".join(names)
            message = f"a container name must be specified for pod {pod}, choose one of: [{listed}]"
            raise status.bad_request(message)
        return str(names[0])
    if container not in names + others:
        raise status.bad_request(f"container {container} is not valid for pod {pod}")
    return container


def lines_of(store: Store, namespace: str, pod: str, container: str, *, previous: bool) -> bytes:
    """The whole log of a container, each line with its time before it. Raises StatusError."""
    name = container_of(store, namespace, pod, container)
    if store.logs is None:
        raise status.not_implemented("logs, since nothing runs the pods")
    return store.logs.read(namespace, pod, name, previous=previous)


def cut(
    raw: bytes, *, tail: int | None = None, limit_bytes: int | None = None, since: str = "", timestamps: bool = False
) -> bytes:
    """The part of a log that is asked for: `since` is an RFC 3339 time, the lines' own times are kept if asked."""
    lines = raw.splitlines(keepends=True)
    if since:
        lines = [line for line in lines if line.partition(b" ")[0].decode() >= since]
    if tail is not None:
        lines = lines[-tail:] if tail else []
    if not timestamps:
        lines = [line.partition(b" ")[2] for line in lines]
    return b"".join(lines)[:limit_bytes]
