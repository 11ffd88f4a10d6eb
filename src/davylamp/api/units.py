"""Durations and pod counts as people write them: `90s`, `10m`, `1h30m`; `3`, `25%`."""

from __future__ import annotations

import math
import re

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_PERCENT = re.compile(r"(\d{1,5})%")

DURATION_PATTERN = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"
"""The same rule as a pattern for the CRD's schema."""

PERCENT_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,6})?%$"
"""A share as people write it, for the CRD's schema."""


def share(text: str) -> float:
    """The share, 0 to 1 (or more), in a percentage such as `1%` or `0.5%`.

    Raises ValueError, with what would be right, where there is none.
    """
    if not re.fullmatch(PERCENT_PATTERN, text):
        hint = f"; did you mean {text}%?" if re.fullmatch(r"[0-9.]+", text) else ""
        raise ValueError(f'"{text}" is not a percentage: write for example 1% or 0.5%{hint}')
    return float(text[:-1]) / 100


def seconds(text: str) -> float:
    """Seconds in a duration such as `90s`, `10m`, `1h30m` or `500ms`.

    Raises ValueError, with what would be right, where there is no unit or the order of units is wrong.
    """
    found = _DURATION.fullmatch(text) if text else None
    if found is None:
        hint = f"; did you mean {text}s or {text}m?" if text.isdigit() else ""
        raise ValueError(f'"{text}" is not a duration: write for example 30s, 10m or 1h30m{hint}')
    hours, minutes, secs, millis = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + secs + millis / 1000


def readable(secs: float) -> str:
    """A duration for people, in at most two units: `1.7 s`, `42 s`, `9 min 58 s`, `2 h 5 min`."""
    if secs < 10 and secs != int(secs):
        return f"{secs:.1f} s"
    whole = round(secs)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def count(value: int | str, whole: int, *, up: bool = True) -> int:
    """Pods in `value`, a number or a percentage of `whole`; percentages are rounded up (down with `up=False`),
    as Kubernetes does for maxSurge (up) and maxUnavailable (down).

    Raises ValueError where `value` is neither.
    """
    if isinstance(value, int):
        return value
    found = _PERCENT.fullmatch(value)
    if found is None:
        raise ValueError(f'"{value}" is not a number of pods: write for example 2 or "25%"')
    share = whole * int(found[1]) / 100
    return math.ceil(share) if up else math.floor(share)
