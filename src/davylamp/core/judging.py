"""What a verdict does to a release: a canary that is worse goes back, and a step waits until it is good enough.

The verdict itself comes from elsewhere (`davylamp.analysis`); here it is a `Judgement` in the world. No data decides
nothing: a release that can't be measured is held until data comes back, or a person says `davy approve`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from davylamp.api.analysis import Analysis
from davylamp.api.types import Phase, Release
from davylamp.api.units import readable, seconds
from davylamp.core import status
from davylamp.core.case import Case
from davylamp.core.decision import Plan
from davylamp.core.rollback import turn_back
from davylamp.core.world import Judgement


def told(release: Release) -> Judgement | None:
    """The judgement as the Release's status tells it, for those who don't look themselves."""
    analysis = release.status.analysis
    if analysis is None:
        return None
    return Judgement(
        worse=analysis.answer == "worse",
        good_enough=analysis.answer == "good enough",
        blind=analysis.blind,
        message=analysis.message,
        pending=analysis.pending,
    )


def worse(case: Case, now: datetime) -> Plan | None:
    """A canary that is known to be worse is taken back, in whatever step."""
    judgement = case.world.judgement
    if judgement is None or not judgement.worse or case.release.status.step == 0:
        return None
    return turn_back(case, now, Phase.ROLLED_BACK, "Worse", judgement.message)


def ends_early(case: Case, number: int) -> bool:
    """Whether the step need not be held for its whole `hold`: with `confident` it ends with the verdict."""
    analysis = case.release.spec.analysis
    if analysis is None or analysis.leave_when != "confident" or not judged(case.release, number):
        return False
    return case.release.status.cleared >= number or _good_enough(case)


def awaits(case: Case, number: int, now: datetime) -> Plan | None:
    """What step `number` still waits for of the verdict, once its `hold` is over. That it need not wait any longer is
    written, once: a verdict that is unsettled while the next step is being brought about turns nothing back."""
    analysis, release = case.release.spec.analysis, case.release
    if analysis is None or not judged(release, number) or release.status.cleared >= number:
        return None
    judgement = case.world.judgement
    if judgement is not None and (_good_enough(case) or (_settled(judgement) and analysis.leave_when == "notWorse")):
        return _cleared(case, number, now, "GoodEnough", judgement.message)
    if _approved(case, number) and not case.step(number).approve:
        return _cleared(case, number, now, "Approved", f"a person approved leaving step {number} without a verdict")
    if judgement is None:
        return Plan((), "AwaitingVerdict", f"step {number} waits for the first comparison of the two versions")
    if judgement.blind:
        if _approved(case, number):
            return _cleared(case, number, now, "Approved", f"a person approved leaving step {number} without data")
        return Plan((), "NoData", f"step {number} is held while there is no data: {judgement.message}")
    if judgement.missed:
        return Plan((), "AwaitingVerdict", f"step {number} waits for the next look: the last one brought no data")
    over = _patience(case, analysis)
    if over is None or over > now:
        return Plan((), "AwaitingVerdict", f"step {number} waits for the verdict: {judgement.message}", over)
    return _unclear(case, number, now, analysis, judgement)


def judged(release: Release, number: int) -> bool:
    """Whether step `number` (from 1) waits for a verdict: there is an analysis, and in this step both versions get
    requests of the same kind, so that there is something to compare; or the step itself says."""
    step = release.spec.steps[number - 1]
    compared = 0 < step.weight < 100 if step.compare is None else step.compare
    return release.spec.analysis is not None and compared


def _good_enough(case: Case) -> bool:
    judgement = case.world.judgement
    return judgement is not None and judgement.good_enough and not judgement.missed


def _settled(judgement: Judgement) -> bool:
    """Whether all has been heard that there is to hear at the moment."""
    return not (judgement.blind or judgement.pending or judgement.missed)


def _approved(case: Case, number: int) -> bool:
    approved = case.release.spec.approved
    return approved is not None and approved.step >= number


def _patience(case: Case, analysis: Analysis) -> datetime | None:
    """When the step has waited for as long as it may."""
    since = case.release.status.step_since
    if analysis.at_most is None or since is None:
        return None
    return since + timedelta(seconds=seconds(analysis.at_most))


def _unclear(case: Case, number: int, now: datetime, analysis: Analysis, judgement: Judgement) -> Plan:
    """No verdict within `atMost`."""
    release = case.release
    after = f"no verdict after {readable(seconds(analysis.at_most or '0s'))}: {judgement.message}"
    if analysis.when_unclear == "takeBack":
        return turn_back(case, now, Phase.ROLLED_BACK, "Unclear", after)
    if analysis.when_unclear == "goOn" or _approved(case, number):
        return _cleared(case, number, now, "Unclear", f"leaving step {number}, {after}")
    message = f"step {number} waits for a person, {after}: `davy approve {release.spec.deployment}`"
    since = release.status.step_since
    if any(t.reason == "Unclear" and since is not None and t.time >= since for t in release.status.history):
        return Plan((), "AwaitingApproval", message)
    written = status.entered(release, now, phase=Phase.PROGRESSING, reason="Unclear", message=message)
    told = case.announce("ApprovalNeeded", message, key=f"{number}.unclear")
    return Plan((told, written), "AwaitingApproval", message)


def _cleared(case: Case, number: int, now: datetime, reason: str, message: str) -> Plan:
    """Write that step `number` waits for no verdict any longer."""
    written = status.entered(case.release, now, phase=Phase.PROGRESSING, reason=reason, message=message, cleared=number)
    return Plan((written,), reason, message)
