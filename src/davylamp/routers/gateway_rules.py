"""The rules of an HTTPRoute or GRPCRoute with a canary in them, and back.

Every rule that sends to the Service gets the canary's Service beside it in `backendRefs`. For matches it is followed
by a rule that asks for the same and the match, with the same filters, timeouts and whatever else the rule has, whose
share for the Service goes to the canary's.

That rule asks for more than the one it comes from, so it can overtake a rule that sends somewhere else and had come
first: `/` with a header loses to our `/` with a header and a cookie. So a rule that would be overtaken gets a copy
with the match, too, which sends where it sends. Adding the same to two matches leaves their order, in the
specification's precedence as in Traefik's sum of weights; so the copies come in the same order as the rules. This
holds unless one of them asks for that header already: then it is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from davylamp.api.types import Match, TextMatch
from davylamp.core.matching import conditions
from davylamp.core.world import Exposure, Refusal
from davylamp.routers.patterns import cookie_pattern, value_pattern
from davylamp.routers.precedence import RANKINGS, Rule, RuleMatch, matches_of, may_meet, weight_of
from davylamp.routers.restoring import Changed, Record, apportioned
from davylamp.routers.senders import is_service

RULES, MATCHES, ALL_MATCHES, BACKENDS, ASKED, FILTERS = 16, 64, 128, 16, 16, 16
"""At most so many rules, matches in a rule, matches in a route, backends, headers in a match, filters (CRD, v1.6)."""
HEAVIEST = 1_000_000


class Place(msgspec.Struct, frozen=True):
    """Whose requests are divided: the user's Service, ours for the canary, and their namespace."""

    namespace: str
    service: str
    canary: str
    grpc: bool = False

    def is_stable(self, ref: dict[str, Any]) -> bool:
        return is_service(ref, self.namespace) and ref.get("name") == self.service

    def is_canary(self, ref: dict[str, Any]) -> bool:
        return is_service(ref, self.namespace) and ref.get("name") == self.canary

    def sends(self, rule: Rule) -> bool:
        """Whether some of the rule's requests go to the user's Service."""
        return any(self.is_stable(ref) and weight_of(ref) > 0 for ref in backends_of(rule))


class Divided(msgspec.Struct, frozen=True):
    """Rules with a canary in them, what to remember, and what of the exposure had to be left out."""

    rules: list[Rule]
    record: Record | None
    problems: tuple[Refusal, ...] = ()


def rules_of(spec: dict[str, Any]) -> list[Rule]:
    found = spec.get("rules")
    return [rule for rule in found if isinstance(rule, dict)] if isinstance(found, list) else []


def backends_of(rule: Rule) -> list[dict[str, Any]]:
    found = rule.get("backendRefs")
    return [ref for ref in found if isinstance(ref, dict)] if isinstance(found, list) else []


# --- there ---


def divided(rules: Sequence[Rule], exposure: Exposure, place: Place) -> Divided:
    """`rules`, the user's own, with `exposure`. What can't be said is left out and told."""
    problems: list[Refusal] = []
    changed: list[Changed] = []
    more: dict[int, list[RuleMatch]] = {}
    kept: list[Match] = []
    for number, match in enumerate(exposure.match):
        asked = _asked(match)
        wrong = list(_clashes(rules, asked, place))
        if wrong:
            problems += (Refusal(text, number) for text in wrong)
            continue
        kept.append(match)
        for at in _extended(rules, asked, place):
            more.setdefault(at.rule, []).append(_with(at.match, asked))
    result: list[Rule] = []
    added: list[list[RuleMatch]] = []
    for index, rule in enumerate(rules):
        written = rule
        if place.sends(rule):
            written, was, refused = _shared(rule, exposure, place)
            changed += was
            problems += refused
        copies = list(_copies(rule, more.get(index, []), place))
        added += (one["matches"] for one in copies)
        result += [written, *copies]
    problems += _too_many(result)
    mirrored = exposure.mirror > 0
    if not (changed or added or mirrored):
        return Divided(result, None, tuple(problems))
    return Divided(result, Record(tuple(changed), tuple(added), tuple(kept), mirrored), tuple(problems))


