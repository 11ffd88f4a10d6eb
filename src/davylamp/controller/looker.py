"""The eyes on one release: its metrics, logs and feedback, opened with the Secrets that its policy names.

All releases share one HTTP session, whose connections lead only where policies may lead (`signals.addresses`), and the
queries to a Prometheus that they have in common.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, Protocol

import aiohttp

from davylamp.api import analysis as a
from davylamp.api.types import Release
from davylamp.controller.measured import facts_of, sides_of
from davylamp.core.actions import Ref
from davylamp.kube.errors import ApiError
from davylamp.kube.protocol import Api
from davylamp.signals.addresses import Network
from davylamp.signals.checks import NoJob
from davylamp.signals.feedback import Box, Said
from davylamp.signals.fetch import client
from davylamp.signals.gather import Gatherer, Look, Pods
from davylamp.signals.lines import Level
from davylamp.signals.logs import Logs, Templates, learn, sample
from davylamp.signals.policy import feedback_rules
from davylamp.signals.pool import Pools

HISTORY_BYTES = 1_000_000
"""Of a stable pod's log that are read at the beginning, to learn what is known."""
CONNECTIONS = 200
"""To pods, Prometheus and webhooks, of all releases together."""
_TEMPLATE = re.compile(r"template ([0-9a-f]{16})\b")


class Blocked(Exception):
    """A look can't be made, for a reason that a person can do something about."""


class Looker(Protocol):
    """Looks at one release."""

    @property
    def box(self) -> Box | None:
        """The votes of its users, where the policy asks for them."""

    async def look(self, release: Release, pods: Pods, now: float) -> Look:
        """What happened since the last look; `now` is in seconds since the epoch."""

    def explained(self, message: str) -> str:
        """A verdict's message with the lines of the logs that it is about."""

    async def close(self) -> None:
        """Nothing is followed any longer."""


class Lookers:
    """Opens lookers. `allowed` are the networks to which policies may lead against the rule."""

    def __init__(self, api: Api, allowed: Sequence[Network] = ()) -> None:
        self._api = api
        self._allowed = allowed
        self._session: aiohttp.ClientSession | None = None
        self._pools: Pools | None = None

    async def open(self, release: Release, pods: Pods, container: str, now: float) -> Looker:
        """From now on (seconds since the epoch) what happens counts. `container` is whose log is read by default.

        Raises Blocked where a Secret can't be read or holds something else.
        """
        analysis = release.spec.analysis
        assert analysis is not None
        if self._session is None or self._pools is None:
            self._session = client(self._allowed, limit=CONNECTIONS)
            self._pools = Pools(self._session)
        secrets = await self._secrets(release.metadata.namespace, analysis)
        logs = box = templates = None
        try:
            for check in analysis.checks:
                if check.feedback is not None:
                    rules = feedback_rules(check.feedback, secrets)
                    box = Box(rules, sides_of(release, pods), release.metadata.uid.encode())
                if check.logs is not None:
                    templates = Templates(Level[check.logs.level.upper()], check.logs.ignore)
                    logs = await self._logs(pods, check.logs, templates, check.logs.container or container)
            source = analysis.sources.prometheus
            pool = self._pools.of(source, secrets) if source is not None else None
            uid = release.metadata.uid
            gatherer = Gatherer(
                analysis, self._session, secrets, now, pool=pool, logs=logs, box=box, run=self._job, uid=uid
            )
        except ValueError as error:
            raise Blocked(str(error)) from error
        return _Looker(gatherer, box, logs, templates)

    async def close(self) -> None:
        """Close all connections."""
        if self._pools is not None:
            await self._pools.close()
        if self._session is not None:
            await self._session.close()
        self._session = self._pools = None

    async def _logs(self, pods: Pods, check: a.Logs, templates: Templates, container: str) -> Logs:
        async def read(pod: str, lines: int) -> str:
            return await self._api.logs(pods.namespace, pod, container, tail=lines, limit_bytes=HISTORY_BYTES)

        def follow(pod: str, since: int | None) -> AsyncGenerator[str, None]:
            return self._api.follow_logs(pods.namespace, pod, container, since_seconds=since)

        await learn(templates, read, sample((one.pod for one in pods.stable), len(pods.canary)))
        return Logs(follow, templates, max_bytes_per_second=check.max_bytes_per_second)

    async def _job(self, manifest: dict[str, Any]) -> Mapping[str, Any]:
        """The Job as it is, made if there is none: its name is the same each time."""
        meta = manifest["metadata"]
        check = meta["labels"]["davylamp.dev/check"]
        try:
            found = await self._api.get(Ref("Job", meta["namespace"], meta["name"]))
            if found is not None:
                return found
            await self._api.create(manifest)
        except ApiError as error:
            if not error.already_exists:
                raise NoJob(f"{check}: its Job can't be run: {error}") from error
        return manifest

    async def _secrets(self, namespace: str, analysis: a.Analysis) -> dict[a.Key, bytes]:
        """What the policy names; rights to read it are given by hand, to each Secret (docs/signals.md)."""
        keys = tuple(keys_of(analysis))
        contents = {name: await self._secret(namespace, name) for name in dict.fromkeys(key.secret for key in keys)}
        return {key: base64.b64decode(contents[key.secret][key.key]) for key in keys if key.key in contents[key.secret]}

    async def _secret(self, namespace: str, name: str) -> dict[str, str]:
        try:
            found = await self._api.get(Ref("Secret", namespace, name))
        except ApiError as error:
            if not error.forbidden:
                raise
            grant = f"kubectl create role davylamp-secrets -n {namespace} --verb=get --resource=secrets"
            why = f'Secret "{name}" may not be read by the controller; allow it: `{grant} --resource-name={name}`'
            raise Blocked(f"{why} and a rolebinding of it") from error
        if found is None:
            raise Blocked(f'there is no Secret "{name}" in namespace {namespace}')
        return found.get("data") or {}


