"""Which series count requests, failures and latencies: the names that people's programs and proxies use.

Each row of `CONVENTIONS` comes from its project's documentation or source, as named beside it. Whoever uses other
names says so in the policy (`Names`). A failure is what the server is to blame for: HTTP 5xx, and the gRPC codes that
OpenTelemetry's semantic conventions call a server's errors; a 404 is no failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Literal

import msgspec

from davylamp.signals.exposition import Exposition, labels

Check = Literal["errors", "latency"]

SECONDS, MILLISECONDS = 1.0, 0.001
CODE = ("status", "code", "status_code", "http_status", "http_status_code", "http_response_status_code")
GRPC_FAILURES = "Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss"
"""https://opentelemetry.io/docs/specs/semconv/rpc/grpc/ (server side)."""
GRPC_NUMBERS = "2|4|12|13|14|15|UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS"
HTTP_FAILURES = r"5\d\d|5xx|5XX"
_HTTP_STATUS = re.compile(r"[1-5](\d\d|xx|XX)")


class Convention(msgspec.Struct, frozen=True):
    """One family of names. `requests` and `latency` are names of samples and of a histogram, without its suffixes."""

    name: str
    requests: str
    latency: str = ""
    status: tuple[str, ...] = CODE
    """Labels that tell how a request ended; it failed if one of them says so."""
    failed: str = HTTP_FAILURES
    """The values of such a label that mean a failure: a regular expression, whole values."""
    failures: str = ""
    """Or a counter of failures of its own."""
    unit: float = SECONDS
    """Seconds in one unit of the histogram's bounds."""
    only: tuple[tuple[str, str], ...] = ()
    """Labels that a series must have, with a regular expression for the whole value, so that none counts twice."""


_GRPC_STATUS = ("rpc_grpc_status_code", "rpc_response_status_code")
CONVENTIONS = (
    # opentelemetry.io/docs/specs/semconv/http/http-metrics; the second are the names before version 1.23
    # and error_type, where a request ended without a status
    Convention(
        "OpenTelemetry",
        "http_server_request_duration_seconds_count",
        "http_server_request_duration_seconds",
        status=("http_response_status_code", "error_type"),
        failed=rf"{HTTP_FAILURES}|[A-Za-z_].*",
    ),
    Convention(
        "OpenTelemetry (old names)",
        "http_server_duration_milliseconds_count",
        "http_server_duration_milliseconds",
        unit=MILLISECONDS,
    ),
    # docs.spring.io/spring-boot: Actuator's metrics; Quarkus and Micronaut use Micrometer's names too
    Convention(
        "Micrometer",
        "http_server_requests_seconds_count",
        "http_server_requests_seconds",
        status=("status", "outcome"),
        failed=rf"{HTTP_FAILURES}|SERVER_ERROR",
    ),
    # names in the documentation and middleware of the client libraries for Go, Python, Node, Ruby, Rust; hellok8s
    Convention("Prometheus client", "http_requests_total", "http_request_duration_seconds"),
    Convention("Prometheus client", "http_server_requests_total", "http_server_request_duration_seconds"),
    # prometheus-net, flask-exporter, starlette-exporter, django-prometheus, gin and Rails exporters
    Convention("prometheus-net", "http_requests_received_total", "http_request_duration_seconds"),
    Convention("Flask exporter", "flask_http_request_total", "flask_http_request_duration_seconds"),
    Convention("Starlette exporter", "starlette_requests_total", "starlette_request_duration_seconds"),
    Convention(
        "django-prometheus",
        "django_http_responses_total_by_status_total",
        "django_http_requests_latency_seconds_by_view_method",
    ),
    Convention("Gin", "gin_requests_total", "gin_request_duration_seconds"),
    Convention("Rails (Yabeda)", "rails_requests_total", "rails_request_duration_seconds"),
    # a histogram alone, as express-prom-bundle has it
    Convention("Prometheus client", "http_request_duration_seconds_count", "http_request_duration_seconds"),
    # github.com/grpc-ecosystem: go-grpc-middleware, java-grpc-prometheus, py-grpc-prometheus
    Convention(
        "gRPC", "grpc_server_handled_total", "grpc_server_handling_seconds", status=("grpc_code",), failed=GRPC_FAILURES
    ),
    Convention(
        "OpenTelemetry RPC",
        "rpc_server_call_duration_seconds_count",
        "rpc_server_call_duration_seconds",
        status=_GRPC_STATUS,
        failed=GRPC_NUMBERS,
    ),
    Convention(
        "OpenTelemetry RPC (old names)",
        "rpc_server_duration_milliseconds_count",
        "rpc_server_duration_milliseconds",
        status=_GRPC_STATUS,
        failed=GRPC_NUMBERS,
        unit=MILLISECONDS,
    ),
    # istio.io/latest/docs/reference/config/metrics: both ends report a request, the server's counts
    Convention(
        "Istio",
        "istio_requests_total",
        "istio_request_duration_milliseconds",
        status=("response_code",),
        unit=MILLISECONDS,
        only=(("reporter", "destination"),),
    ),
    # envoyproxy.io: HTTP connection manager statistics; the admin listener counts itself
    Convention(
        "Envoy",
        "envoy_http_downstream_rq_xx",
        "envoy_http_downstream_rq_time",
        status=("envoy_response_code_class",),
        failed="5",
        unit=MILLISECONDS,
        only=(("envoy_http_conn_manager_prefix", "(?!admin|egress|outbound).*"),),
    ),
    # doc.traefik.io: metrics of services; entry points and routers count the same requests
    Convention("Traefik", "traefik_service_requests_total", "traefik_service_request_duration_seconds"),
    Convention("Traefik", "traefik_entrypoint_requests_total", "traefik_entrypoint_request_duration_seconds"),
    # github.com/vozlt/nginx-module-vts: host "*" is the sum of all, code "total" that of the codes
    Convention(
        "nginx-vts",
        "nginx_vts_server_requests_total",
        "nginx_vts_server_request_duration_seconds",
        only=(("host", r"\*"), ("code", r"[1-5]xx")),
    ),
    # github.com/knyar/nginx-lua-prometheus; nginx-prometheus-exporter has this name too, without a status
    Convention("nginx", "nginx_http_requests_total", "nginx_http_request_duration_seconds"),
)

