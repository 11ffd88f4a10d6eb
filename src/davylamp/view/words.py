"""Small words of what is shown: times, weights, images, commands; and text of others made harmless."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, tzinfo

from davylamp.api.units import readable


def clean(text: str) -> str:
    """`text` in one line and without control characters: it may be a container's, and must not reach a terminal
    as anything but text."""
    return "".join(" " if char in "\t\n\r" else f"\\x{ord(char):02x}" if _controls(char) else char for char in text)


def _controls(char: str) -> bool:
    # Cf has the marks that turn the direction of writing, which can make a line read as another one.
    return unicodedata.category(char) in ("Cc", "Cf")


def ago(secs: float) -> str:
    """How long something took or lasts, in one unit: `42 s`, `3 min`, `5 h`, `12 d`."""
    whole = max(round(secs), 0)
    if whole < 120:
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h" if whole < 48 * 3600 else f"{whole // 86400} d"


def since(secs: float) -> str:
    """`just now`, `3 min ago`."""
    return "just now" if secs < 2 else f"{ago(secs)} ago"


def left(secs: float) -> str:
    """How long until something, in at most two units and whole seconds."""
    return readable(max(round(secs), 0))


def clock(at: datetime, now: datetime, zone: tzinfo | None = None) -> str:
    """The time of day, with the date where that isn't today's. `zone` None is the one of this machine."""
    there, here = at.astimezone(zone), now.astimezone(zone)
    return f"{there:%H:%M:%S}" if there.date() == here.date() else f"{there:%Y-%m-%d %H:%M}"


def percent(weight: float) -> str:
    return f"{round(weight, 1):g} %"


_DIGEST = re.compile(r"@sha256:([0-9a-f]{12})[0-9a-f]+")


def short(images: str) -> str:
    """Images without their registry and path, and digests by their beginning: `web:v2`, `web@1f3870be274f`."""
    return ", ".join(_DIGEST.sub(r"@\1", image).rpartition("/")[2] for image in images.split(", "))


def pair(stable: str, canary: str) -> tuple[str, str]:
    """Two versions' images, as short as they can be told apart."""
    if stable != canary and short(stable) == short(canary):
        return stable, canary
    return short(stable), short(canary)


def change(stable: str, canary: str, arrow: str) -> str:
    """`web:v1 → web:v2`, or what else than the image has changed."""
    old, new = pair(stable, canary)
    return f"{old} {arrow} {new}" if old != new else f"{new}{SAME_IMAGE}"


SAME_IMAGE = " (another template)"
"""Told of a canary that has stable's image: something else in its template is different."""

_COMMAND = re.compile(r"`davy (status|watch|history|validate|pause|resume|approve|abort|promote|retry|start|adopt)\b")
"""Those that are about a namespace."""


def spelled(text: str, program: str, flags: str, kubectl: str = "kubectl") -> str:
    """`text` with its commands (`davy approve web`, `kubectl ...`) as this person has to type them, for example
    `kubectl davy approve -n shop web`."""
    extra = f" {flags}" if flags else ""
    text = text.replace("`kubectl ", f"`{kubectl} ")
    text = _COMMAND.sub(lambda found: f"`{program} {found[1]}{extra}", text)
    return text.replace("`davy ", f"`{program} ")


def milliseconds(seconds: float) -> str:
    """A duration of a request: `31 ms`, `0.8 ms`, `1.2 s`."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    ms = 1000 * seconds
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"
