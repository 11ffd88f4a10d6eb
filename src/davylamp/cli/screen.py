"""Printing: colours on a terminal, plain lines in a pipe, and what there is of Unicode in either."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from davylamp.view.lines import Line, Look, plain

if TYPE_CHECKING:
    from rich.text import Text

STYLES = {
    "strong": "bold",
    "dim": "dim",
    "good": "green",
    "busy": "cyan",
    "waiting": "yellow",
    "bad": "bold red",
    "stable": "green",
    "canary": "yellow",
}


class Screen(msgspec.Struct, frozen=True):
    """A stream, and what it can show."""

    stream: TextIO
    terminal: bool
    utf8: bool
    width: int | None

    def print(self, lines: Iterable[Line]) -> None:
        """Lines that fit (see `davylamp.view.lines.fold`)."""
        if not self.terminal:
            for line in lines:
                self.say(plain(line))
            return
        console = self.console()
        for line in lines:
            console.print(styled(line), soft_wrap=True)

    def say(self, text: str) -> None:
        """A line without style."""
        self.stream.write(text + "\n")
        self.stream.flush()

    def console(self) -> Any:
        """A rich Console. It honours NO_COLOR and TERM=dumb by itself."""
        from rich.console import Console

        return Console(file=self.stream, highlight=False, emoji=False, markup=False)

    def resized(self) -> Screen:
        """The same with its width as it is now."""
        return msgspec.structs.replace(self, width=shutil.get_terminal_size().columns) if self.terminal else self

    def look(self, program: str, flags: str, kubectl: str = "kubectl") -> Look:
        width = self.width if self.terminal else None
        return Look(utf8=self.utf8, width=width, program=program, flags=flags, kubectl=kubectl)


def screen(stream: TextIO | None = None) -> Screen:
    """What standard output (or another stream) can show."""
    out = sys.stdout if stream is None else stream
    terminal = out.isatty() and os.environ.get("TERM") != "dumb"
    utf8 = (getattr(out, "encoding", None) or "ascii").lower().replace("-", "") == "utf8"
    reconfigure = getattr(out, "reconfigure", None)
    if reconfigure is not None:
        # A container's last words may have what this stream can't show; that is no reason to fail.
        reconfigure(errors="backslashreplace")
    return Screen(out, terminal, utf8, shutil.get_terminal_size().columns if terminal else None)


def errors() -> Screen:
    """Standard error, for what is no part of the answer."""
    return screen(sys.stderr)


def styled(line: Line) -> Text:
    """A line for rich."""
    from rich.text import Text

    text = Text(no_wrap=True)
    for span in line:
        text.append(span.text, STYLES.get(span.style, ""))
    return text