PATHS = ("path", "uri", "route", "handler", "endpoint", "http_route", "url", "view", "http_target", "url_path", "page")
NOT_USERS = re.compile(
    r"(GET |HEAD )?/?(api/)?(-/|_/|internal/|q/|management/)?"
    r"(health|healthz|healthcheck|health-check|live|livez|liveness|ready|readyz|readiness|startup|startupz|ping"
    r"|up|metrics|prometheus|actuator|favicon\.ico)(/.*)?",
    re.IGNORECASE,
)
"""Paths that a kubelet or a monitoring system asks for."""
NOT_USERS_GRPC = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
_LIKE_REQUESTS = re.compile(r".*(request|response|http|rpc)s?.*(_total|_count)")


class Names(msgspec.Struct, frozen=True):
    """Names that a policy gives instead of the conventions'; what is empty is found."""

    requests: str = ""
    failures: str = ""
    """A counter of failures."""
    failed: Mapping[str, str] = {}
    """Or: label -> regular expression of the values that mean a failure."""
    latency: str = ""
    """A histogram, without _bucket."""
    unit: float | None = None


class Finding(msgspec.Struct, frozen=True):
    """What one metric would be used for (`check`; empty: for nothing), and why."""

    metric: str
    series: int
    check: Check | Literal[""]
    why: str


class Choice(msgspec.Struct, frozen=True):
    """The series that feed `errors` and `latency`; None where there are none. The findings say why."""

    errors: Convention | None
    latency: Convention | None
    findings: tuple[Finding, ...] = ()


class Counts(msgspec.Struct, frozen=True):
    """Counters as they stand, since the process began. Keys are raw labels; bounds are in seconds."""

    requests: Mapping[str, float] = {}
    failures: Mapping[str, float] = {}
    buckets: Mapping[str, Mapping[float, float]] = {}
    """By series without `le`: cumulative counts at the upper bounds, of which one is infinite."""


# --- choosing ---


def detect(exposition: Exposition, names: Names | None = None) -> Choice:
    """What the series of a pod (or of several, merged) would feed, and why others would not."""
    errors, latency = [], []
    findings: list[Finding] = []
    for convention in _candidates(names or Names()):
        if convention.requests in exposition.samples:
            errors.append((convention, _why_not_errors(exposition, convention)))
        if _histogram(exposition, convention.latency):
            latency.append((convention, _why_not_latency(exposition, convention)))
    chosen = _first(errors, exposition)
    measured = _first(latency, exposition, chosen)
    findings += _findings("errors", errors, chosen, exposition)
    findings += _findings("latency", latency, measured, exposition)
    if names is not None:
        findings += _missing(exposition, names)
    known = {finding.metric for finding in findings}
    findings += [finding for finding in _others(exposition) if finding.metric not in known]
    return Choice(chosen, measured, tuple(findings))


