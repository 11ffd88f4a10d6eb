"""What happened to the requests of a load, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

NO_VERSION = "-"  # for answers without an X-Version header: the proxy's own


class Counts(msgspec.Struct):
    """What happened to requests. ``t`` is seconds since the start; all else counts requests."""

    t: float = 0.0
    sent: int = 0
    by_version: Counter[str] = msgspec.field(default_factory=Counter)
    failed_by_version: Counter[str] = msgspec.field(default_factory=Counter)
    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    lost: int = 0
    failed: int = 0

    @property
    def answered(self) -> int:
        return self.statuses.total()

    def share(self, version: str) -> float:
        """The part of all answers that came from this version, 0 to 1; 0 while there are none."""
        return self.by_version[version] / self.answered if self.answered else 0.0

    def add(self, other: Counts) -> None:
        self.t = max(self.t, other.t)
        self.sent += other.sent
        self.by_version += other.by_version
        self.failed_by_version += other.failed_by_version
        self.statuses += other.statuses
        self.lost += other.lost
        self.failed += other.failed

    def minus(self, earlier: Counts) -> Counts:
        """What happened between two snapshots."""
        return Counts(
            t=self.t - earlier.t,
            sent=self.sent - earlier.sent,
            by_version=self.by_version - earlier.by_version,
            failed_by_version=self.failed_by_version - earlier.failed_by_version,
            statuses=self.statuses - earlier.statuses,
            lost=self.lost - earlier.lost,
            failed=self.failed - earlier.failed,
        )


class Summary(Counts):
    """All of a run. Latencies, in milliseconds, are of answered requests."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    losses: Counter[str] = msgspec.field(default_factory=Counter)  # why requests were lost


def percentile(counts: Mapping[int, int], q: float) -> int:
    """The smallest value with at least the share ``q`` of all at or below it; 0 if there are none."""
    wanted, seen = q * sum(counts.values()), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return 0


def describe(summary: Summary) -> str:
    versions = ", ".join(f"{v} {100 * summary.share(v):.1f} %" for v in sorted(summary.by_version))
    lines = [
        f"{summary.sent} requests in {summary.t:.1f} s: {summary.lost} lost, {summary.failed} failed (5xx)",
        f"answered by {versions or 'nobody'}; p50 {summary.p50_ms:.1f} ms, p99 {summary.p99_ms:.1f} ms",
    ]
    lines += [f"lost: {reason}: {count}" for reason, count in summary.losses.most_common()]
    return "\n".join(lines)


def read_line(line: str | bytes) -> Counts | Summary:
    """A line of the command's JSON output: an interval's counts, or at the end the summary."""
    found = msgspec.json.decode(line)
    if "summary" in found:
        return msgspec.convert(found["summary"], Summary, dec_hook=_counter)
    return msgspec.convert(found, Counts, dec_hook=_counter)


def _counter(kind: type, value: dict[str, int]) -> Counter[str]:
    """msgspec knows dicts, but not that a Counter is one; no other type comes here."""
    return Counter(value)
