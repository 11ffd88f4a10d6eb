"""Lines of styled text, and their glyphs: what `davylamp.view.text` is made of, and what a screen prints.

A line is a sequence of spans, so that the same rendering gives colours on a terminal and plain text in a pipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from typing import Literal

import msgspec

from davylamp.view.words import clean, clock, spelled

Style = Literal["", "strong", "dim", "good", "busy", "waiting", "bad", "stable", "canary"]


class Span(msgspec.Struct, frozen=True):
    text: str
    style: Style = ""


Line = tuple[Span, ...]


class Look(msgspec.Struct, frozen=True):
    """How to say it to this person: the glyphs, the width to fold at (None: never), their way to call us."""

    utf8: bool = True
    width: int | None = None
    program: str = "davy"
    flags: str = ""
    """What has to stand in a command for it to reach the same namespace and cluster: `-n shop`."""
    kubectl: str = "kubectl"
    """kubectl, with what it needs to reach the same cluster: `kubectl --context prod`."""
    pods: int = 12
    """How many pods of one side are listed; of more than that, those that aren't ready come first."""
    zone: tzinfo | None = None
    """None is the one of this machine."""

    @property
    def glyphs(self) -> Glyphs:
        return UNICODE if self.utf8 else ASCII

    def at(self, moment: datetime, now: datetime) -> str:
        return clock(moment, now, self.zone)

    def text(self, text: str) -> str:
        """Somebody's sentence: harmless, and with its commands as this person types them."""
        return spelled(clean(text), self.program, self.flags, self.kubectl)


class Glyphs(msgspec.Struct, frozen=True):
    done: str
    now: str
    ahead: str
    failed: str
    stopped: str
    branch: str
    last: str
    arrow: str
    more: str
    full: str
    parts: str
    """Of a cell of a bar, from nothing to almost full."""
    asked: str


UNICODE = Glyphs("✔", "▶", "○", "✘", "■", "├", "└", "→", "…", "█", " ▏▎▍▌▋▊▉", "░")
ASCII = Glyphs("[x]", "[>]", "[ ]", "[!]", "[-]", "|", "`", "->", "...", "#", " ", ".")


def bar(share: float, asked: float, cells: int, glyphs: Glyphs) -> str:
    """`share` percent of `cells` filled, and the way up to `asked` hinted at."""
    eighths = round(min(max(share, 0), 100) / 100 * cells * len(glyphs.parts))
    full, rest = divmod(eighths, len(glyphs.parts))
    filled = glyphs.full * full + (glyphs.parts[rest] if rest else "")
    hinted = glyphs.asked * max(round(asked / 100 * cells) - len(filled), 0)
    return (filled + hinted).ljust(cells)


def plain(line: Line) -> str:
    return "".join(span.text for span in line).rstrip()


def width_of(line: Iterable[Span]) -> int:
    return sum(len(span.text) for span in line)


def columns(rows: list[list[Span]], gap: int = 2) -> list[Line]:
    """Rows under each other, each column as wide as its widest cell; the last one as it is, empty ones left out."""
    if not rows:
        return []
    widths = [max(len(row[i].text) for row in rows) for i in range(len(rows[0]))]
    widths = [width + gap if width else 0 for width in widths]
    lines = []
    for row in rows:
        padded = [Span(cell.text.ljust(width), cell.style) for cell, width in zip(row, widths, strict=True)]
        lines.append((*padded[:-1], row[-1]))
    return lines


def cut(line: Line, width: int | None, more: str) -> Line:
    """`line` with its last span shortened to fit, though never to less than a few words."""
    if width is None or width_of(line) <= width:
        return line
    *rest, last = line
    room = max(width - width_of(rest) - len(more), 20)
    return (*rest, Span(last.text[:room].rstrip() + more, last.style)) if len(last.text) > room else line


def fold(line: Line, width: int | None, indent: int) -> Iterator[Line]:
    """`line` in pieces of at most `width` characters, broken between words; those after the first are indented."""
    if width is None or width_of(line) <= width or width < indent + 20:
        yield line
        return
    piece: list[Span] = []
    room = width
    for span in line:
        for word in _words(span.text):
            if len(word.rstrip()) > room and width_of(piece) > indent:
                yield tuple(piece)
                piece, room = [Span(" " * indent)], width - indent
                word = word.lstrip()
            piece.append(Span(word, span.style))
            room -= len(word)
    yield tuple(piece)


def _words(text: str) -> Iterator[str]:
    """Words, each with the spaces behind it (and leading ones as a word of their own)."""
    start = 0
    for index in range(1, len(text)):
        if text[index - 1] == " " and text[index] != " ":
            yield text[start:index]
            start = index
    if text[start:]:
        yield text[start:]
