"""Other people's checks: a webhook that answers, and a Job that ends.

The webhook's request is made here; of the Job only what is pure: its manifest, and what its status means.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import aiohttp
import msgspec

from davylamp.api.analysis import Job, Webhook
from davylamp.api.units import readable, seconds
from davylamp.signals.fetch import Unavailable, fetch
from davylamp.signals.prometheus import Secrets

MAX_ANSWER = 64_000
_NO_VERDICT = (429, 502, 503, 504)
KEPT = 3600
"""Seconds for which a finished Job is kept, so that its logs can be read."""
LATE = 60.0
"""Seconds after its time is over in which a Job should have been ended by its controller."""


class Facts(msgspec.Struct, frozen=True):
    """What a check is told of the release."""

    namespace: str
    deployment: str
    release: str
    step: int
    weight: int
    stable_image: str = ""
    canary_image: str = ""
    canary_hash: str = ""
    """The pod-template-hash of the canary's pods."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of it: passed or not, or None where there is no verdict (yet); and why, for people."""

    passed: bool | None
    message: str
    pending: bool = False
    """It is at work, and will say; else no verdict is an outage."""


class NoJob(Exception):
    """A Job can't be made or read; the message is a sentence that names the check."""


async def ask(session: aiohttp.ClientSession, webhook: Webhook, check: str, facts: Facts, secrets: Secrets) -> Outcome:
    """POST to the webhook. Never raises: that nobody answers is an Outcome without a verdict."""
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/plain"}
    if webhook.token is not None:
        token = secrets.get(webhook.token)
        if token is None:
            return Outcome(None, f'{check}: there is no key {webhook.token.key} in Secret "{webhook.token.secret}"')
        headers["Authorization"] = f"Bearer {token.decode(errors='replace').strip()}"
    sent = msgspec.to_builtins(facts) | {"check": check, "parameters": webhook.body}
    try:
        answer = await fetch(
            session,
            "POST",
            webhook.url,
            seconds=seconds(webhook.timeout),
            max_bytes=MAX_ANSWER,
            headers=headers,
            data=msgspec.json.encode(sent),
            redirects=0,  # a POST that is redirected becomes a GET elsewhere
        )
    except Unavailable as error:
        return Outcome(None, f"{check}: {error}")
    said = " ".join(answer.body[:200].decode(errors="replace").split())
    why = f"{check}: {webhook.url} answers {answer.status}{f': {said}' if said else ''}"
    if answer.status in _NO_VERDICT:
        return Outcome(None, why)
    return Outcome(200 <= answer.status < 300, why)


# --- Jobs ---


def job_manifest(job: Job, check: str, facts: Facts, release_uid: str, number: int = 1) -> dict[str, Any]:
    """The Job for the `number`th run of this check in the release: its name is the same however often it is made, so
    that a second creation is refused. It belongs to the Release and goes with it; it is not tried again by itself."""
    name = job_name(check, facts.release, number)
    template = copy.deepcopy(job.template)
    pod = template.setdefault("spec", {})
    pod.setdefault("restartPolicy", "Never")
    if job.service_account:
        pod.setdefault("serviceAccountName", job.service_account)
    variables = _variables(check, facts)
    for container in [*pod.get("containers", []), *pod.get("initContainers", [])]:
        named = {one.get("name") for one in container.get("env", [])}
        container["env"] = [*container.get("env", []), *(one for one in variables if one["name"] not in named)]
    labels = {"davylamp.dev/release": facts.release, "davylamp.dev/check": _label(check)}
    meta = template.setdefault("metadata", {})
    meta["labels"] = {**meta.get("labels", {}), **labels}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": facts.namespace,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "davylamp.dev/v1alpha1",
                    "kind": "Release",
                    "name": facts.release,
                    "uid": release_uid,
                    "controller": True,
                }
            ],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": max(1, round(seconds(job.timeout))),
            "ttlSecondsAfterFinished": KEPT,
            "template": template,
        },
    }


def job_name(check: str, release: str, number: int) -> str:
    """A name of at most 63 characters, as Jobs' pods need it; a long one is cut and told apart by a hash."""
    name = f"{release}-{_label(check).lower()}-{number}"
    if len(name) <= 63:
        return name
    return f"{name[:54].rstrip('-.')}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:63] or "check"


def _variables(check: str, facts: Facts) -> list[dict[str, str]]:
    given = msgspec.to_builtins(facts) | {"check": check}
    return [{"name": f"DAVY_{name.upper()}", "value": str(value)} for name, value in given.items()]


def job_outcome(job: Mapping[str, Any] | None, check: str, now: float, timeout: float) -> Outcome:
    """What the status of a Job means at `now` (seconds since the epoch), which may run for `timeout` seconds; None for
    a Job that does not exist (any more). While it runs that is no outage, but one that nobody ends is.

    The conditions are those of https://kubernetes.io/docs/concepts/workloads/controllers/job/#terminal-job-conditions.
    """
    if job is None:
        return Outcome(None, f"{check}: its Job is gone; it is made again")
    name = job.get("metadata", {}).get("name", "")
    for condition in job.get("status", {}).get("conditions", []):
        if condition.get("status") != "True":
            continue
        if condition.get("type") == "Complete":
            return Outcome(True, f"{check}: Job {name} has succeeded")
        if condition.get("type") == "Failed":
            why = condition.get("message") or condition.get("reason") or "without a reason"
            return Outcome(False, f"{check}: Job {name} has failed: {why}")
    began = job.get("status", {}).get("startTime") or job.get("metadata", {}).get("creationTimestamp")
    if began is not None and now - datetime.fromisoformat(began).timestamp() > timeout + LATE:
        return Outcome(None, f"{check}: Job {name} has not ended, though its {readable(timeout)} are over")
    return Outcome(None, f"{check}: Job {name} is running", pending=True)
