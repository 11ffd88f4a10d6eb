"""The row of a Pod in a table (pkg/printers/internalversion/printers.go, printPod)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from davylamp.embedded.texts import NONE, since

Object = dict[str, Any]


def pod_cells(obj: Object, now: datetime) -> list[Any]:
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    waiting = _initializing(status, len(spec.get("initContainers") or ()))
    statuses = status.get("initContainerStatuses") if waiting else status.get("containerStatuses")
    restarts = sum(entry.get("restartCount", 0) for entry in statuses or ())
    ready = sum(
        1
        for entry in status.get("containerStatuses") or ()
        if entry.get("ready") and (entry.get("state") or {}).get("running") is not None
    )
    reason = waiting or _reason(status)
    if meta.get("deletionTimestamp") and status.get("phase") not in ("Succeeded", "Failed"):
        reason = "Terminating"
    text = str(restarts)
    if last := _last_end(statuses or ()):
        text = f"{restarts} ({since(last, now)} ago)" if restarts else text
    gates = spec.get("readinessGates") or ()
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    passed = sum(1 for gate in gates if conditions.get(gate["conditionType"]) == "True")
    return [
        meta["name"],
        f"{ready}/{len(spec.get('containers') or ())}",
        reason,
        text,
        since(meta.get("creationTimestamp"), now),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        f"{passed}/{len(gates)}" if gates else NONE,
    ]


def _initializing(status: Object, count: int) -> str:
    """What an init container that isn't done is up to, or "" where all are."""
    for index, entry in enumerate(status.get("initContainerStatuses") or ()):
        state = entry.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if ended is not None:
            return f"Init:{ended.get('reason') or 'ExitCode:' + str(ended.get('exitCode'))}"
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{count}"
    return ""


def _reason(status: Object) -> str:
    reason = status.get("reason") or status.get("phase", "")
    running, failed = False, ""
    for entry in reversed(status.get("containerStatuses") or ()):
        state = entry.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if waiting and waiting.get("reason"):
            reason = waiting["reason"]
        elif ended is not None:
            signal = f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"
            reason = ended.get("reason") or signal
            failed = reason if ended.get("exitCode") else failed
        elif entry.get("ready") and state.get("running") is not None:
            running = True
    if reason != "Completed":
        return str(reason)
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
    if running and ready:
        return "Running"
    return failed or ("NotReady" if running else "Completed")


def _last_end(statuses: Any) -> str:
    """When a container last ended, as RFC 3339; "" where none has."""
    ends = [((entry.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or "" for entry in statuses]
    return max(ends, default="")
