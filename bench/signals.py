"""What it costs to read measurements: `python -m bench signals`. No cluster, one core; medians of several runs.

The metrics are 10,000 series of a program with many routes: a counter of requests and a histogram with 12 buckets.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence

from drain3.drain import Drain
from prometheus_client.parser import text_string_to_metric_families

from bench.lab import table
from davylamp.signals.counters import advance, interval
from davylamp.signals.exposition import labels, parse
from davylamp.signals.lines import Joiner
from davylamp.signals.logs import Templates
from davylamp.signals.scrape import Scrape, Target, choose, seen

BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
TEMPLATES = (
    "INFO 10.0.0.{a} GET / 200 {b}ms",
    "WARN retrying request {a} to upstream host-{b} after {a} ms",
    "ERROR could not connect to db-{a}.prod:5432: connection refused",
    "INFO user {a} logged in from 10.1.2.{b}",
    "DEBUG cache miss key=item:{a} took {b}us",
    "INFO order {a} placed with {b} items total={a}.{b} EUR",
)


def exposition(series: int, base: int) -> str:
    """So many series, with counters that stand at `base` and above."""
    out = ["# TYPE http_requests_total counter"]
    out += [
        f'http_requests_total{{method="GET",path="/api/v1/things/{n}",status="200"}} {base + n}'
        for n in range(series // 5)
    ]
    out.append("# TYPE http_request_duration_seconds histogram")
    for n in range((series - series // 5) // 14):
        own = f'method="GET",path="/api/v1/things/{n}",status="200"'
        out += [f'http_request_duration_seconds_bucket{{{own},le="{bound}"}} {base + n}' for bound in BOUNDS]
        out += [f"http_request_duration_seconds_{end}{{{own}}} {base + n}" for end in ("sum", "count")]
    return "\n".join(out) + "\n"


def milliseconds(work: Callable[[], object], runs: int = 9) -> float:
    """The median time of `work`."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def parsing() -> None:
    text = exposition(10_000, 5)
    size = parse(text).size
    names = [key for family in parse(text).samples.values() for key in family]

    def take_apart() -> None:
        labels.cache_clear()
        for key in names:
            labels(key)

    rows = [
        ("what", "ms"),
        (f"{size:,} series, {len(text) / 1e6:.2f} MB: parse", f"{milliseconds(lambda: parse(text)):.1f}"),
    ]
    rows.append(("  their labels, the first time", f"{milliseconds(take_apart):.1f}"))
    theirs = milliseconds(lambda: list(text_string_to_metric_families(text)), 3)
    rows.append(("  the same by prometheus_client.parser, with labels", f"{theirs:.1f}"))
    rows.append(("a look at 5 pods with 2,000 series each: parse, read, difference", f"{milliseconds(one_look()):.1f}"))
    table("Metrics", rows)


def one_look() -> Callable[[], None]:
    """All that a look does after the answers of five pods are there, but for the statistics."""
    targets = [Target(f"web-{n}", ()) for n in range(5)]
    before, after = exposition(2000, 5), exposition(2000, 900)
    first = [Scrape(target, 0.0, "", parse(before)) for target in targets]
    choice = choose(first)
    standing = {one.target.pod: found for one in first if (found := seen(one, choice)) is not None}
    kept, _ = advance({}, standing)

    def work() -> None:
        scrapes = [Scrape(target, 10.0, "", parse(after)) for target in targets]
        now = {one.target.pod: found for one in scrapes if (found := seen(one, choice)) is not None}
        _, differences = advance(kept, now)
        events, _, problems = interval(0.0, 10.0, differences, {"web-4"})
        assert len(events.stable) == 4
        assert not problems

    work()
    return work


def logging() -> None:
    rng = random.Random(1)
    mixed = [rng.choice(TEMPLATES).format(a=rng.randint(0, 999), b=rng.randint(0, 255)) for _ in range(30_000)]
    errors = [line for line in mixed if line.startswith("ERROR")]
    drain = Drain(depth=5, sim_th=0.7, max_clusters=500)
    rows = [("what", "lines a second")]
    rows.append(("drain3 alone, numbers left in", rate(mixed, lambda line: drain.add_log_message(line))))
    for name, lines in (("log to templates, one line in six an error", mixed), ("the same, all errors", errors)):
        joiner, templates = Joiner(), Templates()

        def work(line: str, joiner: Joiner = joiner, templates: Templates = templates) -> None:
            for entry in joiner.add(line):
                templates.see(entry)

        rows.append((name, rate(lines, work)))
    table("Logs", rows)


def rate(lines: Sequence[str], work: Callable[[str], object]) -> str:
    def every() -> None:
        for line in lines:
            work(line)

    return f"{1000 * len(lines) / milliseconds(every, 3):,.0f}"


def run() -> None:
    parsing()
    logging()
