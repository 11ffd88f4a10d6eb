"""Who sees the DestinationRules for a host. By subsets everybody who has the VirtualService must: a proxy that doesn't
know a subset answers 503.

Istio puts rules for a host together that are exported alike, and takes the oldest for a client that sees several. So
our subsets are seen where the user's rule is, and not elsewhere. What can be read are the namespace's own objects: in
which namespace the pods of a gateway run can't. Those of a Gateway of another namespace are taken to run there; those
of one in the policy's own may run anywhere (mostly they run with the mesh), so only `*` is certain to reach them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from davylamp.api.objects import DestinationRule, VirtualService
from davylamp.routers.istio_rules import MESH
from davylamp.routers.wording import some

EVERYWHERE = "*"
_OWN = "."
_UNKNOWN = "would not know the subsets and answer 503"


def unseen(vs: VirtualService, rules: Iterable[DestinationRule]) -> list[str]:
    """Why not everybody who has `vs` would know subsets, which are seen where the users' `rules` for the host are."""
    return [text for rule in rules for text in _unseen(vs, rule)]


def oldest(rules: Iterable[DestinationRule]) -> DestinationRule | None:
    """Of several for a host the one that Istio takes."""
    return min(rules, key=lambda one: (str(one.metadata.creation_timestamp), one.metadata.name), default=None)


def _unseen(vs: VirtualService, rule: DestinationRule) -> Iterator[str]:
    told = f'DestinationRule "{rule.metadata.name}" has'
    if rule.spec.get("workloadSelector"):
        yield (
            f"{told} a spec.workloadSelector, so that all clients but those that it selects {_UNKNOWN}; take it out, "
            "or leave `subsets` out of the policy"
        )
        return
    given = _exported(rule.spec.get("exportTo"))
    seen = _namespaces(given, rule.metadata.namespace)
    if EVERYWHERE in seen:
        return
    found = [(who, needed) for who, needed in _clients(vs) if not needed <= seen]
    if found:
        lacking = set[str]().union(*(needed for _, needed in found)) - seen
        ways = f'"{EVERYWHERE}"' if EVERYWHERE in lacking else f'{", ".join(sorted(lacking))} or "{EVERYWHERE}"'
        yield (
            f"{told} spec.exportTo {', '.join(given)}, so that {' and '.join(who for who, _ in found)} {_UNKNOWN}; add "
            f"{ways} to it, or leave `subsets` out of the policy"
        )


def _clients(vs: VirtualService) -> Iterator[tuple[str, set[str]]]:
    """Who takes its routes from a VirtualService, and the namespaces that they are in."""
    own = vs.metadata.namespace
    if not vs.spec.get("hosts"):
        yield "whoever has the VirtualService that delegates to this one", {EVERYWHERE}
        return
    for gateway in _exported(vs.spec.get("gateways"), MESH):
        namespace, _, name = gateway.rpartition("/")
        if gateway == MESH:
            given = _exported(vs.spec.get("exportTo"))
            yield f"sidecars (the VirtualService is for those of {some(given)})", _namespaces(given, own)
        elif namespace in ("", _OWN, own):
            yield f"the pods of Gateway {name}, which may run in another namespace,", {EVERYWHERE}
        else:
            yield f"the pods of Gateway {gateway}", {namespace}


def _exported(found: object, default: str = EVERYWHERE) -> list[str]:
    """What stands there, whatever it is; Istio's default where nothing does."""
    given = [str(one) for one in found] if isinstance(found, list) else []
    return given or [default]


def _namespaces(given: Iterable[str], own: str) -> set[str]:
    return {own if one == _OWN else one for one in given}
