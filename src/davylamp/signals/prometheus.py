"""Prometheus' HTTP API, which Thanos, Mimir and VictoriaMetrics speak too: one query, one answer, or a clear message.

https://prometheus.io/docs/prometheus/latest/querying/api/. Queries go by POST, since a list of pods makes them long.
Answers that are known to be partial (Thanos' warnings, VictoriaMetrics' isPartial) are no answers.
"""

from __future__ import annotations

import asyncio
import base64
import math
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import aiohttp
import msgspec

from davylamp.api.analysis import Key, Prometheus
from davylamp.api.units import seconds
from davylamp.signals.fetch import Answer, Unavailable, fetch

MAX_BYTES = 64_000_000
RETRIES = (0.5, 1.0, 2.0)
"""Seconds before the second, third and fourth try; half to all of it, by chance. A server's Retry-After goes before."""
MAX_WAIT = 10.0

Secrets = Mapping[Key, bytes]
Sleep = Callable[[float], Awaitable[None]]


class QueryError(Exception):
    """The server understood the request and refuses the query: it is wrong, and stays wrong when repeated."""


class Access(msgspec.Struct, frozen=True):
    """How a server is reached."""

    address: str
    """Without the slash at the end."""
    headers: Mapping[str, str] = {}
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    seconds: float = 10.0
    pod_label: str = "pod"
    namespace_label: str = "namespace"


class Series(msgspec.Struct, frozen=True):
    """One series of an answer: labels, and values by time (seconds since the epoch)."""

    labels: Mapping[str, str]
    values: tuple[tuple[float, float], ...]

    @property
    def value(self) -> float:
        """The last value."""
        return self.values[-1][1]


class _Result(msgspec.Struct):
    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    values: list[tuple[float, str]] = []


class _Data(msgspec.Struct, rename="camel"):
    result_type: Literal["vector", "matrix", "scalar", "string"] = "vector"
    result: msgspec.Raw = msgspec.Raw()


class _Response(msgspec.Struct, rename="camel"):
    status: str = ""
    data: msgspec.Raw = msgspec.Raw()
    error: str = ""
    error_type: str = ""
    warnings: list[str] = []
    is_partial: bool = False


def access(source: Prometheus, secrets: Secrets) -> Access:
    """What `source` means with these Secrets, by reference.

    Raises ValueError naming the Secret's key that is missing or isn't what it should be.
    """
    headers = dict(source.headers)
    if source.bearer_token is not None:
        headers["Authorization"] = f"Bearer {_text(source.bearer_token, secrets)}"
    if source.basic_auth is not None:
        both = f"{source.basic_auth.username}:{_text(source.basic_auth.password, secrets)}"
        headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
    tls = None
    if source.tls.insecure:
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    elif source.tls.ca is not None:
        try:
            tls = ssl.create_default_context(cadata=_text(source.tls.ca, secrets))
        except ssl.SSLError as error:
            where = f'key {source.tls.ca.key} of Secret "{source.tls.ca.secret}"'
            raise ValueError(f"sources.prometheus.tls.ca: {where} holds no certificates in PEM: {error}") from None
    return Access(
        source.address.rstrip("/"),
        headers,
        tls,
        source.tls.server_name or None,
        seconds(source.timeout),
        source.version_label or source.pod_label,
        source.namespace_label,
    )


def _text(key: Key, secrets: Secrets) -> str:
    found = secrets.get(key)
    if found is None:
        raise ValueError(f'there is no key {key.key} in Secret "{key.secret}"')
    text = found.decode(errors="replace").strip()
    if not text.isprintable() and "-----BEGIN" not in text:
        raise ValueError(f'key {key.key} of Secret "{key.secret}" holds more than one line of text')
    return text


async def instant(
    session: aiohttp.ClientSession, to: Access, query: str, check: str, *, sleep: Sleep = asyncio.sleep
) -> list[Series]:
    """The query's values now, one in each series. `check` names whoever asks, in messages.

    Raises QueryError where the query is refused, Unavailable where there is no whole answer after all retries.
    """
    return await _ask(session, to, "query", {"query": query}, check, sleep)


