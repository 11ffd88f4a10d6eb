"""The `analysis` of a ReleasePolicy: where measurements come from, which checks there are, and how strict they are.

`analysis: {}` is a whole analysis: errors and latency, from the pods' own metrics. A field's docstring (the string
below it) is its description in the CRD. `review` says what needs more than one field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from davylamp.api.objects import Slim
from davylamp.api.problems import Problem
from davylamp.api.units import DURATION_PATTERN, PERCENT_PATTERN, seconds, share

Duration = Annotated[str, msgspec.Meta(pattern=DURATION_PATTERN, min_length=2)]
Percent = Annotated[str, msgspec.Meta(pattern=PERCENT_PATTERN)]
Quantile = Annotated[float, msgspec.Meta(ge=0.5, le=0.9999)]
Ratio = Annotated[float, msgspec.Meta(ge=1, le=50)]
Times = Annotated[int, msgspec.Meta(ge=1, le=1000)]


# --- sources ---


class Key(Slim, frozen=True):
    """A key of a Secret in the policy's namespace."""

    secret: str
    """Name of the Secret."""
    key: str
    """The key in it."""


class BasicAuth(Slim, frozen=True):
    username: str
    """The user's name."""
    password: Key
    """The user's password."""


class Tls(Slim, frozen=True):
    ca: Key | None = None
    """The certificates (PEM) that the server's must be signed by. Default: those that the machine trusts."""
    server_name: str = ""
    """The name that the server's certificate must have, where it isn't the address's."""
    insecure: bool = False
    """Don't check the server's certificate. Whoever is on the way can then decide every release."""


class Prometheus(Slim, frozen=True):
    """Anything that speaks Prometheus' HTTP API: Prometheus, Thanos, Mimir, VictoriaMetrics."""

    address: str
    """For example http://prometheus.monitoring:9090; with the path before /api/v1 if there is one."""
    bearer_token: Key | None = None
    """A token to send."""
    basic_auth: BasicAuth | None = None
    """A user's name and password to send instead."""
    tls: Tls = Tls()
    """How the server is known."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Headers to send, for example X-Scope-OrgID: shop for a tenant of Mimir."""
    timeout: Duration = "10s"
    """How long one query may take."""
    pod_label: str = "pod"
    """The label of series that names the pod."""
    namespace_label: str = "namespace"
    """The label of series that names the pod's namespace."""
    version_label: str = ""
    """Where series name no pods: the label that has the pod-template-hash, for example pod_template_hash. Each version
    is then compared as if it were one pod."""


class Scraping(Slim, frozen=True):
    """Davylamp's own scraping of the pods, which is used where no Prometheus is named."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    """The pods' port with the metrics. Default: what prometheus.io/port or a port's name says, else every port."""
    path: str = ""
    """Its path. Default: what prometheus.io/path says, else /metrics, /actuator/prometheus and /q/metrics."""
    timeout: Duration = "5s"
    """How long a pod may take to answer."""


class Sources(Slim, frozen=True):
    prometheus: Prometheus | None = None
    """The server that the checks' series are read from. None: Davylamp asks the pods themselves."""
    pods: Scraping = Scraping()
    """How the pods are asked."""


# --- checks ---


class Errors(Slim, frozen=True):
    """Requests and failures, canary against stable."""

    requests: str = ""
    """The counter of requests. Default: found by the usual names (`davy analysis detect NAME` shows which)."""
    failures: str = ""
    """A counter of failures, where there is one of its own."""
    failed: dict[str, str] = msgspec.field(default_factory=dict)
    """Or: the label that tells how a request ended, with a regular expression of the values that are failures."""


class Latency(Slim, frozen=True):
    """Durations of requests, canary against stable, from a histogram: the whole distribution."""

    quantile: Quantile = 0.99
    """Good enough is a canary that is hardly slower than stable at this quantile."""
    histogram: str = ""
    """The histogram, without _bucket. Default: found by the usual names."""
    unit: Literal["seconds", "milliseconds"] | None = None
    """The unit of the histogram. Default: what its name says, else seconds."""


class Logs(Slim, frozen=True):
    """Error messages and stack traces in the application's logs: new ones, and more of the known."""

    container: str = ""
    """The container whose log is read. Default: the first."""
    level: Literal["warning", "error"] = "error"
    """The least severity that counts."""
    ignore: tuple[str, ...] = ()
    """Regular expressions of messages that don't count."""
    max_bytes_per_second: Annotated[int, msgspec.Meta(ge=1024, le=10_000_000)] = 262_144
    """How much of a pod's log is read; what comes faster is left out, and said to be."""


