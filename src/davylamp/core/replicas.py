"""How many canary pods a weight needs.

The Deployment's own pods are never taken away for a canary: canary pods run beside them. So there are two ways:

- Without routes every pod gets its share of the Service's traffic: c canary pods beside n give c/(n+c). The
  number c in 0..maxExtraPods that comes nearest is chosen, the smaller one of two that are equally near.
- With routes the proxy splits, whatever the pods are. The canary gets as many as its share of the load needs, but
  at least four, and never more than the Deployment has. One bad pod can't be told from a bad version; and a
  Deployment of up to four pods (most are) needs no more at the end than at the beginning: nothing is scaled, and
  no pod is waited for, when the release completes. It may have as many beside it anyway then.

docs/replicas.md compares the first way with the table of Argo Rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from davylamp.api.problems import Problem
from davylamp.api.types import Step
from davylamp.api.units import count

NOTICEABLE = 0.5
"""Percentage points. Weights are whole percents, so a difference below half a point is no difference to a reader."""

LEAST = 4
"""Canary pods at least where a proxy splits the traffic."""


class Split(msgspec.Struct, frozen=True):
    """What a weight comes to: pods on both sides, the percentage reached, and how far that is from the one asked
    for (positive: the canary gets more)."""

    canary: int
    stable: int
    weight: float
    error: float


def canary_replicas(
    weight: int,
    deployment_replicas: int,
    *,
    max_extra: int | str,
    routed: bool,
    explicit: int | str | None = None,
    chosen: bool = False,
) -> int:
    """Canary pods for `weight` percent beside a Deployment of `deployment_replicas`.

    `max_extra` (a number, or a percentage of the Deployment's pods rounded up) bounds the canary where there are
    no routes. `explicit` is a step's own `replicas` and wins, within that bound. `chosen` says that requests reach
    the canary besides those of the weight (by a match, or mirrored), so that weight 0 needs pods too.
    A Deployment scaled to 0 is switched off, so its canary has no pods either.

    Weight 100 is the Service moved to the canary's pods, or the promotion itself. Callers that move the Service
    pass `routed=True`, which gives as many pods as the Deployment has; for a promotion by the Deployment's own
    rolling update they leave the canary as it is (without routes the answer is that for 99).

    Raises ValueError where `max_extra` or `explicit` is neither a number nor a percentage.
    """
    n = deployment_replicas
    if n <= 0:
        return 0
    if routed:
        served = max(weight, 1) if chosen else weight
        wanted = _routed(served, n) if explicit is None else count(explicit, n)
        return max(wanted, n) if weight >= 100 else max(wanted, _least(served))
    cap = max(count(max_extra, n), 0)
    wanted = _nearest(weight, n, cap) if explicit is None else count(explicit, n)
    return min(max(wanted, _least(weight)), cap)


def split(
    weight: int,
    deployment_replicas: int,
    *,
    max_extra: int | str,
    routed: bool,
    explicit: int | str | None = None,
) -> Split:
    """The same choice, with what it comes to. With routes the weight itself is always reached.

    Raises ValueError as `canary_replicas` does.
    """
    canary = canary_replicas(weight, deployment_replicas, max_extra=max_extra, routed=routed, explicit=explicit)
    if deployment_replicas <= 0:
        return Split(0, 0, 0.0, 0.0)
    if routed or weight >= 100:
        return Split(canary, deployment_replicas, float(weight), 0.0)
    reached = 100 * canary / (deployment_replicas + canary)
    return Split(canary, deployment_replicas, reached, reached - weight)


def _least(weight: int) -> int:
    return 1 if weight > 0 else 0


def _routed(weight: int, n: int) -> int:
    if weight <= 0:
        return 0
    return max(-(-n * weight // 100), min(LEAST, n))


def _nearest(weight: int, n: int, cap: int) -> int:
    """The c in 0..cap with c/(n+c) nearest to weight/100. It solves c = n*weight/(100-weight), rounded to the
    side that is nearer; the fraction grows with c, so no other number can be nearer."""
    if weight <= 0:
        return 0
    share = min(weight, 99)
    below = n * share // (100 - share)
    if below >= cap:
        return cap
    candidates = (below, below + 1)
    # Distances |100c - share(n+c)| / (n+c), compared over the common denominator to stay in whole numbers.
    low, high = (abs(100 * c - share * (n + c)) for c in candidates)
    return below if low * (n + below + 1) <= high * (n + below) else below + 1


def problems_of_steps(
    steps: Sequence[Step], deployment_replicas: int, max_extra: int | str, routed: bool
) -> tuple[Problem, ...]:
    """Warnings for the weights that this many pods can't give (half a percentage point off, or more).

    None with routes, for a Deployment scaled to 0, and for inputs that are no numbers at all: those are errors of
    the policy itself.
    """
    n = deployment_replicas
    if routed or n <= 0:
        return ()
    try:
        cap = count(max_extra, n)
    except ValueError:
        return ()
    found: list[Problem] = []
    before = 0
    for index, step in enumerate(steps if cap > 0 else ()):
        if not 0 < step.weight < 100:
            continue
        try:
            given = split(step.weight, n, max_extra=cap, routed=False, explicit=step.replicas)
        except ValueError:
            continue
        found += _problems_of_step(index, step, given, cap, before)
        before = given.canary
    return tuple(found)


def _problems_of_step(index: int, step: Step, given: Split, cap: int, before: int) -> list[Problem]:
    path = f"spec.steps[{index}]"
    n, found = given.stable, []
    if step.replicas is not None and count(step.replicas, n) > cap:
        message = f"{step.replicas} is more than maxExtraPods allows beside {_pods(n)}: {cap}, which is what it gets"
        found.append(Problem(f"{path}.replicas", message, warning=True))
    if abs(given.error) < NOTICEABLE:
        return found
    share = f"{given.weight:.1f} % ({given.canary} of {n + given.canary})"
    if step.replicas is not None:
        message = f"{step.weight} % is not what replicas {step.replicas} beside {_pods(n)} come to: {share}"
    else:
        message = f"{step.weight} % can't be reached with {_pods(n)}: the nearest is {share}"
        if given.canary == before:
            message += ", the same as in the step before"
        message += f"; {_help(step.weight, given, cap)}"
    found.append(Problem(f"{path}.weight", message, warning=True))
    return found


def _help(weight: int, given: Split, cap: int) -> str:
    """What would bring the weight nearer."""
    route = "a route (spec.traffic.routes) splits by any weight"
    n = given.stable
    needed = round(n * weight / (100 - weight))
    if given.error < 0 and given.canary == cap and needed <= 4 * n:
        return f"maxExtraPods of {max(needed, 1)} or more would help, and {route}"
    if given.error > 0 and given.canary == 1:
        return f"it needs {_pods(-(-(100 - weight) // weight))} or more, or {route.replace('splits', 'that splits')}"
    return route


def _pods(number: int) -> str:
    return "1 pod" if number == 1 else f"{number} pods"
