"""Structured logs: one line an entry, as text for people or as JSON for machines."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

Format = Literal["text", "json"]
FIELDS = ("namespace", "deployment", "release", "policy", "reason")
"""What `extra=` of a log call may carry, in the order in which it is written."""


def set_up(form: Format = "text", level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Make the root logger write `form` to `stream` (standard error where it is left out)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name in FIELDS if (value := getattr(record, name, None))}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """`2026-01-01T12:00:00.000Z INFO  release web-1 begins  namespace=shop deployment=web`"""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={_quoted(str(value))}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}"
        line = f"{line}  {fields}" if fields else line
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """The same as one JSON object: time, level, logger, message, the fields, and error with a stack where there is."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value
