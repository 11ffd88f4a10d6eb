"""Which canary is attached where: ingress-nginx's merging."""

from __future__ import annotations

import pytest

from davylamp.api.objects import Ingress
from davylamp.routers.decision import CANARY, WEIGHT, Request, decide
from davylamp.routers.merging import Location, Upstream, by_age, merge
from tests.builders import Rule, ingress

PLACE = Location("web.example", "/", "Prefix")
HERE: Rule = ("web.example", "/", "web-canary")


def canary(name: str = "web-canary", rules: list[Rule] | None = None, *, weight: int = 30, age: float = 1) -> Ingress:
    return ingress(name, rules or [HERE], annotations={CANARY: "true", WEIGHT: str(weight)}, age=age)


def attached(*ingresses: Ingress, place: Location = PLACE) -> str | None:
    """The Ingress whose canary shares the requests at `place`."""
    found = merge(ingresses).at(place)
    return found[1].ingress if found is not None and found[1] is not None else None


def test_a_canary_is_attached_to_the_ingress_of_the_same_place() -> None:
    main, found = merge([ingress(), canary()]).at(PLACE) or (None, None)
    assert main == Upstream("web", "80")
    assert found is not None
    assert (found.upstream, found.config.share) == (Upstream("web-canary", "80"), 30)
    assert decide(found.config, Request(roll=31)) == "main"


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (("web.example", "/", "web-canary", 80, "Exact"), "another pathType"),
        (("web.example", "/a", "web-canary"), "another path"),
        (("web.example", "", "web-canary", 80, "ImplementationSpecific"), "an empty path"),
        (("foo.example", "/", "web-canary"), "another host"),
        (("*.example", "/", "web-canary"), "a wildcard that covers the host"),
        (("web.example", "/", "web"), "the main Service itself"),
    ],
)
def test_a_canary_is_not_attached(rule: Rule, why: str) -> None:
    assert attached(ingress(), canary(rules=[rule])) is None, why


def test_a_canary_alone_serves_nothing() -> None:  # acceptance cases 1 and 12
    assert merge([canary()]).at(PLACE) is None
    merged = merge([ingress(rules=[("bar.example", "/", "web")]), canary(rules=[("foo.example", "/", "web-canary")])])
    assert merged.at(Location("foo.example", "/", "Prefix")) is None


def test_of_two_canaries_only_the_oldest_counts() -> None:
    assert attached(ingress(), canary("a", [("web.example", "/", "x")], age=2), canary("b", age=3)) == "a"
    assert attached(ingress(), canary("a", [("web.example", "/", "x")], age=3), canary("b", age=2)) == "b"


def test_of_equally_old_ones_the_last_in_the_alphabet_is_first() -> None:
    assert [i.metadata.name for i in by_age([canary("a"), canary("c"), canary("b"), ingress("x", age=0)])] == [
        "x",
        "c",
        "b",
        "a",
    ]


def test_a_canary_reaches_every_place_that_shares_the_main_service() -> None:
    other = ingress("internal", [("internal.example", "/api", "web"), ("internal.example", "/x", "web", "http")])
    found = [ingress(), other, canary()]
    assert attached(*found, place=Location("internal.example", "/api", "Prefix")) == "web-canary"
    assert attached(*found, place=Location("internal.example", "/x", "Prefix")) is None  # the port is by name there


def test_a_path_that_matches_nothing_on_a_known_host_removes_the_canary_everywhere() -> None:
    lost = canary(rules=[HERE, ("web.example", "/gone", "web-canary")])
    assert attached(ingress(), lost) is None
    unknown_host = canary(rules=[HERE, ("gone.example", "/", "web-canary")])
    assert attached(ingress(), unknown_host) == "web-canary"


def test_a_removed_canary_still_hides_a_younger_one() -> None:
    removed = canary("first", [("web.example", "/", "x"), ("web.example", "/gone", "x")], age=1)
    assert attached(ingress(), removed, canary("second", age=2)) is None


def test_a_canary_that_lost_its_mark_is_an_ordinary_ingress_and_the_older_one_wins() -> None:
    stripped = ingress("web-canary", [HERE], annotations={WEIGHT: "10"}, age=1)
    assert (merge([ingress(age=0), stripped]).at(PLACE) or [None])[0] == Upstream("web", "80")
    assert (merge([ingress(age=2), stripped]).at(PLACE) or [None])[0] == Upstream("web-canary", "80")


def test_the_rules_of_a_shared_canary_service_are_the_oldest_ones() -> None:
    mains = [ingress(), ingress("b", [("b.example", "/", "web")])]
    older = canary("c1", weight=10, age=1)
    younger = canary("c2", [("b.example", "/", "web-canary")], weight=90, age=2)
    (found,) = merge([*mains, older, younger]).canaries.values()
    assert (found.ingress, found.config.share) == ("c1", 10)


def test_a_canarys_default_backend_is_attached_to_every_path_without_a_host() -> None:
    main = ingress(rules=[("", "/", "web"), ("web.example", "/", "other")])
    found = merge([main, ingress("c", [], annotations={CANARY: "true", WEIGHT: "5"}, default="web-canary", age=1)])
    assert list(found.canaries) == [Upstream("web", "80")]


def test_an_empty_path_of_an_ordinary_ingress_is_the_root() -> None:
    main = ingress(rules=[("web.example", "", "web", 80, "ImplementationSpecific")])
    like_root: Rule = ("web.example", "/", "web-canary", 80, "ImplementationSpecific")
    place = Location("web.example", "/", "ImplementationSpecific")
    assert attached(main, canary(rules=[like_root]), place=place) == "web-canary"
