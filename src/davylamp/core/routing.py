"""What all routes of a release want together."""

from __future__ import annotations

from davylamp.core.actions import Action, Create, Delete, Patch, Ref
from davylamp.core.case import Case
from davylamp.core.world import Exposure, Wanted


def unconverged(case: Case, exposure: Exposure | None) -> str:
    """What the routes still wait for once everything is written; "" for nothing."""
    return "; ".join(filter(None, (route.converged(exposure, case.context(route)) for route in case.world.routes)))


def rerouted(case: Case, exposure: Exposure | None) -> tuple[Action, ...]:
    """What is left to write for this exposure in all routes. Of several patches of one object (which is a route of
    several Services) only the first: the others come with the next look, made from what it left."""
    actions: dict[Ref, Action] = {}
    for route in case.world.routes:
        for action in as_actions(route.desired(exposure, case.context(route))):
            actions.setdefault(action.ref, action)
    return tuple(actions.values())


def as_actions(wanted: Wanted) -> tuple[Create | Patch | Delete, ...]:
    """What a router wants, as actions."""
    return (
        *(Create(manifest) for manifest in wanted.present),
        *(Patch(ref, patch) for ref, patch in wanted.patches),
        *(Delete(ref, uid) for ref, uid in wanted.absent),
    )
