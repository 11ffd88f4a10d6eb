"""Who changed an object: asked of the API server only where somebody did what we undo."""

from __future__ import annotations

import logging
from typing import Any

from davylamp.core.actions import Ref
from davylamp.core.names import MANAGER
from davylamp.kube.errors import ApiError
from davylamp.kube.protocol import Api

log = logging.getLogger(__name__)


async def ask(api: Api, ref: Ref) -> str:
    """The field manager that wrote the object last; "" where that can't be had."""
    try:
        found = await api.get(ref)
    except ApiError as error:
        log.info("who changed %s is not known: %s", ref, error, extra={"namespace": ref.namespace})
        return ""
    return last(found) if found is not None else ""


def last(found: dict[str, Any]) -> str:
    """The field manager that wrote an object last, its status aside. Times are whole seconds: of one second, another
    one goes before us, since we undo only what came after our own write."""
    entries: list[dict[str, Any]] = found["metadata"].get("managedFields") or []
    written = [
        (str(one.get("time", "")), one.get("manager") != MANAGER, str(one.get("manager", "")))
        for one in entries
        if not one.get("subresource")
    ]
    return max(written)[2] if written else ""
