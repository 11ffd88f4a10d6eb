"""The Prometheus text format and OpenMetrics 1.0, as far as counters and histograms need them.

Why not `prometheus_client.parser`: it takes more than ten times as long (`python -m bench signals`), and every look
at a release parses thousands of series. What is kept is the raw text of each series' labels; it is the same text
in every scrape, so that taking it apart (`labels`) is done once.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/. Timestamps and exemplars are read over.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

import msgspec

MAX_SERIES = 100_000
MAX_LABELS = 4096
"""Characters in one series' labels."""

_LABELS = r'\{[^}\n]*(?<=")(?<!=")(?<!=[ \t]")(?<!\\")\}|\{(?:[^"{}\n]|"(?:[^"\\\n]|\\.)*")*\}'
"""The first form is the quicker; the second lets values contain a brace. A brace that ends the labels comes after a
quote that ends a value: not the one that begins it, nor one that is escaped."""
_REST = r"(?:[ \t]+-?[\d.]+(?:[eE][-+]?\d+)?)?[ \t]*(?:#[^\n]*)?$"
_SAMPLE = re.compile(
    rf"^[ \t]*([a-zA-Z_:][\w:]*)[ \t]*({_LABELS})?[ \t]*([^\s#{{}}\"]+){_REST}", re.MULTILINE | re.ASCII
)
_IGNORED = re.compile(r"[ \t]*(?:#[^\n]*)?")
_PAIR = re.compile(r'[ \t]*([a-zA-Z_][\w.]*)[ \t]*=[ \t]*"((?:[^"\\\n]|\\.)*)"[ \t]*(?:,|$)', re.ASCII)
_ESCAPE = re.compile(r"\\(.)")

Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted by name."""


class BadExposition(ValueError):
    """The answer can't be used at all; the message says what it is instead."""


class Exposition(msgspec.Struct, frozen=True):
    """One scrape: finite values by sample name and the raw text of the labels (empty, or with its braces)."""

    samples: Mapping[str, Mapping[str, float]]
    types: Mapping[str, str] = {}
    """Of metric families: counter, gauge, histogram, summary, untyped and so on."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    @property
    def size(self) -> int:
        """How many series."""
        return sum(map(len, self.samples.values()))


def decode(body: bytes, content_type: str = "") -> Exposition:
    """Parse an answer. Raises BadExposition where its type or its encoding is not that of metrics; see `parse`."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("text/html", "application/json", "application/xml", "text/xml") or "protobuf" in kind:
        raise BadExposition(f"the answer is {kind}, not metrics in the Prometheus text format (text/plain)")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadExposition(f"the answer is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}") from None
    return parse(text, openmetrics="openmetrics" in kind)


def parse(text: str, *, openmetrics: bool = False) -> Exposition:
    """Values of all series, without those that are given twice or are NaN or infinite (`notes` names them).

    Raises BadExposition where the text is cut off (a half number would look like a counter that went back), has a
    line of neither format, or holds more than MAX_SERIES series.
    """
    _check_end(text, openmetrics)
    samples: dict[str, dict[str, float]] = {}
    odd: dict[str, str] = {}
    rows = _SAMPLE.findall(text.replace("\r\n", "\n") if "\r" in text else text)
    if len(rows) > MAX_SERIES:
        raise BadExposition(f"{len(rows):,} series; at most {MAX_SERIES:,} are read")
    comments = text.count("\n#") + text.startswith("#")
    if len(rows) + comments < text.count("\n"):
        _refuse_line(text)
    for name, key, value in rows:
        family = samples.get(name)
        if family is None:
            family = samples[name] = {}
        try:
            number = float(value)
        except ValueError:
            raise BadExposition(f'{name}{_short(key)} has the value "{_short(value)}", which is no number') from None
        if not math.isfinite(number):
            odd[name + key] = f"the value is {value}"
        if key in family:
            odd[name + key] = "given twice"
        family[key] = number
    return Exposition(samples, _types(text), _without(samples, odd))


def _types(text: str) -> dict[str, str]:
    lines = (rest.partition("\n")[0].split() for rest in f"\n{text}".split("\n# TYPE ")[1:])
    return {words[0]: words[1] for words in lines if len(words) == 2}


def _check_end(text: str, openmetrics: bool) -> None:
    if not text.strip():
        raise BadExposition("the answer is empty")
    if text.lstrip()[:1] in "<[" or text.lstrip()[:2] in ('{"', "{\n"):
        raise BadExposition(f'the answer is no metrics: it begins with "{_short(text.strip())}"')
    if openmetrics and not text.rstrip().endswith("# EOF"):
        raise BadExposition("the answer is cut off: OpenMetrics ends in a line # EOF")
    if not openmetrics and not text.endswith("\n") and not text.endswith("# EOF"):
        raise BadExposition("the answer is cut off: its last line has no line end, which the text format demands")


def _refuse_line(text: str) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if not _SAMPLE.fullmatch(line) and not _IGNORED.fullmatch(line):
            raise BadExposition(f'line {number} is no metric: "{_short(line)}"')


def _without(samples: dict[str, dict[str, float]], odd: dict[str, str]) -> tuple[str, ...]:
    """Takes the odd series out; a sentence for each reason, with the first series as an example."""
    first: dict[str, str] = {}
    for series, reason in odd.items():
        name, brace, rest = series.partition("{")
        del samples[name][brace + rest]
        first.setdefault(reason, series)
    counts = Counter(odd.values())
    return tuple(f"{counts[reason]} series left out, {reason}: {_short(series)}" for reason, series in first.items())


@lru_cache(maxsize=20_000)  # some 20 MB
def labels(text: str) -> Labels:
    """The labels in `{a="x",b="y"}`, sorted by name.

    Raises BadExposition for text that is none, is longer than MAX_LABELS, or names a label twice.
    """
    if len(text) > MAX_LABELS:
        raise BadExposition(f"labels of {len(text):,} characters (at most {MAX_LABELS:,} are read): {_short(text)}")
    inner = text[1:-1].strip()
    found: dict[str, str] = {}
    at = 0
    while at < len(inner):
        pair = _PAIR.match(inner, at)
        if pair is None:
            raise BadExposition(f"labels that can't be read: {_short(text)}")
        if pair[1] in found:
            raise BadExposition(f"the label {pair[1]} is given twice: {_short(text)}")
        found[pair[1]] = _unescaped(pair[2])
        at = pair.end()
    return tuple(sorted(found.items()))


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], value)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:117]}..."
