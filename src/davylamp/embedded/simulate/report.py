"""A whole simulation, as programs read it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from davylamp.embedded.simulate import many
from davylamp.embedded.simulate.eyes import not_imagined
from davylamp.embedded.simulate.run import Outcome, run
from davylamp.embedded.simulate.scenario import Scenario
from davylamp.embedded.simulate.stage import Stage
from davylamp.embedded.simulate.summary import Distribution, distribution


class Report(msgspec.Struct, frozen=True, rename="camel"):
    policy: str
    """As namespace/name."""
    deployment: str
    replicas: int
    scenario: Scenario
    seed: int
    notes: tuple[str, ...]
    """What one should know to read the rest."""
    release: Outcome
    """The first one, with all that happened."""
    given: Distribution | None = None
    """Of many releases of the version that was described."""
    good: Distribution | None = None
    """Of as many releases of a version that is exactly as good as the old one; None where the given one is."""


Progress = Callable[[str, int, int], object]
"""Told of what is simulated, how many releases are done, and of how many."""


def simulate(
    stage: Stage,
    scenario: Scenario,
    *,
    seed: int,
    runs: int,
    notes: tuple[str, ...] = (),
    progress: Progress = lambda what, done, of: None,
) -> Report:
    """One release, and with more `runs` as many of the given version and, where that is worse than the old one, of
    one that is as good as it."""
    first = run(stage, scenario, seed)
    given = good = None
    if runs > 1:
        given = _many(stage, scenario, seed, runs, progress, "the given version" if scenario.worse else "releases")
        if scenario.worse:
            good = _many(stage, scenario.as_good(), seed, runs, progress, "a good version")
    meta = stage.policy.metadata
    return Report(
        policy=f"{meta.namespace}/{meta.name}",
        deployment=stage.deployment,
        replicas=stage.replicas,
        scenario=scenario,
        seed=seed,
        notes=(*_notes(stage, scenario), *notes),
        release=first,
        given=given,
        good=good,
    )


def _many(stage: Stage, scenario: Scenario, seed: int, runs: int, progress: Progress, what: str) -> Distribution:
    found: list[Outcome] = []
    progress(what, 0, runs)
    for outcome in many.outcomes(stage, scenario, seed, runs):
        found.append(outcome)
        progress(what, len(found), runs)
    return distribution(found)


def _notes(stage: Stage, scenario: Scenario) -> tuple[str, ...]:
    spec = stage.policy.spec
    said: list[str] = []
    if stage.made_up:
        said.append(f"made up to fit the policy: {', '.join(stage.made_up)}")
    if spec.analysis is None:
        said.append("the policy has no analysis: only the pods' health is looked at, failing requests change nothing")
    said += not_imagined(spec.analysis)
    traffic = spec.traffic
    chosen = any(step.match for step in spec.steps) or (traffic is not None and bool(traffic.match))
    if chosen and not scenario.testers:
        said.append("nobody is chosen by the policy's match (--testers says how many of the requests are)")
    if any(step.mirror for step in spec.steps):
        said.append("mirrored requests are only counted, for whether a weight is in effect")
    said += (f"{problem.path}: {problem.message}" for problem in stage.warnings)
    return tuple(said)
