"""Lines of a container's log, put together to entries: a message, how bad it is, and the exception that came with it.

Frameworks write entries in their own ways. Known here: JSON objects a line (the names of fields of logback, log4j2,
zap, zerolog, pino, bunyan, structlog, Serilog, ECS), logfmt, and text of Python, Java, Go (also klog), Node, .NET,
Ruby, nginx and Envoy. Stack traces of these are joined with the line before them, whose message they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import msgspec

MAX_LINE = 16_384
"""Characters of a line that are read; the rest tells nothing more."""
MAX_LINES = 400
"""Of one entry: what is longer is no stack trace but something else that is indented."""


class Level(IntEnum):
    OTHER = 0
    WARNING = 1
    ERROR = 2


class Entry(msgspec.Struct, frozen=True):
    level: Level
    message: str
    """The first line, without time and level."""
    exception: str = ""
    """The type of the exception that came with it: the outermost's, as the trace's own words give it."""
    detail: str = ""
    """What that exception says."""


# --- levels ---

_WARNINGS = "warn warning wrn w"
_ERRORS = "error err eror severe crit critical fatal ftl panic dpanic alert emerg emergency fail failure exception e f"
_LEVELS = dict.fromkeys(_WARNINGS.split(), Level.WARNING) | dict.fromkeys(_ERRORS.split(), Level.ERROR)
_HEAD = 160
"""A level stands within so many characters."""
_WORDS = "trace debug information info notice warning warn error err severe critical crit fatal panic alert emerg"
_ANY = _WORDS.replace(" ", "|")
_LEVEL = re.compile(
    r"\b(?:level|lvl|severity|log\.level)=\"?(\w+)\"?"
    r"|^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+"
    rf"|[\[(<]({_ANY})[\])>]"
    rf"|(?:(?<=^)|(?<=[\s|\[(:]))({_ANY.upper()}|FINE|CONFIG)(?=[\s|:\])/]|$)"
    r"|^(?:\S+ )?(trce|dbug|info|warn|fail|crit|error|warning|fatal|panic|debug|trace): ",
)
_DAY = r"\d{4}[-/]\d\d[-/]\d\d"
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d+)?"
_TIME = re.compile(
    rf"^[\[(]?(?:{_DAY}(?:[T ]{_CLOCK})?(?:Z| ?[+-]\d\d:?\d\d)?|{_CLOCK}|[A-Z][a-z]{{2}} +\d{{1,2}} {_CLOCK}"
    rf"|\d\d/[A-Z][a-z]{{2}}/\d{{4}}:{_CLOCK} [+-]\d{{4}})[\])]?[\s|:-]*"
)
_PINO = {40: Level.WARNING, 50: Level.ERROR, 60: Level.ERROR}


def _level(head: str) -> tuple[Level | None, int, int]:
    """The level that a text line names, and where it stands."""
    found = _LEVEL.search(head, 0, _HEAD)
    if found is None:
        return None, 0, 0
    word = next(text for text in found.groups() if text).lower()
    return _LEVELS.get(word, Level.OTHER), found.start(), found.end()


# --- exceptions ---

_ENDS = "Error|Exception|Exit|Interrupt|Warning|Failure|Fault|Throwable|Panic|Timeout"
_TYPE = rf"(?:[A-Za-z_$][\w$]*(?:\.|::))*[A-Z][\w$]*(?:{_ENDS})"
_EXCEPTION = re.compile(
    rf"^(?:Exception in thread \"[^\"]*\" |Unhandled exception\. |Uncaught |Caused by: )*"
    rf"(?P<type>{_TYPE})\b(?: \[\w+\])?(?::\s*(?P<detail>.*))?$"
)
_GO = re.compile(r"^(?P<type>panic|fatal error): (?P<detail>.*?)(?: \[recovered\])?$")
_BEGINS = re.compile(
    r"^(?:Traceback \(most recent call last\):|panic: |fatal error: |Exception in thread |Unhandled exception\."
    rf"|{_TYPE}(?::|$| \[))"
)
_GOES_ON = re.compile(
    r"^(?:\s+\S|Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames)|During handling of the above"
    r"|The above exception was|goroutine \d+ |created by |\[signal |exit status \d|--- End of |Node\.js v\d|\}\s*$)"
)
_NODE = re.compile(r"^(?:/|file:|node:|\w:\\)\S*:\d+$")
"""What Node writes before an exception that nobody caught: the place, its source, a caret, an empty line."""
_GO_FRAME = re.compile(r"^[\w./*()\-\[\]{}·]+\([^)]*\)(?: in goroutine \d+)?$")


class Joiner:
    """Puts lines to entries. What was put in last may go on, and comes out with the next line or with `flush`."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._trace = False

    @property
    def pending(self) -> bool:
        return bool(self._lines)

    def add(self, line: str) -> Iterator[Entry]:
        """The entries that are complete now that `line` has come."""
        line = line[:MAX_LINE].rstrip()
        if self._lines and len(self._lines) < MAX_LINES and self._belongs(line):
            self._lines.append(line)
            self._trace = self._trace or bool(_BEGINS.match(line))
            return
        yield from self.flush()
        if line:
            self._lines.append(line)
            self._trace = bool(_BEGINS.match(line))

    def flush(self) -> Iterator[Entry]:
        """What has been put in so far, as an entry."""
        if self._lines:
            lines, self._lines, self._trace = self._lines, [], False
            yield entry(lines)

    def _belongs(self, line: str) -> bool:
        node = bool(_NODE.match(self._lines[0]))
        if not line:
            return self._trace or node
        if line[0] == "{":
            return False
        if _GOES_ON.match(line):
            return True
        if _BEGINS.match(line):
            return self._trace or node or not any(one[:1].isspace() for one in self._lines)
        last = self._lines[-1]
        in_python = self._trace and last.startswith("  ") and any(x.startswith("Traceback") for x in self._lines)
        in_go = self._trace and any(one.startswith("goroutine ") for one in self._lines) and _go_frame(line)
        return in_python or in_go