def _shared(rule: Rule, exposure: Exposure, place: Place) -> tuple[Rule, list[Changed], list[Refusal]]:
    """The user's rule with the canary beside the Service. A refusal leaves the weights as they are."""
    written = dict(rule)
    if exposure.mirror:
        written["filters"] = [*(rule.get("filters") or ()), *_mirrors(rule, exposure.mirror, place)]
    if not exposure.weight:
        return written, [], []
    refs = backends_of(rule)
    stable = [index for index, ref in enumerate(refs) if place.is_stable(ref) and weight_of(ref) > 0]
    try:
        parts = apportioned([weight_of(ref) for ref in refs], stable, exposure.weight, HEAVIEST)
    except ValueError as error:
        return written, [], [Refusal(str(error), field="weight")]
    wrote: list[dict[str, Any]] = []
    for index, (ref, (stays, goes)) in enumerate(zip(refs, parts, strict=True)):
        wrote.append({**ref, "weight": stays})
        if index in stable:
            wrote.append({**copy.deepcopy(ref), "name": place.canary, "weight": goes})
    written["backendRefs"] = wrote
    return written, [Changed(wrote, refs)], []


def _mirrors(rule: Rule, percent: int, place: Place) -> Iterator[dict[str, Any]]:
    """Copies for the canary: of the first port of the Service that the rule sends to."""
    port = next((ref.get("port") for ref in backends_of(rule) if place.is_stable(ref)), None)
    target = {"group": "", "kind": "Service", "name": place.canary} | ({"port": port} if port is not None else {})
    share = {"percent": percent} if percent < 100 else {}
    yield {"type": "RequestMirror", "requestMirror": {"backendRef": target} | share}


def _asked(match: Match) -> RuleMatch:
    """A match in the words of the API; a cookie is a header."""
    headers: list[dict[str, str]] = []
    queries: list[dict[str, str]] = []
    for field, wanted in conditions(match):
        if field == "cookie":
            headers.append({"type": "RegularExpression", "name": "Cookie", "value": cookie_pattern(wanted)})
        else:
            (headers if field == "header" else queries).append(_condition(wanted))
    return {key: value for key, value in (("headers", headers), ("queryParams", queries)) if value}


def _condition(wanted: TextMatch) -> dict[str, str]:
    if wanted.exact is not None:
        return {"type": "Exact", "name": wanted.name, "value": wanted.exact}
    return {"type": "RegularExpression", "name": wanted.name, "value": value_pattern(wanted)}


def _with(match: RuleMatch, asked: RuleMatch) -> RuleMatch:
    """A match that asks for both."""
    both = {key: [*(match.get(key) or ()), *asked[key]] for key in asked}
    return {**copy.deepcopy(match), **both}


class _At(msgspec.Struct, frozen=True):
    """One match of a rule, by its place."""

    rule: int
    match: RuleMatch


def _extended(rules: Sequence[Rule], asked: RuleMatch, place: Place) -> list[_At]:
    """The matches that need a copy with `asked`: all that send to the Service, and those that would be overtaken."""
    every = [_At(index, match) for index, rule in enumerate(rules) for match in matches_of(rule, grpc=place.grpc)]
    extended = [at for at in every if place.sends(rules[at.rule])]
    others = [at for at in every if not place.sends(rules[at.rule])]
    while overtaken := [at for at in others if any(_overtakes(by, at, asked, place) for by in extended)]:
        extended += overtaken
        others = [at for at in others if at not in overtaken]
    return extended


def _overtakes(by: _At, other: _At, asked: RuleMatch, place: Place) -> bool:
    """Whether `by` with `asked` would come before `other`, which comes before it without."""
    if not may_meet(by.match, other.match, grpc=place.grpc):
        return False
    more = _with(by.match, asked)
    for ranking in RANKINGS:
        theirs = (ranking(other.match, grpc=place.grpc), -other.rule)
        if (ranking(by.match, grpc=place.grpc), -by.rule) < theirs < (ranking(more, grpc=place.grpc), -by.rule):
            return True
    return False


def _copies(rule: Rule, matches: list[RuleMatch], place: Place) -> Iterator[Rule]:
    """Rules for `matches`, as few as may be. A rule's name is its own, so they have none."""
    at_once = 1 if _one_match_only(rule) else MATCHES
    for start in range(0, len(matches), at_once):
        made = copy.deepcopy({key: value for key, value in rule.items() if key != "name"})
        made["matches"] = matches[start : start + at_once]
        if "backendRefs" in made:
            made["backendRefs"] = [
                {**ref, "name": place.canary} if place.is_stable(ref) else ref for ref in backends_of(made)
            ]
        yield made


