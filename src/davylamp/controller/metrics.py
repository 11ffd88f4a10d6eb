"""The controller's own numbers, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from davylamp.api.types import Phase, Release
from davylamp.kube.clock import Clock

STEP_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
LOOK_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
EFFECT_SECONDS = (0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 30, 60, 300)
RECONCILE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class Metrics:
    """One set of numbers in a registry of its own, so that several controllers fit into one process."""

    def __init__(self, clock: Clock) -> None:
        # They would double the number of series, to tell when each began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._clock = clock
        self.registry = registry = CollectorRegistry()
        self.releases = Gauge("davylamp_releases", "Releases by phase.", ["phase"], registry=registry)
        self.step_seconds = Histogram(
            "davylamp_step_duration_seconds",
            "How long a step of a release was in effect.",
            buckets=STEP_SECONDS,
            registry=registry,
        )
        self.requests = Counter(
            "davylamp_api_requests", "Requests to the API server.", ["verb", "kind"], registry=registry
        )
        self.writes = Counter(
            "davylamp_api_writes", "Writes that the API server carried out.", ["kind"], registry=registry
        )
        self.errors = Counter(
            "davylamp_api_errors", "Requests that failed, by HTTP status (0: no answer).", ["code"], registry=registry
        )
        self.untold = Counter("davylamp_events_untold", "Events that could not be written.", registry=registry)
        self.queue_depth = Gauge("davylamp_queue_depth", "Keys that wait to be looked at.", registry=registry)
        self.restarts = Counter(
            "davylamp_watch_restarts", "Watches that began again.", ["kind", "why"], registry=registry
        )
        self.plans = Counter("davylamp_plans", "Plans by what they decided.", ["reason"], registry=registry)
        self.reconcile_seconds = Histogram(
            "davylamp_reconcile_duration_seconds",
            "How long one look at a key took, its writes included.",
            ["kind"],
            buckets=RECONCILE_SECONDS,
            registry=registry,
        )
        self.effect_seconds = Histogram(
            "davylamp_effect_seconds",
            "How long a change of the routing took until it was in effect: seen by counting requests, or assumed.",
            ["kind", "known"],
            buckets=EFFECT_SECONDS,
            registry=registry,
        )
        self.effect_looks = Counter(
            "davylamp_effect_looks", "Looks at the requests of releases that wait for that.", registry=registry
        )
        self.drifts = Counter(
            "davylamp_drifts", "Changes of the routing by other hands that were put right.", registry=registry
        )
        self.analyses = Gauge("davylamp_analyses", "Releases that are being analysed.", registry=registry)
        self.looks = Counter(
            "davylamp_analysis_looks",
            "Looks at releases: whole, partial (something was not seen), blocked, late or failed.",
            ["outcome"],
            registry=registry,
        )
        self.look_seconds = Histogram(
            "davylamp_analysis_look_duration_seconds",
            "How long one look took, the waiting for pods included.",
            buckets=LOOK_SECONDS,
            registry=registry,
        )
        self._looks_of: dict[str, Counter] = {}
        self.leading = Gauge("davylamp_leading", "1 while this process is the one that works.", registry=registry)
        for phase in Phase:
            self.releases.labels(phase.value)

    def on_request(self, verb: str, kind: str, code: int) -> None:
        """For `davylamp.kube.client.connect`."""
        self.requests.labels(verb, kind).inc()
        if code == 0 or code >= 400:
            self.errors.labels(str(code)).inc()

    def looked(self, outcome: str, seconds: float) -> None:
        """An analysis looked at a release."""
        counter = self._looks_of.get(outcome)
        if counter is None:
            counter = self._looks_of[outcome] = self.looks.labels(outcome)
        counter.inc()
        self.look_seconds.observe(seconds)

    def on_release(self, kind: str, old: Release | None, new: Release | None) -> None:
        """A listener for the store of Releases."""
        if old is not None:
            self.releases.labels(old.status.phase.value).dec()
        if new is not None:
            self.releases.labels(new.status.phase.value).inc()
        since = old.status.step_since if old is not None else None
        if old is None or new is None or since is None or not old.active:
            return
        if not new.active or new.status.step_since != since:
            self.step_seconds.observe(max(0.0, (self._clock.now() - since).total_seconds()))

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
