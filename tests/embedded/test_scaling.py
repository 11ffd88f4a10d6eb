"""How ReplicaSets are sized: the tables of Kubernetes' own tests (sync_test.go, rolling_test.go of 1.37)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from davylamp.embedded.controllers import scaling
from davylamp.embedded.store import Object


def made(name: str, size: int, hour: int = 0, available: int | None = None, desired: int | None = None) -> Object:
    said = {} if desired is None else {scaling.DESIRED: str(desired), scaling.MAX: str(desired)}
    return {
        "metadata": {"name": name, "creationTimestamp": f"2016-05-20T0{hour}:00:00Z", "annotations": said},
        "spec": {"replicas": size},
        "status": {"availableReplicas": size if available is None else available},
    }


def deployment(replicas: int, surge: int | str = 0, unavailable: int | str = 0) -> Object:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {"metadata": {"name": "foo"}, "spec": {"replicas": replicas, "strategy": strategy}}


@pytest.mark.parametrize(
    ("before", "after", "sizes", "expected"),
    [
        (5, 10, {"v2": 2, "v1": 3}, {"v2": 4, "v1": 6}),
        (5, 3, {"v2": 2, "v1": 3}, {"v2": 1, "v1": 2}),
        (9, 4, {"v2": 8, "v1": 1}, {"v2": 4, "v1": 0}),
        (7, 10, {"v3": 2, "v2": 3, "v1": 2}, {"v3": 3, "v2": 4, "v1": 3}),
        (13, 8, {"v3": 2, "v2": 8, "v1": 3}, {"v3": 1, "v2": 5, "v1": 2}),
        (3, 4, {"v3": 1, "v2": 1, "v1": 1}, {"v3": 2, "v2": 1, "v1": 1}),
        (3, 2, {"v3": 1, "v2": 1, "v1": 1}, {"v3": 1, "v2": 1, "v1": 0}),
        (4, 5, {"v2": 2, "v1": 2}, {"v2": 3, "v1": 2}),
        (6, 0, {"v3": 3, "v2": 2, "v1": 1}, {"v3": 0, "v2": 0, "v1": 0}),
        (10, 14, {"v2": 7, "v1": 3}, {"v2": 10, "v1": 4}),
        # Not of sync_test.go, but what scale() of sync.go comes to: each one's half a pod rounds up to a whole one,
        # and what is too much is taken from one of the largest alone, which has but one.
        (4, 2, {"v4": 1, "v3": 1, "v2": 1, "v1": 1}, {"v4": 1, "v3": 1, "v2": 1, "v1": 0}),
    ],
)
def test_a_change_of_scale_keeps_the_proportions(
    before: int, after: int, sizes: dict[str, int], expected: dict[str, int]
) -> None:
    sets = [made(name, size, hour=int(name[1]), desired=before) for name, size in sizes.items()]
    assert scaling.proportional(deployment(after), sets) == expected


@pytest.mark.parametrize(
    ("before", "after", "sizes", "expected"),
    [
        ((10, 2), (20, 2), {"v2": 6, "v1": 6}, {"v2": 11, "v1": 11}),
        ((10, 3), (50, 6), {"v2": 5, "v1": 8}, {"v2": 22, "v1": 34}),
    ],
)
def test_proportions_are_of_the_size_with_surge(
    before: tuple[int, int], after: tuple[int, int], sizes: dict[str, int], expected: dict[str, int]
) -> None:
    sets = [made(name, size, hour=int(name[1])) for name, size in sizes.items()]
    for rs in sets:
        rs["metadata"]["annotations"] = {scaling.DESIRED: str(before[0]), scaling.MAX: str(sum(before))}
    assert scaling.proportional(deployment(*after), sets) == expected


@pytest.mark.parametrize(
    ("replicas", "unavailable", "old", "new", "old_ready", "new_ready", "expected"),
    [
        (10, 0, 10, 0, 10, 0, 9),
        (10, 2, 10, 0, 10, 0, 8),
        (10, 2, 10, 0, 8, 0, 8),
        (10, 2, 10, 0, 9, 0, 8),
        (10, 2, 8, 2, 8, 0, 8),
    ],
)
def test_old_pods_go_unhealthy_first_and_only_while_enough_are_available(
    replicas: int, unavailable: int, old: int, new: int, old_ready: int, new_ready: int, expected: int
) -> None:
    given = made("old", old, available=old_ready)
    sizes = scaling.sizes_of_old(deployment(replicas, 0, unavailable), made("new", new, available=new_ready), [given])
    assert sizes.get("old", old) == expected


@pytest.mark.parametrize(
    ("surge", "old", "new", "expected"), [(0, 10, 0, 0), (2, 10, 0, 2), (2, 5, 0, 7), (2, 10, 2, 2)]
)
def test_the_new_one_grows_into_the_room_that_surge_leaves(surge: int, old: int, new: int, expected: int) -> None:
    both = [made("old", old), made("new", new)]
    assert scaling.size_of_new(deployment(10, surge), both, new) == expected


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (2, 0, "1%", (0, 1)),
        (2, "1%", "25%", (1, 0)),
        (2, "1%", 0, (1, 0)),
        (10, "25%", "25%", (3, 2)),
        (4, 0, 0, (0, 1)),
        (3, 1, 5, (1, 3)),
    ],
)
def test_percentages_round_surge_up_and_unavailability_down_but_never_both_to_nothing(
    replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]
) -> None:
    given = deployment(replicas, surge, unavailable)
    assert (scaling.max_surge(given), scaling.max_unavailable(given)) == expected


@given(st.integers(0, 30), st.integers(0, 5), st.lists(st.integers(1, 20), min_size=2, max_size=4))
@example(
    after=1, surge=1, sizes=[1, 1, 1, 1]
)  # Half a pod of each rounds up to one, and the largest has but one to give.
def test_a_change_of_scale_ends_at_the_size_with_surge_unless_rounding_leaves_more_than_the_largest_has(
    after: int, surge: int, sizes: list[int]
) -> None:
    sets = [made(f"v{i}", size, hour=i, desired=sum(sizes)) for i, size in enumerate(sizes)]
    found = scaling.proportional(deployment(after, surge, 1), sets)
    allowed = after + surge if after else 0
    largest = max(sizes)
    emptied = any(found[f"v{i}"] == 0 for i, size in enumerate(sizes) if size == largest)
    assert sum(found.values()) == allowed or (allowed < sum(found.values()) <= sum(sizes) and emptied)
    assert min(found.values()) >= 0
