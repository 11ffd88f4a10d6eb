from __future__ import annotations

import pytest

from davylamp.api.objects import Meta
from davylamp.api.types import Phase, Release, ReleaseSpec, ReleaseStatus, Side, Step
from davylamp.api.verdict import AnalysisStatus
from davylamp.controller.known import Known, without_looks

LOOKS = '[[1763940000,"errors",1.5,[900,100],[9,1]]]'


def release(phase: Phase) -> Release:
    side = Side("web-1", "h", "hellok8s:v1")
    spec = ReleaseSpec(policy="web", deployment="web", template="t", stable=side, canary=side, steps=(Step(weight=50),))
    analysis = AnalysisStatus(message="2 of 100 failed", history=LOOKS)
    meta = Meta(name="web-2", namespace="shop", uid="u", resource_version="7")
    return Release(meta, spec, ReleaseStatus(phase=phase, analysis=analysis))


@pytest.mark.parametrize(
    ("phase", "history"), [(Phase.PROGRESSING, LOOKS), (Phase.COMPLETED, ""), (Phase.ROLLED_BACK, "")]
)
def test_of_a_release_that_has_ended_the_controller_does_not_keep_each_look(phase: Phase, history: str) -> None:
    known = Known(lambda key: None, without_looks)
    known.releases.saw(release(phase))
    found = known.releases.get("shop", "web-2")
    assert found is not None
    assert found.status.analysis == AnalysisStatus(message="2 of 100 failed", history=history)


def test_who_shows_a_verdict_keeps_all_of_it() -> None:
    known = Known(lambda key: None)
    known.releases.saw(release(Phase.COMPLETED))
    assert known.releases.get("shop", "web-2") == release(Phase.COMPLETED)
