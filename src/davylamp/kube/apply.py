"""Carries out the actions of a plan, in order, and stops at the first failure.

Events are told aside, when nothing else is being written, so that telling never makes a release wait: not for the
API server, and not for 200 other releases that begin in the same second.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from davylamp.core.actions import Action, Announce, Create, Delete, Patch, Ref
from davylamp.kube.clock import Clock, sleep
from davylamp.kube.errors import ApiError
from davylamp.kube.kinds import kind_of
from davylamp.kube.protocol import Api
from davylamp.kube.store import Store

log = logging.getLogger(__name__)

NOTE_LIMIT = 1024
"""Bytes in an Event's note; the API server refuses longer ones (events.k8s.io/v1)."""
REPORTER = "davylamp.dev/controller"
UNTOLD_LIMIT = 5000
"""Events that may wait to be told; then the oldest are dropped."""
AFTER, AT_LAST = 0.05, 5.0
"""Seconds without other writes after which Events are written, and seconds after which they are in any case."""
REMEMBERED = 20_000
"""Names of Events told, so that none is sent twice. (After a restart the API server's 409 says so.)"""


class Foreign(Exception):
    """An object that we want to create exists and is somebody else's."""

    def __init__(self, ref: Ref, message: str) -> None:
        super().__init__(message)
        self.ref = ref


class Writer:
    """Writes to the API server, and tells the stores (by kind) at once, so that the next plan reads our own writes.

    `details`: Events that are only details are told too. `on_write` is told the kind of each write that the API
    server carried out, `on_untold` of each Event that could not be written.
    """

    def __init__(
        self,
        api: Api,
        stores: Mapping[str, Store[Any]],
        clock: Clock,
        *,
        instance: str = "davylamp",
        details: bool = False,
        on_write: Callable[[str], object] = lambda kind: None,
        on_untold: Callable[[], object] = lambda: None,
    ) -> None:
        self._api = api
        self._stores = stores
        self._clock = clock
        self._instance = instance
        self._details = details
        self._on_write = on_write
        self._on_untold = on_untold
        self._untold: deque[Announce] = deque()
        self._told: dict[tuple[str, str], None] = {}
        self._news = asyncio.Event()
        self._writing = 0
        self._wrote_at = 0.0

    async def carry_out(self, actions: Iterable[Action]) -> None:
        """Do all of `actions` in order.

        Raises ApiError at the first that fails (`conflict` where an object is no longer as it was believed to be),
        and Foreign where an object can't be created because somebody else's has its name. Events are left to
        `tell`; one that can't be written stops nothing: it is logged and counted.
        """
        self._writing += 1
        try:
            await self._in_order(actions)
        finally:
            self._writing -= 1
            self._wrote_at = self._clock.time()

    async def _in_order(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Create():
                    await self._create(action)
                case Patch():
                    self._took(action.ref, await self._api.patch(action))
                case Delete():
                    await self._delete(action)
                case Announce():
                    self._announce(action)

    async def tell(self) -> None:
        """Write the Events whenever there is time for them, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            due = self._clock.time() + AT_LAST
            while self._busy and self._clock.time() < due:
                await sleep(self._clock, AFTER)
            await self.drain()

    @property
    def _busy(self) -> bool:
        return self._writing > 0 or self._clock.time() < self._wrote_at + AFTER

    async def drain(self) -> None:
        """Write the Events that wait now, without a pause."""
        while self._untold:
            await self._tell(self._untold.popleft())

    def _took(self, ref: Ref, obj: Any) -> None:
        store = self._stores.get(ref.kind)
        if store is not None and obj.metadata.deletion_timestamp is not None and not obj.metadata.finalizers:
            # The answer to a patch that took the last finalizer away: with it the object went.
            store.forget(ref.namespace, ref.name, obj.metadata.uid)
        elif store is not None:
            store.offer(obj)
        self._on_write(ref.kind)

    async def _create(self, action: Create) -> None:
        ref = action.ref
        try:
            obj = await self._api.create(action.manifest)
        except ApiError as error:
            if not error.already_exists:
                raise
            obj = await self._api.read(ref)
            if obj is None:
                raise  # It went in between; whoever looks again will create it.
            _must_be_ours(ref, obj, action.manifest["metadata"])
        self._took(ref, obj)

    async def _delete(self, action: Delete) -> None:
        ref = action.ref
        try:
            left = await self._api.delete(ref, action.uid, "Foreground" if action.foreground else "Background")
        except ApiError as error:
            if not error.not_found:
                raise
            left = None
        if left is not None:
            self._took(ref, left)
            return
        if ref.kind in self._stores:
            self._stores[ref.kind].forget(ref.namespace, ref.name, action.uid)
        self._on_write(ref.kind)

    def _announce(self, action: Announce) -> None:
        key = (action.about.namespace, action.name)
        if key in self._told or (action.detail and not self._details):
            return
        self._told[key] = None
        if len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]
        self._untold.append(action)
        if len(self._untold) > UNTOLD_LIMIT:
            self._untold.popleft()
            self._on_untold()
        self._news.set()

    async def _tell(self, action: Announce) -> None:
        try:
            await self._api.create(event(action, self._clock.now(), self._instance))
        except ApiError as error:
            if not (error.already_exists or error.terminating):
                log.warning("an Event about %s was not written: %s", action.about, error)
                self._on_untold()
            return
        self._on_write("Event")


def _must_be_ours(ref: Ref, found: Any, wanted: dict[str, Any]) -> None:
    """Ours has the controller that it was to have, and where it was to have none, the labels that it was to have."""
    owner = next((o for o in wanted.get("ownerReferences", ()) if o.get("controller")), None)
    if owner is not None:
        actual = found.metadata.controller
        if actual is not None and actual.uid == owner["uid"]:
            return
        whose = f"belongs to {actual.kind} {actual.name}" if actual else "belongs to nobody"
        raise Foreign(
            ref, f"{ref} exists already and {whose}, not to {owner['kind']} {owner['name']}; delete or rename it"
        )
    labels = wanted.get("labels") or {}
    missing = [f"{key}={value}" for key, value in labels.items() if found.metadata.labels.get(key) != value]
    if missing:
        raise Foreign(ref, f"{ref} exists already and is not ours (no label {', '.join(missing)}); delete or rename it")


def event(action: Announce, now: datetime, instance: str) -> dict[str, Any]:
    """The manifest of the events.k8s.io/v1 Event that tells `action`."""
    manifest: dict[str, Any] = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": action.name, "namespace": action.about.namespace or "default"},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": REPORTER,
        "reportingInstance": instance,
        "action": action.reason,
        "reason": action.reason,
        "note": _cut(action.message),
        "type": "Warning" if action.warning else "Normal",
        "regarding": _reference(action.about, action.about_uid),
    }
    if action.related is not None:
        manifest["related"] = _reference(action.related, "")
    return manifest


def _reference(ref: Ref, uid: str) -> dict[str, str]:
    fields = {"apiVersion": kind_of(ref.kind).api_version, "kind": ref.kind, "name": ref.name}
    if ref.namespace:
        fields["namespace"] = ref.namespace
    return fields | ({"uid": uid} if uid else {})


def _cut(message: str) -> str:
    """`message` in at most NOTE_LIMIT bytes of UTF-8."""
    raw = message.encode()
    return message if len(raw) <= NOTE_LIMIT else raw[: NOTE_LIMIT - 3].decode(errors="ignore") + "…"
