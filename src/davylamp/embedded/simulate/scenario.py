"""What is imagined: how good the two versions are, how many requests come, and what people do."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import yaml

from davylamp.api.units import seconds, share

COLUMNS = ("time", "rps", "stable_errors", "canary_errors")


class Moment(msgspec.Struct, frozen=True, rename="camel"):
    """The traffic from one moment on, until the next one."""

    at: float
    """Seconds since the release began."""
    rps: float
    """Requests per second, of both versions together."""
    stable_errors: float
    """Share of its requests that fail, 0 to 1."""
    canary_errors: float


class Latency(msgspec.Struct, frozen=True, rename="camel"):
    """Durations of requests: log-normal."""

    median: float = 0.03
    """Seconds."""
    sigma: float = 0.8
    """Standard deviation of the durations' natural logarithm; 0.8 puts the 99th percentile at 6.4 medians."""


class Scenario(msgspec.Struct, frozen=True, rename="camel"):
    moments: tuple[Moment, ...] = (Moment(0, 100, 0.001, 0.001),)
    """The first one is at 0; the last one holds to the end."""
    stable: Latency = Latency()
    canary: Latency = Latency()
    crash: float | None = None
    """Seconds from each start of a canary's container until it ends by itself; None: never."""
    testers: float = 0.0
    """Share of the requests that a policy's `match` sends to the canary, 0 to 1."""
    approve_after: float = 300.0
    """Seconds after which people approve a step that waits for them."""
    limit: float | None = None
    """Seconds after which a release that has not ended is given up watching; None: see `run.patience`."""

    @property
    def worse(self) -> bool:
        """Whether the new version is any worse than the old one, at any time."""
        slower = self.canary.median > self.stable.median or self.canary.sigma > self.stable.sigma
        return self.crash is not None or slower or any(m.canary_errors > m.stable_errors for m in self.moments)

    def as_good(self) -> Scenario:
        """The same with a new version that is exactly as good as the old one."""
        moments = tuple(msgspec.structs.replace(m, canary_errors=m.stable_errors) for m in self.moments)
        return msgspec.structs.replace(self, moments=moments, canary=self.stable, crash=None)


def read(text: str, usual: Moment) -> tuple[Moment, ...]:
    """The moments in a file, CSV with a header or a YAML list of mappings; `usual` gives the columns that it lacks.

    Times are seconds, durations (`10m`) or ISO 8601, and counted from the first one. Raises ValueError with the line
    or entry, what was found and what would be right.
    """
    moments: list[Moment] = []
    first: float | None = None
    for where, row in _rows(text):
        unknown = row.keys() - set(COLUMNS)
        if unknown:
            raise ValueError(f"{where}: unknown column {min(unknown)!r}; there are {', '.join(COLUMNS)}")
        if row.get("time") in (None, ""):
            raise ValueError(f"{where}: no time")
        at = _time(where, row["time"])
        first = at if first is None else first
        if moments and at - first <= moments[-1].at:
            raise ValueError(f"{where}: time {row['time']} is not after the one before; times must rise")
        moments.append(
            Moment(
                at - first,
                _rate(where, row.get("rps"), usual.rps),
                _share(where, "stable_errors", row.get("stable_errors"), usual.stable_errors),
                _share(where, "canary_errors", row.get("canary_errors"), usual.canary_errors),
            )
        )
    if not moments:
        raise ValueError(f"it has no rows; columns are {', '.join(COLUMNS)}")
    return tuple(moments)


def _rows(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    head = next((line for line in text.splitlines() if line.strip()), "")
    if "," in head and not head.lstrip().startswith(("-", "[", "{")):
        for row in (reader := csv.DictReader(io.StringIO(text), skipinitialspace=True)):
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num}: not as many values as the header has columns")
            yield f"line {reader.line_num}", row
        return
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is neither CSV with a header nor YAML: {error}") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError(f"a list of mappings with {', '.join(COLUMNS)} is needed, or CSV with these columns")
    for number, row in enumerate(found):
        yield f"entry {number + 1}", {str(key): value for key, value in row.items()}


def _time(where: str, value: Any) -> float:
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC).timestamp()
    text = str(value).strip()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return seconds(text)
    except ValueError:
        pass
    try:
        return _time(where, datetime.fromisoformat(text))
    except ValueError:
        hint = "write seconds, a duration such as 10m, or 2026-03-01T12:00:00Z"
        raise ValueError(f"{where}: time {text!r} is no time: {hint}") from None


def _rate(where: str, value: Any, usual: float) -> float:
    if value in (None, ""):
        return usual
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = -1.0
    if not 0 <= found < math.inf:
        raise ValueError(f"{where}: rps {value!r} is no number of requests per second, 0 or more")
    return found


def _share(where: str, column: str, value: Any, usual: float) -> float:
    if value in (None, ""):
        return usual
    text = str(value).strip()
    try:
        found = share(text) if text.endswith("%") else float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise ValueError(f"{where}: {column} {text!r} is no share: write for example 0.5% or 0.005")
    return found
