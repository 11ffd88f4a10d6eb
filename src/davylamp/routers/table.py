"""What each router can do, as docs/routers.md has it: `python -m davylamp.routers.table docs/routers.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from davylamp.routers.features import ALL, Features, Operator
from davylamp.routers.registry import ROUTERS

BEGIN = "<!-- made from the routers' declarations by `make generate` -->\n"
END = "<!-- end -->\n"
_ORDER: tuple[Operator, ...] = ("exact", "prefix", "regex", "present")
_MIRROR = {"": "no", "all": "all requests or none", "percent": "a percentage"}


def table() -> str:
    """In Markdown: a column for each router, and below it what else is different."""
    found = [(router.field, router.features) for router in ROUTERS]
    rows = [
        ["", *(f"`{field}`" for field, _ in found)],
        ["---"] * (len(found) + 1),
        ["weight", *("yes" for _ in found)],
        ["header", *(_operators(one.header) for _, one in found)],
        ["cookie", *(_operators(one.cookie) for _, one in found)],
        ["query parameter", *(_operators(one.query) for _, one in found)],
        ["labels of the pod that asks", *(_yes(one.source_labels) for _, one in found)],
        ["several conditions that must hold together", *(_yes(one.several_conditions) for _, one in found)],
        ["different headers or cookies in one `match`", *(_yes(one.several_names) for _, one in found)],
        ["`never` keeps a client on stable where `always` is matched", *(_yes(one.opt_out) for _, one in found)],
        ["copies (`mirror`)", *(_MIRROR[one.mirror] for _, one in found)],
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *(line for field, one in found for line in _notes(field, one)), ""])


def replaced(text: str) -> str:
    """A document with the table as it should be. Raises ValueError where it has no place for one."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no place for the table: {BEGIN!r} and {END!r}")
    return before + begin + "\n" + table() + "\n" + end + after


def _operators(can: frozenset[Operator]) -> str:
    if can == ALL:
        return "all ways"
    return ", ".join(f"`{one}`" for one in _ORDER if one in can) or "no"


def _yes(can: bool) -> str:
    return "yes" if can else "no"


def _notes(field: str, features: Features) -> list[str]:
    return [f"- `{field}`: {note}" for note in features.notes]


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(replaced(page.read_text(encoding="utf-8")), encoding="utf-8")
