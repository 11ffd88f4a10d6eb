"""Durations and pod counts as people write them."""

from __future__ import annotations

import pytest

from davylamp.api.units import count, readable, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30), ("10m", 600), ("1h30m", 5400), ("500ms", 0.5), ("0s", 0), ("1h1m1s1ms", 3661.001)],
)
def test_a_duration_is_in_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "m", "-5s", "1.5h", "5s1m", "ten minutes"])
def test_what_is_no_duration_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write for example 30s, 10m or 1h30m"):
        seconds(text)


def test_a_number_without_a_unit_is_asked_about() -> None:
    with pytest.raises(ValueError, match="did you mean 10s or 10m"):
        seconds("10")


@pytest.mark.parametrize(
    ("secs", "expected"),
    [
        (1.72, "1.7 s"),
        (42, "42 s"),
        (119, "119 s"),
        (120, "2 min"),
        (598, "9 min 58 s"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
    ],
)
def test_a_duration_for_people_has_at_most_two_units(secs: float, expected: str) -> None:
    assert readable(secs) == expected


@pytest.mark.parametrize(
    ("value", "whole", "up", "expected"),
    [(3, 10, True, 3), ("25%", 10, True, 3), ("25%", 10, False, 2), ("100%", 7, True, 7)],
)
def test_percentages_round_as_kubernetes_does(value: int | str, whole: int, up: bool, expected: int) -> None:
    assert count(value, whole, up=up) == expected


def test_what_is_no_number_of_pods_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a number of pods"):
        count("many", 4)