def _go_frame(line: str) -> bool:
    return len(line) < 500 and _GO_FRAME.match(line) is not None


def entry(lines: list[str]) -> Entry:
    """One entry, from all its lines."""
    head = lines[0]
    if head.startswith("{") and head.endswith("}"):
        found = _json(head)
        if found is not None:
            return found
    level, start, end = _level(head)
    exception, detail = _exception(lines)
    if level is None:
        level = Level.ERROR if exception else Level.OTHER
    message = head
    if level is not Level.OTHER:
        message = _message(head, start, end)
        if _is_exception(message):
            message = ""
    return Entry(level, message, exception, detail)


def _message(head: str, start: int, end: int) -> str:
    """The line without its time and level, which say nothing about what happened."""
    rest = " ".join(f"{head[:start]} {head[end:]}".split())
    rest = _TIME.sub("", rest)
    fmt = re.search(r"\bmsg=(\"(?:[^\"\\]|\\.)*\"|\S+)", rest)
    if fmt is not None:
        error = re.search(r"\b(?:err|error)=(\"(?:[^\"\\]|\\.)*\"|\S+)", rest)
        return " ".join(part[1].strip('"') for part in (fmt, error) if part is not None)
    return rest.lstrip("|:-] ")


def _is_exception(text: str) -> bool:
    return bool(_EXCEPTION.match(text) or _GO.match(text) or text.startswith("Traceback (most recent"))


def _exception(lines: list[str]) -> tuple[str, str]:
    """Type and words of the exception in a stack trace. Java, Node and .NET begin with it, Python ends with it; of
    several in Python the last is the outermost."""
    if len(lines) == 1 and not _BEGINS.match(lines[0]):
        return "", ""
    python = any(line.startswith("Traceback (most recent") for line in lines)
    for line in reversed(lines) if python else lines:
        text = line.strip()
        found = _GO.match(text) or _EXCEPTION.match(text)
        if found is not None and not text.startswith("Caused by"):
            return found["type"], (found["detail"] or "").strip()
    return ("Traceback", "") if python else ("", "")


# --- JSON ---

_MESSAGES = ["@mt", "MessageTemplate", "message", "msg", "event", "log", "Message", "@m", "text", "textPayload", "body"]
_NAMED = ["level", "severity", "lvl", "log.level", "levelname", "@l", "Level", "LogLevel", "loglevel", "severity_text"]
_TRACES = [
    "stack_trace",
    "stack",
    "exception",
    "exc_info",
    "traceback",
    "@x",
    "Exception",
    "thrown",
    "stacktrace",
    "err",
    "error",
]
_KINDS = ("type", "class", "name", "exception_class", "kind")


def _json(line: str) -> Entry | None:
    try:
        fields = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    if not isinstance(fields, dict):
        return None
    given = next((fields[name] for name in _NAMED if name in fields), fields.get("log", {}))
    if isinstance(given, dict):
        given = given.get("level", "")
    if isinstance(given, int | float):
        level = _PINO.get(int(given) // 10 * 10, Level.OTHER)
    else:
        level = _LEVELS.get(str(given).lower(), Level.OTHER)
    message = next((fields[name] for name in _MESSAGES if isinstance(fields.get(name), str)), "")
    exception, detail = _json_exception(fields)
    if exception and not given:
        level = Level.ERROR
    return Entry(level, message.partition("\n")[0], exception, detail)


def _json_exception(fields: dict[str, Any]) -> tuple[str, str]:
    named = fields.get("error.type") or fields.get("exception.type")
    if isinstance(named, str):
        return named, str(fields.get("error.message") or fields.get("exception.message") or "")
    for name in _TRACES:
        found = fields.get(name)
        if isinstance(found, dict):
            kind = next(
                (str(found[key]) for key in ("type", "class", "name", "exception_class", "kind") if key in found), ""
            )
            words = str(found.get("message") or found.get("exception_message") or "")
            if kind or words:
                return kind or "Error", words.partition("\n")[0]
        elif isinstance(found, str) and found:
            lines = found.splitlines()
            kind, words = _exception([*lines, ""])
            if kind:
                return kind, words
            if name in ("err", "error"):
                return "", lines[0]
    return "", ""