def keys_of(analysis: a.Analysis) -> Iterator[a.Key]:
    """Every key of a Secret that an analysis names."""
    source = analysis.sources.prometheus
    if source is not None:
        yield from filter(None, (source.bearer_token, source.tls.ca))
        if source.basic_auth is not None:
            yield source.basic_auth.password
    for check in analysis.checks:
        yield from filter(None, (one.token for one in (check.webhook, check.feedback) if one is not None))


class _Looker:
    """Implements `Looker` on the real sources."""

    def __init__(self, gatherer: Gatherer, box: Box | None, logs: Logs | None, templates: Templates | None) -> None:
        self.box = box
        self._gatherer = gatherer
        self._logs = logs
        self._templates = templates

    async def look(self, release: Release, pods: Pods, now: float) -> Look:
        if self.box is not None:
            self.box.sides = sides_of(release, pods)
            _pass_on(release, self.box)
        if self._logs is not None:
            canary = [one.pod for one in pods.canary]
            self._logs.watch(sample((one.pod for one in pods.stable), len(canary)), canary)
        return await self._gatherer.look(now, pods, facts_of(release))

    def explained(self, message: str) -> str:
        if self._templates is None:
            return message
        return _TEMPLATE.sub(functools.partial(_quoted, self._templates), message)

    async def close(self) -> None:
        if self._logs is not None:
            await self._logs.close()


def _pass_on(release: Release, box: Box) -> None:
    """Votes that people passed on (`davy feedback`); a user who has voted already counts no second time."""
    for vote in release.spec.feedback:
        user = hashlib.blake2b(vote.user.encode(), key=box.salt[:64], digest_size=12).hexdigest()
        box.put(Said(user, not vote.stable, vote.bad, vote.time.timestamp(), vote.note))


def _quoted(templates: Templates, found: re.Match[str]) -> str:
    example = templates.example(found[1])
    return f'"{example}"' if example else found[0]
