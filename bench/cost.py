"""What a look at a release costs once its pods have answered; part of `python -m bench analysis`."""

from __future__ import annotations

import time
from statistics import NormalDist

import msgspec
import numpy as np

from bench.lab import table
from davylamp.analysis import counts
from davylamp.api.analysis import Analysis, Check, Errors, Feedback, Latency, Logs
from davylamp.controller.findings import Findings
from davylamp.signals.counters import Seen, advance, interval
from davylamp.signals.exposition import parse
from davylamp.signals.gather import Look
from davylamp.signals.scrape import Scrape, Target, choose, seen

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SERIES = "\n".join(
    [
        *(f'http_request_duration_seconds_bucket{{{{le="{edge}"}}}} {{}}' for edge in (*BOUNDS, "+Inf")),
        *(f'http_requests_total{{{{status="{code}"}}}} {{}}' for code in (200, 500)),
        "process_start_time_seconds 1763940000\n",
    ]
)


def cost() -> None:
    """What a look costs once the pods have answered, as the controller makes it: the answers are read, counters become
    differences, the statistics and the judgement, what `davy verdict` shows; every sixth is put into words and JSON, to
    be written once a minute."""
    large, small = Looks(667), [Looks(6) for _ in range(50)]
    spent = sorted(large.next(told=False) for _ in range(19))
    told = sorted(large.next(told=True) for _ in range(19))
    each = sum(one.next(told=number % 6 == 0) for number in range(24) for one in small) / 24 / len(small)
    state = small[0].findings.patch()
    table(
        "Cost, CPU time on one core",
        [
            ("", "measured"),
            (f"one look at a release of 667 pods with {large.series:,} series, 4 checks", f"{1000 * spent[9]:.1f} ms"),
            ("the same, and put into words and JSON", f"{1000 * told[9]:.1f} ms"),
            (
                f"a look at each of 1,000 releases of 6 pods with {small[0].series} series, 4 checks",
                f"{1000 * each:.2f} s",
            ),
            (
                "what is written of a release with these 4 checks after 24 looks, JSON",
                f"{len(msgspec.json.encode(state)):,} bytes",
            ),
        ],
    )


class Looks:
    """The pods of a release that answer with counters, look after look; 15 series each."""

    def __init__(self, pods: int) -> None:
        self._draw = np.random.default_rng(25)
        stable = [f"s{number}" for number in range(pods - pods // 5)]
        self._pods = [*stable, *(f"c{number}" for number in range(pods // 5))]
        self._sides = (len(stable), pods // 5)
        self._counted = np.zeros((pods, len(BOUNDS) + 3), int)
        self._number = 0
        checks = (Check(errors=Errors()), Check(latency=Latency()), Check(logs=Logs()), Check(feedback=Feedback()))
        self.findings = Findings(Analysis(checks=checks), None, 0.0)
        first = self._answers()
        self.series = sum(parse(text).size for text in first)
        scrapes = [Scrape(Target(pod, ()), 0.0, "", parse(text)) for pod, text in zip(self._pods, first, strict=True)]
        self._choice = choose(scrapes)
        self._kept, _ = advance({}, self._standing(scrapes))

    def _answers(self) -> list[str]:
        """A hundred requests more of each pod; half a percent have failed."""
        normal = NormalDist()
        below = [normal.cdf(np.log(edge / 0.03) / 0.8) for edge in BOUNDS]
        slower = self._draw.multinomial(100, np.diff([0.0, *below, 1.0]), len(self._pods))
        failed = self._draw.binomial(100, 0.005, (len(self._pods), 1))
        self._counted += np.concatenate([np.cumsum(slower, 1), 100 - failed, failed], 1)
        return [_SERIES.format(*row) for row in self._counted.tolist()]

    def _standing(self, scrapes: list[Scrape]) -> dict[str, Seen]:
        return {one.target.pod: found for one in scrapes if (found := seen(one, self._choice)) is not None}

    def next(self, *, told: bool) -> float:
        """One more look; its CPU time in seconds."""
        self._number += 1
        answers, start, end = self._answers(), 10.0 * (self._number - 1), 10.0 * self._number
        canary = set(self._pods[self._sides[0] :])
        began = time.process_time()
        scrapes = [Scrape(Target(pod, ()), end, "", parse(text)) for pod, text in zip(self._pods, answers, strict=True)]
        self._kept, found = advance(self._kept, self._standing(scrapes))
        events, latencies, _ = interval(start, end, found, canary)
        lines = logged_by(*self._sides, start, end)
        counted = (("errors", events), ("latency", latencies), ("logs", lines), ("feedback", votes_of(start, end)))
        self.findings.take(Look(counted, ()), end, told=told)
        if told:
            msgspec.json.encode(self.findings.patch())
        return time.process_time() - began


def logged_by(stable: int, canary: int, start: float, end: float) -> counts.Logs:
    templates = tuple(counts.Template(f"t{i}", i % 2 == 0, stable // 2, canary // 2) for i in range(12))
    return counts.Logs(start, end, stable, canary, templates)


def votes_of(start: float, end: float) -> counts.Feedback:
    return counts.Feedback(start, end, 1000, 100, (counts.Vote(f"user{start}", False, start),))