def counter(exposition: Exposition, names: Names | None = None) -> Choice | None:
    """What counts requests, whether it tells how they ended or not; one that has counted something goes first."""
    found = [one for one in _candidates(names or Names()) if one.requests and _there(exposition, one.requests)]
    chosen = min(found, key=lambda one: not _counting(exposition, one), default=None)
    return Choice(msgspec.structs.replace(chosen, failures=""), None) if chosen is not None else None


def _there(exposition: Exposition, name: str) -> bool:
    """The metric may have no series before its first request, but a line about its type."""
    family = name.removesuffix("_total").removesuffix("_count")
    return name in exposition.samples or name in exposition.types or family in exposition.types


def _counting(exposition: Exposition, convention: Convention) -> bool:
    series = exposition.samples.get(convention.requests, {})
    return any(value > 0 and _counts(key, convention.only) for key, value in series.items())


def vague(key: str) -> bool:
    """Does a series not tell what was asked for, so that probes may be among what it counts?"""
    given = dict(labels(key))
    return not any(name in given for name in (*PATHS, "grpc_service", "rpc_service"))


def _candidates(names: Names) -> Iterator[Convention]:
    """What the policy names first, and in its place only that."""
    latency = names.latency.removesuffix("_bucket")
    unit = names.unit or (MILLISECONDS if re.search(r"_(ms|millis|milliseconds)$", latency) else SECONDS)
    given = Convention("the policy", names.requests, latency, failures=names.failures, unit=unit)
    if names.failed:
        label, value = next(iter(names.failed.items()))
        given = msgspec.structs.replace(given, status=(label,), failed=value)
    if names.requests or names.latency:
        yield given
    for convention in CONVENTIONS:
        requests = "" if names.requests else convention.requests
        histogram = "" if names.latency else convention.latency
        if requests or histogram:
            yield msgspec.structs.replace(convention, requests=requests, latency=histogram)


def _first(
    found: list[tuple[Convention, str]], exposition: Exposition, like: Convention | None = None
) -> Convention | None:
    """The first that can be used; one that has counted something goes before one that has not, and so does the one
    that is used for the other check."""
    usable = [convention for convention, why_not in found if not why_not]

    def rank(one: Convention) -> tuple[bool, bool]:
        return like is not None and one.name != like.name, not _busy(exposition, one)

    return min(usable, key=rank, default=None)


def _busy(exposition: Exposition, convention: Convention) -> bool:
    requests = exposition.samples.get(convention.requests, {})
    return any(requests.values()) or any(exposition.samples.get(f"{convention.latency}_count", {}).values())


def _why_not_errors(exposition: Exposition, convention: Convention) -> str:
    series = exposition.samples[convention.requests]
    kept = [labels(key) for key in series if _counts(key, convention.only)]
    if not kept:
        return "all its series are health checks, /metrics or other ends of the same requests"
    if convention.failures:
        if convention.failures in exposition.samples or convention.name == "the policy":
            return ""
        return f"there is no {convention.failures} beside it"
    if not any(name in dict(found) for found in kept for name in convention.status):
        return f"no label tells how a request ended ({', '.join(convention.status)})"
    if convention.failed != HTTP_FAILURES:
        return ""
    values = sorted({value for found in kept for name, value in found if name in convention.status})
    if any(_HTTP_STATUS.fullmatch(value) for value in values):
        return ""
    return f"its values {', '.join(values[:4])} are no HTTP codes: say in errors.failed which are failures"


def _why_not_latency(exposition: Exposition, convention: Convention) -> str:
    name = convention.latency
    if f"{name}_bucket" not in exposition.samples:
        kind = exposition.types.get(name, "summary")
        return f"it is a {kind} without buckets: quantiles of pods can't be added up; make it a histogram"
    if not any(_counts(key, convention.only) for key in exposition.samples[f"{name}_bucket"]):
        return "all its series are health checks, /metrics or other ends of the same requests"
    return ""


def _histogram(exposition: Exposition, name: str) -> bool:
    return bool(name) and (f"{name}_bucket" in exposition.samples or f"{name}_count" in exposition.samples)


