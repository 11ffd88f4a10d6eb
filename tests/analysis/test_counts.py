import math
from typing import Any

import msgspec
import pytest

from davylamp.analysis import counts as c

EVENTS = c.Events(0, 10, (c.Pod("a", 100, 1),), (c.Pod("b", 10, 0),))
LATENCIES = c.Latencies(0, 10, (c.Histogram("a", (0.1, 1.0), (5, 3, 1)),), (c.Histogram("b", (0.1,), (5, 0)),))
LOGS = c.Logs(0, 10, 4, 2, (c.Template("f00d", True, 3, 1),))
FEEDBACK = c.Feedback(0, 10, 100, 10, (c.Vote("u1", True, 1.0),))
SAMPLES = c.Samples(0, 10, (c.Sample(1.5, "a"),), (c.Sample(2.5, "b"),))


@pytest.mark.parametrize(
    "good", [EVENTS, LATENCIES, LOGS, FEEDBACK, SAMPLES, c.Value(0, 1, 3.0), c.Outcome(0, 1, True)]
)
def test_good_counts_are_accepted_and_survive_json(good: c.Counts) -> None:
    c.validate(good)
    assert msgspec.json.decode(msgspec.json.encode(good), type=c.Counts) == good


def test_no_pods_are_no_data_and_not_an_error() -> None:
    c.validate(c.Events(0, 10, (), ()))
    c.validate(c.Latencies(0, 10, (), ()))


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (c.Events(10, 10, (), ()), "end: 10 is not after start 10"),
        (c.Events(NAN, 10, (), ()), "start, end: nan, 10 are not times"),
        (c.Events(0, INF, (), ()), "start, end: 0, inf are not times"),
        (c.Events(0, 10, (c.Pod("a", -5),), ()), r"stable\[0\] \(a\).requests: -5 is negative; a counter that went"),
        (c.Events(0, 10, (), (c.Pod("a", 5, 6),)), r"canary\[0\] \(a\).failures: 6 are more than the 5 requests"),
        (c.Events(0, 10, (c.Pod("a", 5), c.Pod("a", 6)), ()), "stable: 'a' occurs twice"),
        (c.Events(0, 10, (c.Pod("a", 5, age=-1.0),), ()), "age: -1.0 must be at least 0"),
        (c.Events(0, 10, (c.Pod("a", 5, age=NAN),), ()), "age: nan must be at least 0"),
        (c.Latencies(0, 10, (c.Histogram("a", (1.0, 0.1), (1, 1, 1)),), ()), "must rise"),
        (c.Latencies(0, 10, (c.Histogram("a", (0.1, INF), (1, 1, 1)),), ()), "bounds: inf is not a finite"),
        (c.Latencies(0, 10, (c.Histogram("a", (0.1,), (1,)),), ()), "1 counts for 1 bounds; one more"),
        (c.Latencies(0, 10, (c.Histogram("a", (0.1,), (1, -1)),), ()), "counts: -1 is negative"),
        (c.Logs(0, 10, -1, 1, ()), "stable_pods: -1 is negative"),
        (
            c.Logs(0, 10, 1, 1, (c.Template("x", True, 2, 0),)),
            r"templates\[0\].stable: 2 pods wrote it, more than the 1",
        ),
        (c.Logs(0, 10, 1, 1, (c.Template("x" * 17, True, 1, 0),)), "must have 1 to 16 characters"),
        (
            c.Logs(0, 10, 1, 1, (c.Template("x", True, 1, 0), c.Template("x", False, 1, 0))),
            "templates: 'x' occurs twice",
        ),
        (c.Feedback(0, 10, 1, 1, (c.Vote("", True, 0.0),)), r"votes\[0\].user: empty"),
        (c.Feedback(0, 10, 1, 1, (c.Vote("u", True, NAN),)), r"votes\[0\].began: nan is not a time"),
        (c.Samples(0, 10, (c.Sample(NAN),), ()), r"stable\[0\].value: nan is not a finite number"),
        (c.Value(0, 10, INF), "value: inf is not a finite number"),
    ],
)
def test_what_can_not_be_used_is_named_with_its_field(bad: c.Counts, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        c.validate(bad)


def test_a_count_that_is_no_whole_number_is_refused() -> None:
    half: Any = 0.5
    with pytest.raises(ValueError, match=r"0\.5 is not a whole number"):
        c.validate(c.Events(0, 10, (c.Pod("a", half),), ()))
