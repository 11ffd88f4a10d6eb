"""Files that a command is given."""

from __future__ import annotations

import sys
from pathlib import Path

from davylamp.cli.exits import BAD_INPUT, Failure


def text_of(file: str) -> str:
    """What is in a file; - is standard input. Raises Failure where that can't be read."""
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"{file} can't be read: {error.strerror}", BAD_INPUT) from error
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is not UTF-8 text", BAD_INPUT) from error
