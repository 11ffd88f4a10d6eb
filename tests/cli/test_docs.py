"""docs/commands.md says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from davylamp.cli import exits
from tests.cli.conftest import Davy

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()


def test_the_page_has_the_exit_codes_of_the_program() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == exits.MEANINGS


def test_the_page_has_the_commands_of_the_program(davy: Davy) -> None:
    known = set(re.findall(r"^│ ([a-z]+) ", davy("--help").out, re.MULTILINE)) - {"version"}
    named = {word for row in re.findall(r"^\| (`davy .*?) \|", PAGE, re.MULTILINE) for word in _commands(row)}
    assert named == known


def _commands(cell: str) -> list[str]:
    return re.findall(r"`davy ([a-z]+)", cell)
