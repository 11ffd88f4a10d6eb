"""docs/routers.md shows what the routers declare."""

from __future__ import annotations

from pathlib import Path

import pytest

from davylamp.routers.registry import ROUTERS
from davylamp.routers.table import replaced, table

PAGE = Path(__file__).parents[2] / "docs" / "routers.md"


def test_the_table_in_the_documentation_is_the_one_of_the_declarations() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert replaced(text) == text, "`make generate` puts it right"


def test_every_router_has_a_column_and_its_notes() -> None:
    made = table()
    for router in ROUTERS:
        assert f"| `{router.field}` " in made
        assert all(note in made for note in router.features.notes)


def test_a_page_without_a_place_for_the_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for the table"):
        replaced("# Routers\n")