def _one_match_only(rule: Rule) -> bool:
    """The API server takes a filter that replaces a path's prefix only in a rule with one match."""
    lists = [rule.get("filters"), *(ref.get("filters") for ref in backends_of(rule))]
    filters = [one for found in lists for one in found or ()]
    changes = [one.get(field) or {} for one in filters for field in ("urlRewrite", "requestRedirect")]
    return any((change.get("path") or {}).get("type") == "ReplacePrefixMatch" for change in changes)


def _clashes(rules: Sequence[Rule], asked: RuleMatch, place: Place) -> Iterator[str]:
    """A header that a rule asks for itself: the API knows only one condition for each name, and the copies' order
    would no longer be the rules'."""
    stable = [match for rule in rules if place.sends(rule) for match in matches_of(rule, grpc=place.grpc)]
    for index, rule in enumerate(rules):
        for match in matches_of(rule, grpc=place.grpc):
            if not any(may_meet(one, match, grpc=place.grpc) for one in stable):
                continue
            for key, what in (("headers", "header"), ("queryParams", "query parameter")):
                taken = {str(one.get("name", "")).lower() for one in match.get(key) or ()}
                for name in (one["name"] for one in asked.get(key, ()) if one["name"].lower() in taken):
                    yield f"spec.rules[{index}] asks for the {what} {name} itself: choose another one"
            if len(match.get("headers") or ()) + len(asked.get("headers", ())) > ASKED:
                yield f"spec.rules[{index}] has a match with {ASKED} headers, the most that there may be"


def _too_many(rules: Sequence[Rule]) -> Iterator[Refusal]:
    """The API's limits, for the rules as they would be written."""
    every = sum(len(rule.get("matches") or ()) for rule in rules)
    if len(rules) > RULES:
        yield Refusal(f"it would have {len(rules)} rules, and the API allows {RULES}: put fewer rules into one route")
    elif every > ALL_MATCHES:
        yield Refusal(f"it would have {every} matches in all, and the API allows {ALL_MATCHES}: use fewer matches")
    for index, rule in enumerate(rules):
        for key, most in (("matches", MATCHES), ("backendRefs", BACKENDS), ("filters", FILTERS)):
            if len(rule.get(key) or ()) > most:
                text = f"rule {index + 1} would have {len(rule[key])} {key}, and the API allows {most}"
                yield Refusal(f"{text}: split it into several")


# --- and back ---


def restored(rules: Sequence[Rule], record: Record | None, place: Place) -> list[Rule]:
    """`rules` without anything of ours; what others changed meanwhile stays changed.

    A list of backends that is as we wrote it becomes what it was. One that others have changed loses the canary, and
    the Service gets its weight, so that all shares are what they were without a release.
    """
    touched = any(place.is_canary(ref) for rule in rules for ref in backends_of(rule))
    changed = list(record.changed) if record is not None else []
    result: list[Rule] = []
    for rule in rules:
        ours = record is not None and rule.get("matches") in record.added
        if ours and touched and not any(place.is_stable(ref) for ref in backends_of(rule)):
            continue
        result.append(_plain(rule, changed, place))
    return result


def _plain(rule: Rule, changed: list[Changed], place: Place) -> Rule:
    """Takes what it uses out of `changed`: two lists that differ only in a lone weight look alike once divided, and
    are told apart by their order."""
    plain = dict(rule)
    refs = backends_of(rule)
    if any(place.is_canary(ref) for ref in refs):
        found = next((one for one in changed if one.wrote == refs), None)
        plain["backendRefs"] = found.was if found is not None else _reunited(refs, place)
        if found is not None:
            changed.remove(found)
    filters = rule.get("filters") or []
    kept = [one for one in filters if not _copies_to(one, place)]
    if len(kept) < len(filters):
        plain["filters"] = kept
        if not kept:
            del plain["filters"]
    return plain


def _copies_to(one: dict[str, Any], place: Place) -> bool:
    return place.is_canary((one.get("requestMirror") or {}).get("backendRef") or {})


def _reunited(refs: list[dict[str, Any]], place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for ref in refs:
        if not place.is_canary(ref):
            found.append(ref)
        elif found and place.is_stable(found[-1]):
            found[-1] = {**found[-1], "weight": weight_of(found[-1]) + weight_of(ref)}
        else:
            found.append({**ref, "name": place.service})
    return found