def _findings(
    check: Check, found: Iterable[tuple[Convention, str]], chosen: Convention | None, exposition: Exposition
) -> Iterator[Finding]:
    seen = set()
    for convention, why_not in found:
        metric = convention.requests if check == "errors" else convention.latency
        if metric in seen:
            continue
        seen.add(metric)
        sample = metric if check == "errors" else f"{metric}_bucket"
        series = exposition.samples.get(sample) or exposition.samples.get(f"{metric}_count", {})
        if convention is chosen:
            left = sum(not _counts(key, convention.only) for key in series)
            why = f"{convention.name}{_told_by(check, convention)}"
            yield Finding(metric, len(series), check, why + (f"; {left} series left out (see docs)" if left else ""))
        elif why_not:
            yield Finding(metric, len(series), "", f"{convention.name}, but not for {check}: {why_not}")
        elif chosen is not None:
            other = chosen.requests if check == "errors" else chosen.latency
            why = f"{convention.name}, but {other} is used: both may count the same requests"
            yield Finding(metric, len(series), "", why)


def _told_by(check: Check, convention: Convention) -> str:
    if check == "latency":
        return ", in milliseconds" if convention.unit == MILLISECONDS else ", in seconds"
    return f", failures are {convention.failures or f'{convention.failed} in {convention.status[0]}'}"


def _missing(exposition: Exposition, names: Names) -> Iterator[Finding]:
    for check, name in (("errors", names.requests), ("errors", names.failures), ("latency", names.latency)):
        if name and name not in exposition.samples and not _histogram(exposition, name.removesuffix("_bucket")):
            yield Finding(name, 0, "", f"named in the policy for {check}, but the pods have no such metric")


def _others(exposition: Exposition) -> Iterator[Finding]:
    known = {name for one in CONVENTIONS for name in (one.requests, one.latency, f"{one.latency}_count")}
    for name, series in exposition.samples.items():
        if name in known or not _LIKE_REQUESTS.fullmatch(name):
            continue
        if name.startswith(("promhttp_", "go_", "process_", "python_", "jvm_")):
            yield Finding(name, len(series), "", "counts the monitoring itself")
        else:
            yield Finding(name, len(series), "", "no known name; if it counts requests, give it as errors.requests")


# --- reading ---


def read(exposition: Exposition, choice: Choice) -> Counts:
    """The counters that `choice` names, without health checks and the like.

    Where no series says how requests ended, nothing is counted as failed only if a counter of failures is named.
    """
    requests: dict[str, float] = {}
    failures: dict[str, float] = {}
    errors, latency = choice.errors, choice.latency
    if errors is not None:
        for key, value in exposition.samples.get(errors.requests, {}).items():
            if value >= 0 and _counts(key, errors.only):
                requests[key] = value
                if not errors.failures and _failed(key, errors.status, errors.failed):
                    failures[key] = value
        if errors.failures:
            separate = exposition.samples.get(errors.failures, {})
            failures = {key: value for key, value in separate.items() if value >= 0 and _counts(key, errors.only)}
    buckets: dict[str, dict[float, float]] = {}
    if latency is not None:
        for key, value in exposition.samples.get(f"{latency.latency}_bucket", {}).items():
            bound, rest = _bound(key)
            if bound is not None and value >= 0 and _counts(key, latency.only):
                buckets.setdefault(rest, {})[bound * latency.unit] = value
    return Counts(requests, failures, buckets)


@lru_cache(maxsize=20_000)
def _bound(key: str) -> tuple[float | None, str]:
    """The bound of a bucket, in the metric's own unit, and the other labels as text."""
    found = labels(key)
    rest = ",".join(f"{name}={value!r}" for name, value in found if name != "le")
    try:
        return float(dict(found)["le"]), rest
    except (KeyError, ValueError):
        return None, rest


@lru_cache(maxsize=20_000)
def _counts(key: str, only: tuple[tuple[str, str], ...]) -> bool:
    """Does a series with these labels count requests of users, once?"""
    given = dict(labels(key))
    if "quantile" in given or any(not re.fullmatch(pattern, given.get(name, "")) for name, pattern in only):
        return False
    if given.get("grpc_service", given.get("rpc_service", "")) in NOT_USERS_GRPC:
        return False
    return not any(name in given and NOT_USERS.fullmatch(given[name]) for name in PATHS)


@lru_cache(maxsize=20_000)
def _failed(key: str, status: tuple[str, ...], pattern: str) -> bool:
    given = dict(labels(key))
    return any(re.fullmatch(pattern, given[name]) for name in status if name in given)