async def over(
    session: aiohttp.ClientSession,
    to: Access,
    query: str,
    check: str,
    *,
    start: float,
    end: float,
    step: float,
    sleep: Sleep = asyncio.sleep,
) -> list[Series]:
    """The query's values from `start` to `end` (seconds since the epoch), every `step` seconds; raises as `instant`."""
    asked = {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
    return await _ask(session, to, "query_range", asked, check, sleep)


async def _ask(
    session: aiohttp.ClientSession, to: Access, path: str, asked: dict[str, str], check: str, sleep: Sleep
) -> list[Series]:
    url = f"{to.address}/api/v1/{path}"
    form = asked | {"timeout": f"{to.seconds:g}s"}
    for wait in (*RETRIES, None):
        try:
            answer = await fetch(
                session,
                "POST",
                url,
                seconds=to.seconds,
                max_bytes=MAX_BYTES,
                headers={"Accept": "application/json", **to.headers},
                data=form,
                tls=to.tls,
                server_name=to.server_name,
            )
            return _read(answer, url, asked["query"], check)
        except Unavailable as error:
            if wait is None or not error.again:
                raise Unavailable(f"{check}: {error}", again=error.again) from None
            asked_for = min(error.after, MAX_WAIT)
        await sleep(asked_for or wait * random.uniform(0.5, 1))
    raise AssertionError("the last try returns or raises")


def _read(answer: Answer, url: str, query: str, check: str) -> list[Series]:
    if answer.status in (429, 500, 502, 503, 504) and not _refused(answer):
        told = _decoded(answer)
        why = f": {told.error}" if told is not None and told.error else ""
        raise Unavailable(f"{url} answers {answer.status}{why}", again=True, after=answer.retry_after)
    if answer.status in (401, 403):
        raise Unavailable(f"{url} answers {answer.status}: it wants other credentials than those of the policy")
    told = _decoded(answer)
    if told is None:
        shown = answer.body[:80].decode(errors="replace").strip()
        raise Unavailable(f'{url} answers {answer.status}, and not as Prometheus does: "{shown}"')
    if told.status != "success":
        raise QueryError(f"{check}: {told.error or 'refused without a reason'}; the query is: {query}")
    if told.warnings or told.is_partial:
        why = f" ({told.warnings[0]})" if told.warnings else ""
        raise Unavailable(f"{url} says that its answer is partial{why}", again=True)
    return _series(told.data, url)


def _refused(answer: Answer) -> bool:
    """A wrong query that comes as 5xx: Prometheus says `execution` with 422, others with 500."""
    told = _decoded(answer)
    return told is not None and told.error_type in ("bad_data", "execution")


def _decoded(answer: Answer) -> _Response | None:
    try:
        return msgspec.json.decode(answer.body, type=_Response)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _series(data: msgspec.Raw, url: str) -> list[Series]:
    try:
        found = msgspec.json.decode(data, type=_Data)
        if found.result_type in ("scalar", "string"):
            return [Series({}, (_point(msgspec.json.decode(found.result, type=tuple[float, str])),))]
        results = msgspec.json.decode(found.result, type=list[_Result])
        return [Series(one.metric, _points(one)) for one in results if one.value is not None or one.values]
    except (msgspec.DecodeError, ValueError) as error:
        raise Unavailable(f"{url} answers with data that can't be read: {error}") from None


def _points(one: _Result) -> tuple[tuple[float, float], ...]:
    return tuple(map(_point, one.values if one.value is None else [one.value]))


def _point(pair: tuple[float, str]) -> tuple[float, float]:
    return pair[0], float(pair[1])


# --- what checks want of an answer ---


def one_value(series: list[Series], query: str, check: str) -> tuple[float | None, str]:
    """The one value of a query, or None and why there is none: no series, several, NaN or infinite."""
    if not series:
        return None, f"{check}: no data; the query is: {query}"
    if len(series) > 1:
        shown = " and ".join(_shown(one.labels) for one in series[:2])
        return None, f"{check}: {len(series)} series where one is expected ({shown}...); aggregate them: {query}"
    if not math.isfinite(series[0].value):
        return None, f"{check}: the value is {_odd(series[0].value)}; the query is: {query}"
    return series[0].value, ""


def by_pod(series: list[Series], label: str, query: str, check: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """Values by pod, and what is wrong with others: without the pod's label, several of one pod, NaN or infinite."""
    values: dict[str, float] = {}
    twice: set[str] = set()
    problems: dict[str, str] = {}
    for one in series:
        pod = one.labels.get(label, "")
        if not pod:
            told = f"a series without the label {label}, {_shown(one.labels)}"
            problems["label"] = f"{check}: {told}; write sum by ({label}) (...): {query}"
        elif pod in values or pod in twice:
            twice.add(pod)
            values.pop(pod, None)
            problems["twice"] = f"{check}: several series of pod {pod}; write sum by ({label}) (...): {query}"
        elif not math.isfinite(one.value):
            problems["odd"] = f"{check}: the value of pod {pod} is {_odd(one.value)}; it is left out: {query}"
        else:
            values[pod] = one.value
    return values, tuple(problems.values())


def _shown(labels: Mapping[str, Any]) -> str:
    inner = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{{{inner}}}" if len(inner) < 120 else f"{{{inner[:117]}...}}"


def _odd(value: float) -> str:
    return "NaN (0 divided by 0?)" if math.isnan(value) else f"{'+' if value > 0 else '-'}Inf"
