"""The counters of a release's pods as they stand, of the series that were chosen for a check."""

from __future__ import annotations

from collections.abc import Iterable

from davylamp.api.analysis import Check
from davylamp.signals.conventions import Choice
from davylamp.signals.counters import Seen
from davylamp.signals.exposition import BadExposition
from davylamp.signals.policy import names_of
from davylamp.signals.scrape import Scrape, choose, seen


def part(choice: Choice, check: Check) -> Choice | None:
    """Of a choice what the check needs; None where that is nothing."""
    part = Choice(choice.errors, None) if check.errors is not None else Choice(None, choice.latency)
    return part if part.errors is not None or part.latency is not None else None


def standing_of(scrapes: Iterable[Scrape], choice: Choice, check: Check, problems: list[str]) -> dict[str, Seen]:
    """The counters of each pod that has them, as they stand."""
    found = {}
    for one in scrapes:
        if one.exposition is None:
            continue
        try:
            counters_of_it = seen(one, choice)
        except BadExposition as error:
            problems.append(f"pod {one.target.pod}: {error}")
            continue
        problems += [f"pod {one.target.pod}: {note}" for note in one.exposition.notes]
        if counters_of_it is not None:
            found[one.target.pod] = counters_of_it
        elif (other := part(choose([one], names_of(check)), check)) is not None:
            told = f"counts as {_read(other)}, but {check.title} reads {_read(choice)} of the other pods"
            problems.append(f"pod {one.target.pod}: {told}")
    return found


def _read(choice: Choice) -> str:
    """The metric that a choice reads."""
    return choice.errors.requests if choice.errors is not None else choice.latency.latency if choice.latency else ""
