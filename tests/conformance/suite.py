"""One conformance suite for all routers: each case is a YAML in `cases/`, and what its requests must meet.

`check` says it of any bed: a real control plane with real proxies (tests/cluster), or the embedded cluster's store with
the routers' decision functions (`imagined`). A case is skipped only where the router declares that it lacks a feature,
and then the router must refuse the exposure; where it lacks nothing it must not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
import yaml

from davylamp.api.types import Match
from davylamp.core.world import Exposure, Route
from davylamp.routers.features import Features

REQUESTS = 1000
"""Of a case: so many that must reach the canary, so many of which the weight's share does, so many that must not."""
PROBES = 100
"""Of each of the three, while it is waited for that a proxy has taken the exposure."""
DEVIATIONS = 4.5
"""Standard deviations of the binomial distribution that a share may be off: 7 in a million cases by chance."""
STABLE, CANARY = "v1", "v2"


class Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """A kind of request. `source` are the labels of the pod that it comes from; none: it comes from outside."""

    headers: dict[str, str] = {}
    query: str = ""
    source: dict[str, str] = {}


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Exposure`, as people write it in a policy's step."""

    weight: int
    match: tuple[Match, ...] = ()
    mirror: int = 0


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exposure; requests that must all reach the canary; requests of which the weight's share does; and requests
    that a router with an opt-out keeps on stable (for others they belong to the second kind)."""

    exposure: Asked
    needs: frozenset[str] = frozenset()
    """Of `FEATURES`."""
    chosen: tuple[Sent, ...] = ()
    others: tuple[Sent, ...] = (Sent(),)
    opted_out: tuple[Sent, ...] = ()

    @property
    def wanted(self) -> Exposure:
        return Exposure(self.exposure.weight, self.exposure.match, self.exposure.mirror)


class Answers(msgspec.Struct):
    """Of one kind of request: how many were answered by which version, with which status, and not at all."""

    versions: Counter[str] = msgspec.field(default_factory=Counter)
    statuses: Counter[int] = msgspec.field(default_factory=Counter)
    lost: int = 0

    @property
    def share(self) -> float:
        """Percent that the canary answered."""
        return 100 * self.versions[CANARY] / max(1, self.statuses.total())

    @property
    def good(self) -> bool:
        return self.lost == 0 and set(self.statuses) <= {200}


FEATURES: dict[str, Callable[[Features], bool]] = {
    "header": lambda one: bool(one.header),
    "cookie": lambda one: bool(one.cookie),
    "query": lambda one: bool(one.query),
    "source_labels": lambda one: one.source_labels,
    "several_conditions": lambda one: one.several_conditions,
    "several_names": lambda one: one.several_names,
    "mirror": lambda one: bool(one.mirror),
}


class Bed(Protocol):
    """Two versions that run, and one route of the user's, `web`, that sends to the first."""

    features: Features
    lacks: frozenset[str]
    """Features of the router that this implementation says it doesn't have."""

    def route(self) -> Route:
        """The route with its objects as they are."""

    def expose(self, exposure: Exposure | None) -> None:
        """Write what the router wants until it wants nothing more and has converged."""

    def until(self, condition: Callable[[], bool], what: str) -> None: ...

    def ask(self, kinds: Sequence[tuple[Sent, int]]) -> list[Answers]:
        """Send so many requests of each kind, mixed, and count who answers."""

    def seen(self) -> int:
        """How many requests the canary has got so far, copies among them."""


def _read(path: Path) -> Case:
    try:
        case = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Case)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path.name}: {error}") from error
    unknown = case.needs - FEATURES.keys()
    if unknown:
        raise ValueError(f"{path.name}: needs {', '.join(sorted(unknown))}, which no router declares")
    return case


CASES = {path.stem: _read(path) for path in sorted(Path(__file__).with_name("cases").glob("*.yaml"))}


def check(bed: Bed, name: str) -> None:
    """One case. Skipped where the router lacks what it needs."""
    case = CASES[name]
    _needs(bed, case)
    bed.expose(case.wanted)
    # Few requests tell soon that it isn't; only many tell it from the weight of the case before.
    bed.until(lambda: not (wrong(bed, case, PROBES) or wrong(bed, case, REQUESTS)), f"{name} to take effect")
    found = wrong(bed, case, REQUESTS)
    assert not found, "; ".join(found)


def _needs(bed: Bed, case: Case) -> None:
    """A feature is there or refused, never half there."""
    missing = {need for need in case.needs if not FEATURES[need](bed.features)} | (case.needs & bed.lacks)
    refused = bed.route().refusals(case.wanted)
    assert bool(refused) == bool(missing), f"lacks {sorted(missing)}, refuses {[one.message for one in refused]}"
    if missing:
        pytest.skip(f"{', '.join(sorted(missing))}: {refused[0].message}")


def wrong(bed: Bed, case: Case, requests: int) -> list[str]:
    """Ask so many requests, and say what is not as the case wants it."""
    groups = [(case.chosen, 100.0)]
    if bed.features.opt_out:
        groups += [(case.others, case.exposure.weight), (case.opted_out, 0.0)]
    else:
        groups += [((*case.others, *case.opted_out), case.exposure.weight)]
    kinds = [(kind, -(-requests // len(group))) for group, _ in groups for kind in group]
    before = bed.seen() if case.exposure.mirror else 0
    answers = bed.ask(kinds)
    found, rest = [], list(zip(kinds, answers, strict=True))
    for group, percent in groups:
        mine, rest = rest[: len(group)], rest[len(group) :]
        for (kind, number), answer in mine:
            if not answer.good or answer.statuses.total() != number:
                found.append(f"{kind}: not all answered: {answer}")
            elif abs(answer.share - percent) > spread(percent, number):
                found.append(f"{kind}: {answer.share:.1f} % instead of {percent:g} %")
        share = sum(answer.share for _, answer in mine) / len(mine) if mine else percent
        if (share in (0, 100)) != (percent in (0, 100)):
            found.append(f"{share:g} % of all is not {percent:g} %")
    if case.exposure.mirror and not found:
        weighted = sum(number for kind, number in kinds if kind not in case.chosen)
        found += _copies(bed, before, answers, weighted, case.exposure.mirror)
    return found


def _copies(bed: Bed, before: int, answers: Sequence[Answers], weighted: int, percent: int) -> list[str]:
    """What the canary got beyond what it answered are copies of those who aren't chosen. They may come late."""
    answered = sum(answer.versions[CANARY] for answer in answers)
    least, most = (weighted * (percent + sign * spread(percent, weighted)) / 100 for sign in (-1, 1))

    def copies() -> int:
        return bed.seen() - before - answered

    try:
        bed.until(lambda: copies() >= least, f"{least:.0f} copies")
    except Exception as error:
        return [f"{copies()} copies of {weighted} instead of {percent} %: {error}"]
    return [] if copies() <= most else [f"{copies()} copies of {weighted} instead of {percent} %"]


def spread(percent: float, requests: int) -> float:
    """By how many percent a share of so many requests may be off; nothing for all and none."""
    return float(DEVIATIONS * (percent * (100 - percent) / requests) ** 0.5)


def check_restored(bed: Bed) -> None:
    """Nobody reaches the canary any more, whoever they are."""
    bed.expose(None)
    whoever = (Sent(), Sent({"X-Canary": "true", "Cookie": "canary=true"}), Sent({"X-Canary": "always"}))
    case = Case(Asked(0), others=whoever)
    bed.until(lambda: not wrong(bed, case, PROBES), "nobody to reach the canary")
    assert wrong(bed, case, REQUESTS) == []
