"""How many pods a weight gets, and the comparison with Argo Rollouts' table that docs/replicas.md shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davylamp.api.types import Step
from davylamp.core.replicas import canary_replicas, problems_of_steps, split

DOCS = Path(__file__).parents[2] / "docs" / "replicas.md"


@pytest.mark.parametrize(
    ("weight", "pods", "max_extra", "canary"),
    [
        (0, 4, "100%", 0),
        (1, 4, "100%", 1),  # a weight above 0 always gets a pod
        (10, 4, "100%", 1),
        (10, 9, "100%", 1),  # 1 of 10
        (25, 3, "100%", 1),
        (50, 4, "100%", 4),
        (60, 4, "100%", 4),  # the cap
        (60, 4, "150%", 6),
        (75, 4, 3, 3),
        (50, 4, 1, 1),
        (29, 2, "100%", 1),
        (42, 2, "100%", 2),  # 1 of 3 is 8.7 off, 2 of 4 is 8
        (45, 9, "100%", 7),  # 7 of 16
        (10, 4, 0, 0),
        (10, 4, "1%", 1),  # percentages are rounded up
        (100, 4, "100%", 4),
        (50, 0, "100%", 0),  # scaled to zero is switched off
        (50, 0, 5, 0),
    ],
)
def test_without_routes_the_nearest_number_of_pods_is_chosen(
    weight: int, pods: int, max_extra: int | str, canary: int
) -> None:
    assert canary_replicas(weight, pods, max_extra=max_extra, routed=False) == canary


@pytest.mark.parametrize(
    ("weight", "pods", "canary"),
    [(0, 10, 0), (1, 10, 4), (25, 10, 4), (45, 10, 5), (99, 10, 10), (100, 10, 10), (10, 4, 4), (10, 3, 3), (10, 0, 0)],
)
def test_with_routes_the_canary_can_carry_its_share_and_has_four_pods_where_the_deployment_has(
    weight: int, pods: int, canary: int
) -> None:
    assert canary_replicas(weight, pods, max_extra=0, routed=True) == canary


@pytest.mark.parametrize(
    ("explicit", "weight", "routed", "canary"),
    [
        (3, 10, True, 3),
        ("50%", 10, True, 2),
        ("30%", 10, True, 2),  # 1.2 rounded up
        (3, 0, True, 3),  # pods without traffic
        (0, 10, True, 1),  # never traffic to no pods
        (1, 100, True, 4),  # nor everything to fewer pods than there were
        (3, 10, False, 3),
        (9, 10, False, 4),  # maxExtraPods still holds
    ],
)
def test_explicit_replicas_win(explicit: int | str, weight: int, routed: bool, canary: int) -> None:
    assert canary_replicas(weight, 4, max_extra="100%", routed=routed, explicit=explicit) == canary


def test_what_is_no_number_of_pods_is_refused() -> None:
    with pytest.raises(ValueError, match='"abc" is not a number of pods'):
        canary_replicas(10, 4, max_extra="abc", routed=False)


def test_a_split_says_what_was_reached_and_by_how_much_it_is_off() -> None:
    found = split(10, 4, max_extra="100%", routed=False)
    assert (found.canary, found.stable, found.weight, found.error) == (1, 4, 20.0, 10.0)
    assert split(10, 4, max_extra="100%", routed=True).error == 0


WEIGHTS = st.integers(0, 99)
PODS = st.integers(1, 60)
CAPS = st.integers(0, 200)


@given(WEIGHTS, PODS, CAPS)
def test_never_above_the_cap_and_no_other_number_is_nearer_or_equally_near_and_smaller(
    weight: int, pods: int, cap: int
) -> None:
    canary = canary_replicas(weight, pods, max_extra=cap, routed=False)
    assert canary <= cap
    least = min(cap, 1 if weight else 0)

    def distance(c: int) -> tuple[float, int]:
        return round(abs(c / (pods + c) - weight / 100), 12), c

    assert canary == min(range(least, cap + 1), key=distance)


@given(WEIGHTS, WEIGHTS, PODS, CAPS, st.booleans())
def test_a_higher_weight_never_has_fewer_pods(one: int, two: int, pods: int, cap: int, routed: bool) -> None:
    low, high = sorted((one, two))
    fewer = canary_replicas(low, pods, max_extra=cap, routed=routed)
    assert fewer <= canary_replicas(high, pods, max_extra=cap, routed=routed)


@given(st.integers(0, 100), PODS)
def test_a_routed_canary_is_never_larger_than_the_deployment_and_carries_its_share(weight: int, pods: int) -> None:
    canary = canary_replicas(weight, pods, max_extra=0, routed=True)
    assert canary <= pods
    assert canary * 100 >= pods * weight


HELP_ROUTE = "a route (spec.traffic.routes)"


@pytest.mark.parametrize(
    ("step", "pods", "max_extra", "path", "message"),
    [
        (
            Step(10),
            4,
            "100%",
            "weight",
            "10 % can't be reached with 4 pods: the nearest is 20.0 % (1 of 5); "
            f"it needs 9 pods or more, or {HELP_ROUTE} that splits by any weight",
        ),
        (
            Step(60),
            4,
            "100%",
            "weight",
            "60 % can't be reached with 4 pods: the nearest is 50.0 % (4 of 8); "
            f"maxExtraPods of 6 or more would help, and {HELP_ROUTE} splits by any weight",
        ),
        (
            Step(30),
            1,
            1,
            "weight",
            "30 % can't be reached with 1 pod: the nearest is 50.0 % (1 of 2); "
            f"it needs 3 pods or more, or {HELP_ROUTE} that splits by any weight",
        ),
        (
            Step(20, replicas=2),
            4,
            "100%",
            "weight",
            "20 % is not what replicas 2 beside 4 pods come to: 33.3 % (2 of 6)",
        ),
        (
            Step(50, replicas=5),
            4,
            "100%",
            "replicas",
            "5 is more than maxExtraPods allows beside 4 pods: 4, which is what it gets",
        ),
    ],
)
def test_a_weight_that_the_pods_cant_give_is_a_warning_with_the_nearest(
    step: Step, pods: int, max_extra: int | str, path: str, message: str
) -> None:
    (problem,) = problems_of_steps([step], pods, max_extra, routed=False)
    assert (problem.path, problem.message, problem.warning) == (f"spec.steps[0].{path}", message, True)


def test_two_weights_with_the_same_pods_are_told() -> None:
    first, second = problems_of_steps([Step(5), Step(10)], 4, "100%", routed=False)
    assert "the same as in the step before" not in first.message
    assert "(1 of 5), the same as in the step before" in second.message


@pytest.mark.parametrize(
    ("steps", "pods", "max_extra", "routed"),
    [
        ([Step(20), Step(50), Step(100)], 4, "100%", False),  # exact
        ([Step(33)], 4, "100%", False),  # 33.3 is 33 to a reader
        ([Step(10)], 4, "100%", True),  # a proxy splits
        ([Step(10)], 0, "100%", False),  # nothing runs
        ([Step(10)], 4, "abc", False),  # an error of the policy, told elsewhere
        ([Step(10, replicas="abc")], 4, "100%", False),
        ([Step(10)], 4, 0, False),
    ],
)
def test_nothing_is_told_of_weights_that_are_reached_or_wrong_in_themselves(
    steps: list[Step], pods: int, max_extra: int | str, routed: bool
) -> None:
    assert problems_of_steps(steps, pods, max_extra, routed) == ()


# --- Argo Rollouts ---

# Where its controller wants to arrive: replicas, setWeight, maxSurge -> canary, stable. The cases of
# TestApproximateWeightedNewStableReplicaCounts in utils/replicaset/canary_test.go (Argo Rollouts, August 2026).
ARGO = [
    (0, 0, 0, 0, 0), (0, 50, 0, 0, 0), (0, 100, 0, 0, 0), (0, 0, 1, 0, 0), (0, 50, 1, 0, 0),
    (0, 100, 1, 0, 0), (1, 0, 0, 0, 1), (1, 1, 0, 0, 1), (1, 49, 0, 0, 1), (1, 50, 0, 1, 0),
    (1, 99, 0, 1, 0), (1, 100, 0, 1, 0), (1, 0, 1, 0, 1), (1, 1, 1, 1, 1), (1, 49, 1, 1, 1),
    (1, 50, 1, 1, 1), (1, 99, 1, 1, 1), (1, 100, 1, 1, 0), (2, 0, 0, 0, 2), (2, 1, 0, 1, 1),
    (2, 50, 0, 1, 1), (2, 99, 0, 1, 1), (2, 100, 0, 2, 0), (2, 0, 1, 0, 2), (2, 1, 1, 1, 2),
    (2, 50, 1, 1, 1), (2, 99, 1, 2, 1), (2, 100, 1, 2, 0), (3, 10, 0, 1, 2), (3, 25, 0, 1, 2),
    (3, 33, 0, 1, 2), (3, 34, 0, 1, 2), (3, 49, 0, 1, 2), (3, 50, 0, 2, 1), (3, 10, 1, 1, 3),
    (3, 25, 1, 1, 3), (3, 33, 1, 1, 2), (3, 34, 1, 1, 2), (3, 49, 1, 2, 2), (3, 50, 1, 2, 2),
    (10, 0, 1, 0, 10), (10, 1, 0, 1, 9), (10, 14, 0, 1, 9), (10, 15, 0, 2, 8), (10, 16, 0, 2, 8),
    (10, 99, 0, 9, 1), (10, 100, 1, 10, 0), (10, 1, 1, 1, 10), (10, 18, 1, 2, 9), (10, 19, 1, 2, 9),
    (10, 20, 1, 2, 8), (10, 23, 1, 2, 8), (10, 24, 1, 3, 8), (10, 25, 1, 3, 8), (10, 99, 1, 10, 1),
]  # fmt: skip

# Its first write, from a rollout at rest: replicas, setWeight, maxSurge, maxUnavailable -> canary, stable. The cases
# of TestCalculateReplicaCountsForCanary there that start with all stable pods and no canary, without a router.
ARGO_FIRST: list[tuple[int, int, int | str, int | str, int, int]] = [
    (10, 20, 2, 0, 2, 10), (10, 20, "20%", 0, 2, 10), (10, 30, 2, 0, 2, 10), (10, 20, 0, 2, 0, 8),
    (10, 20, 0, "20%", 0, 8), (10, 30, 0, 2, 0, 8), (10, 50, 2, 1, 2, 9), (1, 20, 1, 0, 1, 1),
    (1, 90, 1, 0, 1, 1), (1, 49, 0, 1, 0, 1), (1, 51, 0, 1, 0, 0), (10, 5, 0, 1, 0, 9),
    (10, 10, "0%", "0%", 0, 9), (3, 99, 0, 2, 0, 1),
]  # fmt: skip


def share(canary: int, stable: int) -> float:
    return 100 * canary / (canary + stable) if canary + stable else 0.0


def ours(weight: int, pods: int, max_extra: int | str) -> tuple[int, int]:
    """Canary and stable pods of a step, counting 100 as promoted."""
    if weight == 100:
        return pods, 0
    return canary_replicas(weight, pods, max_extra=max_extra, routed=False), pods


def cells(canary: int, stable: int) -> str:
    return f"{canary} + {stable} = {share(canary, stable):.1f} %"


def remark(pods: int, weight: int, theirs: tuple[int, int], full: tuple[int, int]) -> str:
    over, our_over = share(*theirs) - weight, share(*full) - weight
    if not (pods and 0 < weight < 100):
        return ""
    found = []
    if over >= 0.5 and our_over < over:
        found.append(f"theirs {over:.0f} over, ours {max(our_over, 0):.0f}")
    if theirs[1] < pods:
        found.append(f"{pods - theirs[1]} stable fewer")
    if abs(our_over) > abs(over) + 0.5:
        found.append("theirs is nearer")
    return "; ".join(found)


def steady_rows() -> list[str]:
    rows = []
    for pods, weight, surge, canary, stable in ARGO:
        full = ours(weight, pods, "100%")
        rows.append(
            f"| {pods} | {weight} | {surge} | {cells(canary, stable)} | {cells(*ours(weight, pods, surge))} "
            f"| {cells(*full)} | {remark(pods, weight, (canary, stable), full)} |"
        )
    return rows


def first_rows() -> list[str]:
    return [
        f"| {pods} | {weight} | {surge} | {unavailable} | {cells(canary, stable)} "
        f"| {cells(*ours(weight, pods, surge))} | {cells(*ours(weight, pods, '100%'))} |"
        for pods, weight, surge, unavailable, canary, stable in ARGO_FIRST
    ]


PARTIAL = [case for case in ARGO if case[0] > 0 and 0 < case[1] < 100]


@pytest.mark.parametrize(("pods", "weight", "surge", "canary", "stable"), PARTIAL)
def test_beside_argo_ours_keeps_every_stable_pod_and_stays_within_the_extra_pods(
    pods: int, weight: int, surge: int, canary: int, stable: int
) -> None:
    for max_extra in (surge, "100%"):
        our_canary, our_stable = ours(weight, pods, max_extra)
        assert our_stable == pods
        assert our_canary <= (surge if max_extra == surge else pods)


OVERSHOOTING = [case for case in PARTIAL if share(*case[3:]) - case[1] >= 0.5]


@pytest.mark.parametrize(("pods", "weight", "surge", "canary", "stable"), OVERSHOOTING)
def test_where_argo_gives_the_canary_more_than_asked_ours_gives_less_than_that_or_the_same(
    pods: int, weight: int, surge: int, canary: int, stable: int
) -> None:
    assert share(*ours(weight, pods, "100%")) <= share(canary, stable)


def test_ours_never_takes_every_stable_pod_away_below_100_percent() -> None:
    emptied = [case for case in PARTIAL if case[4] == 0]
    assert [case[:3] for case in emptied] == [(1, 50, 0), (1, 99, 0)]
    assert all(ours(weight, pods, "100%")[1] == pods for pods, weight, *_ in emptied)


def test_the_tables_of_the_documentation_are_these() -> None:
    text = DOCS.read_text()
    missing = [row for row in (*steady_rows(), *first_rows()) if row not in text]
    assert not missing, "write these rows to docs/replicas.md:\n" + "\n".join(missing)


def test_the_sums_of_the_documentation_are_these() -> None:
    text = DOCS.read_text()
    for line in sums():
        assert line in text


def sums() -> list[str]:
    """Mean distance, mean and largest overshoot, mean and largest share of stable pods lost, mean extra pods."""
    lines = []
    for most in (50, 99):
        cases = [case for case in PARTIAL if case[1] <= most]
        for name, max_extra in (
            ("Argo Rollouts", None),
            ("Davylamp, maxExtraPods = their maxSurge", "surge"),
            ("Davylamp, maxExtraPods 100%", "100%"),
        ):
            reached, over, lost, extra = [], [], [], []
            for pods, weight, surge, canary, stable in cases:
                pair = (canary, stable)
                if max_extra:
                    pair = ours(weight, pods, surge if max_extra == "surge" else max_extra)
                error = share(*pair) - weight
                reached.append(abs(error))
                over.append(max(error, 0))
                lost.append(100 * (pods - pair[1]) / pods)
                extra.append(sum(pair) - pods)
            count = len(cases)
            lines.append(
                f"| up to {most} ({count}) | {name} | {sum(reached) / count:.1f} | {sum(over) / count:.1f} "
                f"| {max(over):.0f} | {sum(lost) / count:.0f} % | {max(lost):.0f} % | {sum(extra) / count:.1f} |"
            )
    return lines
