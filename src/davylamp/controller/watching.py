"""Keeps what is known up to date: a reflector for each kind, and how the API server lets templates be gated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from davylamp.api.types import ReleasePolicy
from davylamp.controller.known import CLUSTER_WIDE, IN_NAMESPACES, OPTIONAL, SPLITTING, Known
from davylamp.controller.metrics import Metrics
from davylamp.core.world import Gate
from davylamp.kube.clock import Clock, sleep
from davylamp.kube.errors import ApiError
from davylamp.kube.gate import API, RESOURCE
from davylamp.kube.protocol import Api
from davylamp.kube.reflector import Reflector
from davylamp.routers.registry import router_of

GATE_AGAIN = 10.0
"""Seconds after a watch failed until it is asked again how templates are gated: the server may be another version."""
_GATED: dict[Gate, str] = {
    "admission": "templates are gated by admission",
    "fallback": "none, so targeted Deployments are kept paused instead",
}

log = logging.getLogger(__name__)


class Watching:
    """The watches of one controller. `namespaces` restricts them; empty means all.

    `gate` is how templates are gated as far as is known; `find_gate`: ask the API server, and tell `regated` where that
    is another than was thought.
    """

    def __init__(
        self,
        api: Api,
        clock: Clock,
        known: Known,
        metrics: Metrics,
        namespaces: Sequence[str],
        gate: Gate,
        regated: Callable[[Gate], object],
        *,
        find_gate: bool,
    ) -> None:
        self._api = api
        self._clock = clock
        self._known = known
        self._metrics = metrics
        self._gate = gate
        self._find_gate = find_gate
        self._regated = regated
        self._checking: asyncio.Task[None] | None = None
        self.synced = asyncio.Event()
        """Set when everything is known for the first time."""
        self._reflectors = [
            Reflector(
                api,
                known.stores[kind],
                clock,
                namespace=namespace,
                optional=kind in OPTIONAL,
                on_restart=self.restarted,
            )
            for kind, namespace in _watches(namespaces)
        ]
        known.policies.listeners.append(self._wanted)

    @property
    def unsynced(self) -> list[str]:
        """The kinds that aren't known yet."""
        return [reflector.store.kind for reflector in self._reflectors if not reflector.synced.is_set()]

    async def run(self) -> None:
        """Keep everything known, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())
            await self._check_gate()
            for reflector in self._reflectors:
                await reflector.synced.wait()
            self._all_known()

    def _all_known(self) -> None:
        if any(r.store is self._known.ingress_classes and r.forbidden for r in self._reflectors):
            self._known.without_ingress_classes()
        self._known.go_live()
        shown = (store for store in self._known.stores.values() if len(store) or store.kind not in OPTIONAL)
        counts = ", ".join(f"{len(store)} {store.kind}" for store in shown)
        log.info("in sync: %s", counts)
        self.synced.set()

    def restarted(self, kind: str, why: str) -> None:
        """A watch of this kind began anew. Where it failed, the server may be another one now."""
        self._metrics.restarts.labels(kind, why).inc()
        if why == "failed" and self.synced.is_set() and (self._checking is None or self._checking.done()):
            self._checking = asyncio.create_task(self._check_gate_later())

    async def _check_gate_later(self) -> None:
        await sleep(self._clock, GATE_AGAIN)
        await self._check_gate()

    async def _check_gate(self) -> None:
        """How templates are gated, asked of the API server until it answers."""
        while self._find_gate:
            try:
                self._set_gate("admission" if await self._api.exists_api(API, RESOURCE) else "fallback")
                return
            except ApiError as error:
                log.warning("how templates can be gated is not known yet: %s", error)
                await sleep(self._clock, GATE_AGAIN)

    def _set_gate(self, gate: Gate) -> None:
        if gate == self._gate:
            return
        self._gate = gate
        log.warning("%s in this API server: %s", RESOURCE, _GATED[gate])
        self._regated(gate)

    def _wanted(self, kind: str, old: ReleasePolicy | None, new: ReleasePolicy | None) -> None:
        """A policy that names a route of a kind that the server didn't know asks for another look: its CRD may have
        come since."""
        if new is None or (old is not None and old.metadata.generation == new.metadata.generation):
            return
        traffic = new.spec.traffic
        routers = [router_of(route) for route in traffic.routes] if traffic is not None else []
        kinds = {kind for router in routers if router is not None for kind in router.kinds}
        for reflector in self._reflectors:
            if reflector.absent and (reflector.store.kind in kinds or (traffic is not None and traffic.detect)):
                reflector.look_again()


def _watches(namespaces: Sequence[str]) -> list[tuple[str, str]]:
    wide = [(kind, "") for kind in CLUSTER_WIDE]
    return wide + [(kind, namespace) for namespace in namespaces or ("",) for kind in (*IN_NAMESPACES, *SPLITTING)]