class Feedback(Slim, frozen=True):
    """What users say: POST /feedback at the controller, or `davy feedback`."""

    token: Key | None = None
    """A token that a request must carry. None: anybody may, within the rate limit."""
    origins: tuple[str, ...] = ()
    """Web pages that may send feedback (CORS), for example https://shop.example."""
    version_header: str = "X-Version"
    """The request's header that tells which version served the user."""
    version_cookie: str = ""
    """Or a cookie that does."""


class Metric(Slim, frozen=True):
    """A metric of one's own, canary against stable."""

    name: str
    """What it is called in verdicts."""
    query: str
    """PromQL that gives one value a pod. $pods is a regular expression of the pods' names, $namespace their
    namespace, $window the time between two looks."""
    bad: Literal["up", "down"] = "up"
    """The direction that is worse."""


class Threshold(Slim, frozen=True):
    """A number that must stay within limits, whatever stable does."""

    query: str
    """PromQL that gives one value. $canary and $stable are regular expressions of the pods' names, $namespace their
    namespace, $window the time between two looks."""
    min: float | None = None
    """The least that is good."""
    max: float | None = None
    """The most that is good."""
    times: Times = 3
    """How many looks in a row must be outside."""


class Webhook(Slim, frozen=True):
    """Somebody else's check: a POST. 2xx passes (204 is fine); 429, 502, 503 and 504 are no verdict, as is no answer;
    anything else fails."""

    url: str
    """Where to."""
    timeout: Duration = "10s"
    """How long it may take; no answer is no verdict."""
    token: Key | None = None
    """A bearer token to send."""
    body: dict[str, Any] = msgspec.field(default_factory=dict)
    """More to send, as `parameters`."""
    times: Times = 1
    """How many failures in a row count."""


class Job(Slim, frozen=True):
    """Somebody else's check: a Job in the policy's namespace; exit code 0 passes."""

    template: dict[str, Any]
    """The pod template (metadata and spec) of the Job. Variables DAVY_... in its environment name the release."""
    timeout: Duration = "10m"
    """How long it may take; then it is ended, and counts as failed."""
    service_account: str = ""
    """The ServiceAccount of its pods, where the template names none."""


class KayentaMetric(Slim, frozen=True):
    """One metric of a Kayenta canary configuration."""

    name: str
    """What it is called."""
    query: str
    """PromQL that gives one series a version; $pods, $namespace and $window as for `metric`."""
    direction: Literal["increase", "decrease", "either"] = "either"
    """The direction that is bad."""
    group: str = "default"
    """The group whose score it counts for."""
    critical: bool = False
    """Failing it alone fails the whole."""
    must_have_data: bool = False
    """No data fails it."""
    allowed_increase: Annotated[float, msgspec.Meta(ge=1)] | None = None
    """Effect size (ratio of means) up to which an increase is allowed."""
    allowed_decrease: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """Effect size down to which a decrease is allowed."""


class Kayenta(Slim, frozen=True):
    """A judge that decides as Spinnaker's Kayenta does, for those who come from there. It looks once, at the end."""

    metrics: tuple[KayentaMetric, ...]
    """What is judged."""
    weights: dict[str, Annotated[int, msgspec.Meta(ge=0, le=100)]] = msgspec.field(default_factory=dict)
    """Weights of the groups; they add up to 100. None: all the same."""
    pass_score: Annotated[int, msgspec.Meta(ge=0, le=100)] = msgspec.field(name="pass", default=95)
    """The score from which it passes."""
    marginal: Annotated[int, msgspec.Meta(ge=0, le=100)] = 75
    """The score below which it fails; between the two is no verdict."""
    length: Duration = "30m"
    """How long it measures before it judges."""
    step: Duration = "60s"
    """The distance of the values."""


