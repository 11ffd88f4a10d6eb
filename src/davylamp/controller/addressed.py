"""The pods whose requests are counted, by way of the Services that offer them: nothing more is watched for it."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from davylamp.api.analysis import Scraping
from davylamp.api.types import Release
from davylamp.controller.canaries import CanaryPods
from davylamp.controller.known import Known
from davylamp.controller.measured import container_of, served
from davylamp.core.world import promised
from davylamp.signals.addresses import Network
from davylamp.signals.conventions import Names
from davylamp.signals.fetch import client
from davylamp.signals.policy import names_of
from davylamp.signals.requests import Pods, Requests

CONNECTIONS = 100
"""To pods, for counting requests, of all releases together."""


class Addressed:
    """Where the pods of releases can be asked. A version that no Service offers any more is asked where it was."""

    def __init__(self, known: Known, pods: CanaryPods) -> None:
        self._known = known
        self._pods = pods
        self._before: dict[str, Pods] = {}

    def of(self, release: Release) -> Pods | None:
        """None where the release has no Service, or the canary's pods aren't known yet."""
        namespace, spec = release.metadata.namespace, release.spec
        canary = self._pods.of((namespace, spec.canary.hash)) if spec.service and spec.canary.hash else None
        if canary is None:
            return None
        addresses: dict[str, str] = {}
        for service in promised(spec).touched:
            for endpoint_slice in self._known.endpoint_slices.by("service", (namespace, service)):
                for pod, address in endpoint_slice.ready_addresses:
                    addresses.setdefault(pod, address)
        of_service = self._known.services.get(namespace, spec.service)
        versions = (spec.stable.replica_set, spec.canary.replica_set)
        old, new = (container_of(self._known.replica_sets.get(namespace, name), of_service) for name in versions)
        scraping = spec.analysis.sources.pods if spec.analysis is not None else Scraping()
        found = served(addresses, {pod.metadata.name for pod in canary}, (old, new), scraping)
        before = self._before.get(release.metadata.uid, found)
        found = Pods(found.stable or before.stable, found.canary or before.canary, found.probes)
        self._before[release.metadata.uid] = found
        return found

    def forget(self, uid: str) -> None:
        """The release is over."""
        self._before.pop(uid, None)


class Counting:
    """Opens counters on the pods themselves. `allowed` are the networks to which that may lead against the rule."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = allowed
        self._session: aiohttp.ClientSession | None = None

    def open(self, release: Release) -> Requests:
        """Of one release; by the names that its policy gives, where it does."""
        if self._session is None:
            self._session = client(self._allowed, limit=CONNECTIONS)
        checks = release.spec.analysis.checks if release.spec.analysis is not None else ()
        given = next((names_of(check) for check in checks if check.errors is not None), Names())
        return Requests(self._session, given)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
        self._session = None