class Check(Slim, frozen=True):
    """Exactly one field besides `name` is set."""

    name: str = ""
    """What the check is called in verdicts. Default: its kind; needed where there are two of a kind."""
    errors: Errors | None = None
    """Requests and failures."""
    latency: Latency | None = None
    """Durations of requests."""
    logs: Logs | None = None
    """Error messages and stack traces."""
    feedback: Feedback | None = None
    """What users say."""
    metric: Metric | None = None
    """A metric of one's own, canary against stable."""
    threshold: Threshold | None = None
    """A number with limits."""
    webhook: Webhook | None = None
    """An answer from elsewhere."""
    job: Job | None = None
    """The exit code of a Job."""
    kayenta: Kayenta | None = None
    """A judge as Kayenta's."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The fields that are set; one in a good check."""
        return tuple(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def title(self) -> str:
        """What the check is called in verdicts: unique in a good analysis."""
        if self.name:
            return self.name
        if self.metric is not None:
            return self.metric.name
        return self.kinds[0] if self.kinds else ""


KINDS = ("errors", "latency", "logs", "feedback", "metric", "threshold", "webhook", "job", "kayenta")
USUAL = (Check(errors=Errors()), Check(latency=Latency()))


class Analysis(Slim, frozen=True):
    sources: Sources = Sources()
    """Where measurements come from."""
    checks: tuple[Check, ...] = USUAL
    """What is compared. Default: errors and latency."""
    tolerate: Ratio = 1.25
    """How many times as high as stable's a rate of failures (or of slow requests) may be and still be fine."""
    false_alarms: Percent = "1%"
    """How often at most a fine version is taken back: per release, all checks together, however often looked at."""
    interval: Duration = "10s"
    """The time between two looks."""
    warm_up: Duration = "60s"
    """How long after its first request a pod may be cold: what it shows until then counts once it, warm, confirms it.
    0s: all counts at once."""
    leave_when: Literal["held", "confident", "notWorse"] = "held"
    """When a step is left. held: after its `hold`, once all checks are good enough. confident: as soon as they are,
    without waiting for `hold`. notWorse: after its `hold`, unless a check says that the canary is worse."""
    at_most: Duration | None = None
    """How long a step waits for enough data; then `whenUnclear` says what happens. None: as long as it takes."""
    when_unclear: Literal["wait", "goOn", "takeBack"] = "wait"
    """After `atMost` without a verdict: wait for a person, go on with the next step, or take the release back."""


# --- what needs more than one field ---


def review(analysis: Analysis, at: str = "spec.analysis") -> list[Problem]:
    """Everything that is wrong with an analysis whose fields have the right types; warnings among it."""
    found = [
        *_checks(analysis, at),
        *_prometheus(analysis.sources.prometheus, f"{at}.sources.prometheus"),
        *_strictness(analysis, at),
    ]
    return [Problem(path, message, warning) for path, message, warning in found]


Found = Iterator[tuple[str, str, bool]]


def _strictness(analysis: Analysis, at: str) -> Found:
    alarms = share(analysis.false_alarms)
    if not 0.0001 <= alarms <= 0.2:
        yield f"{at}.falseAlarms", f'"{analysis.false_alarms}" is outside 0.01%..20%', False
    if seconds(analysis.interval) < 1:
        yield f"{at}.interval", f'"{analysis.interval}" is less than 1s, the least time between two looks', False
    if analysis.at_most is None and analysis.when_unclear != "wait":
        yield f"{at}.whenUnclear", f"{analysis.when_unclear} never happens without atMost; say after how long", False
    if analysis.at_most is not None and seconds(analysis.at_most) < seconds(analysis.interval):
        yield f"{at}.atMost", f'"{analysis.at_most}" is less than one interval ({analysis.interval})', False


def _checks(analysis: Analysis, at: str) -> Found:
    if not analysis.checks:
        yield f"{at}.checks", "is empty: leave it out for errors and latency, or leave out the analysis", False
    seen: dict[str, int] = {}
    for index, check in enumerate(analysis.checks):
        path = f"{at}.checks[{index}]"
        if len(check.kinds) != 1:
            given = f"{' and '.join(check.kinds)} in one check" if check.kinds else "a check of no kind"
            yield path, f"{given}: set exactly one of {', '.join(KINDS)}", False
            continue
        if check.title in seen:
            yield (
                path,
                f'a second check "{check.title}" (the first is checks[{seen[check.title]}]): give it a name',
                False,
            )
        seen.setdefault(check.title, index)
        yield from _check(check, f"{path}.{check.kinds[0]}", analysis.sources.prometheus)


def _check(check: Check, path: str, prometheus: Prometheus | None) -> Found:
    queries = [(path, one.query) for one in (check.metric, check.threshold) if one is not None]
    if check.kayenta is not None:
        queries += [(f"{path}.metrics[{index}]", one.query) for index, one in enumerate(check.kayenta.metrics)]
        yield from _kayenta(check.kayenta, path)
    for where, query in queries:
        if prometheus is None:
            yield f"{where}.query", "needs a Prometheus that answers it: name one in sources.prometheus.address", False
        if not query.strip():
            yield f"{where}.query", "is empty", False
    by_version = prometheus is not None and prometheus.version_label
    if check.metric is not None and "$pods" not in check.metric.query and not by_version:
        hint = 'write for example {pod=~"$pods"}, so that both versions are asked'
        yield f"{path}.query", f"names no pods: {hint}", False
    if check.errors is not None:
        yield from _errors(check.errors, path)
    if check.logs is not None:
        for index, pattern in enumerate(check.logs.ignore):
            yield from _pattern(pattern, f"{path}.ignore[{index}]")
    if check.threshold is not None:
        yield from _limits(check.threshold, path)
    if check.feedback is not None:
        yield from _feedback(check.feedback, path)
    if check.webhook is not None:
        yield from _address(check.webhook.url, f"{path}.url")
    if check.job is not None and not check.job.template.get("spec", {}).get("containers"):
        yield f"{path}.template.spec.containers", "is missing: the template is a pod's, with metadata and spec", False


def _errors(errors: Errors, path: str) -> Found:
    if errors.failures and errors.failed:
        yield f"{path}.failed", "says what a failure is, as failures does: leave out one of them", False
    if (errors.failures or errors.failed) and not errors.requests:
        yield f"{path}.requests", "is missing: name the counter of requests that the failures belong to", False
    if errors.requests and not errors.failures and not errors.failed:
        yield (
            f"{path}.failed",
            "is missing: codes of 500 and more in a label such as code or status are taken",
            True,
        )
    if len(errors.failed) > 1:
        yield f"{path}.failed", f"names {len(errors.failed)} labels; one tells how a request ended", False
    for label, pattern in errors.failed.items():
        yield from _pattern(pattern, f"{path}.failed.{label}")


def _feedback(feedback: Feedback, path: str) -> Found:
    if feedback.token is None:
        yield f"{path}.token", "is missing: whoever reaches the controller can have a release taken back", True
    for index, origin in enumerate(feedback.origins):
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            hint = "write for example https://shop.example"
            yield f"{path}.origins[{index}]", f'"{origin}" is no origin: {hint}', False


def _limits(threshold: Threshold, path: str) -> Found:
    if threshold.min is None and threshold.max is None:
        yield path, "has no limit: set min, max or both", False
    elif threshold.min is not None and threshold.max is not None and threshold.min > threshold.max:
        yield f"{path}.min", f"{threshold.min:g} is more than max ({threshold.max:g}): no value is good", False


def _kayenta(kayenta: Kayenta, path: str) -> Found:
    if not kayenta.metrics:
        yield f"{path}.metrics", "is empty", False
    if kayenta.marginal > kayenta.pass_score:
        yield f"{path}.marginal", f"{kayenta.marginal} is more than pass ({kayenta.pass_score})", False
    groups = {metric.group for metric in kayenta.metrics}
    for name in kayenta.weights.keys() - groups:
        yield f"{path}.weights.{name}", f"no metric is in this group; there are: {', '.join(sorted(groups))}", False
    if kayenta.weights and sum(kayenta.weights.values()) != 100:
        yield f"{path}.weights", f"add up to {sum(kayenta.weights.values())}, not to 100", False


def _prometheus(source: Prometheus | None, path: str) -> Found:
    if source is None:
        return
    yield from _address(source.address, f"{path}.address")
    if source.bearer_token is not None and source.basic_auth is not None:
        yield f"{path}.basicAuth", "and bearerToken are both given: a request can carry one of them", False
    if source.tls.insecure and source.tls.ca is not None:
        yield f"{path}.tls.ca", "is not looked at with insecure: leave out one of them", False
    if source.tls.insecure:
        yield f"{path}.tls.insecure", "whoever is on the way to this server can decide every release", True
    for name in source.headers:
        if name.lower() in ("authorization", "host", "content-length"):
            yield f"{path}.headers.{name}", "is set by Davylamp; use bearerToken or basicAuth", False


def _address(address: str, path: str) -> Found:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield path, f'"{address}" is no address: write for example http://prometheus.monitoring:9090', False
    elif parts.username or parts.password:
        yield path, "holds a password, and policies are read by many: use a Secret", False


def _pattern(pattern: str, path: str) -> Found:
    try:
        re.compile(pattern)
    except re.error as error:
        yield path, f'"{pattern}" is no regular expression: {error}', False
