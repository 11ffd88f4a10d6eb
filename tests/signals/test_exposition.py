"""The text formats, checked against prometheus_client's parser, and everything an answer can be instead."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from davylamp.signals import exposition
from davylamp.signals.exposition import BadExposition, decode, labels, parse

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def series() -> st.SearchStrategy[Series]:
    plain = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"])
    value = st.text(plain | st.sampled_from('\\"{}#\n ,='), max_size=8)
    one = st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True), value, max_size=3)
    name = st.from_regex(r"[a-z_:][a-z0-9_]{0,8}", fullmatch=True)
    key = st.tuples(name, one.map(lambda found: tuple(sorted(found.items()))))
    return st.dictionaries(key, st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8)


def line(name: str, found: tuple[tuple[str, str], ...], value: float) -> str:
    escaped = ((key, text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")) for key, text in found)
    inner = ",".join(f'{key}="{text}"' for key, text in escaped)
    return f"{name}{{{inner}}} {value!r}\n"


@settings(max_examples=40)
@given(series())
def test_every_series_is_read_as_prometheus_client_reads_it(
    given: Series,
) -> None:
    text = "".join(line(name, found, value) for (name, found), value in given.items())
    ours = {(name, labels(key)): n for name, family in parse(text).samples.items() for key, n in family.items()}
    theirs = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert ours == given == theirs


def test_timestamps_exemplars_comments_and_windows_line_ends_are_read_over() -> None:
    text = (
        '# HELP a That which is "counted" {here}\r\n# TYPE a counter\r\na{x="1"} 2 1763940000000\r\n\r\n  # remark\r\n'
        'a{x="2"} 3 # {trace_id="4bf9}2f"} 0.67 1763940000.1\r\na 5\r\n# EOF\r\n'
    )
    found = parse(text)
    assert found.samples == {"a": {'{x="1"}': 2, '{x="2"}': 3, "": 5}}
    assert (found.types, found.notes, found.size) == ({"a": "counter"}, (), 3)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", "", "the answer is empty"),
        (b"<html><body>404</body></html>", "text/plain", 'no metrics: it begins with "<html>'),
        (b"a 1\n", "text/html; charset=utf-8", "the answer is text/html, not metrics"),
        (b'{"status": "ok"}', "text/plain", "no metrics"),
        (b"a 1\n", "application/vnd.google.protobuf; proto=x", "not metrics in the Prometheus text format"),
        (b"a 1\nb 12", "text/plain", "cut off: its last line has no line end"),
        (b"a 1\n", "application/openmetrics-text; version=1.0.0", "cut off: OpenMetrics ends in a line # EOF"),
        (b"a 1\nwhat is this?\n", "", 'line 2 is no metric: "what is this?"'),
        (b"a one\n", "", 'a has the value "one", which is no number'),
        (b"a \xff\n", "", "not UTF-8: byte 2 is 0xff"),
    ],
)
def test_what_is_no_exposition_says_what_it_is(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(BadExposition) as raised:
        decode(body, kind)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "kept", "note"),
    [
        ("a 1\na 2\nb 3\n", {"b": 3}, "1 series left out, given twice: a"),
        ('a{x="1"} NaN\nb 3\n', {"b": 3}, '1 series left out, the value is NaN: a{x="1"}'),
        ("a +Inf\nb 3\nc +Inf\n", {"b": 3}, "2 series left out, the value is +Inf: a"),
        ("a NaN\na 2\nb 3\n", {"b": 3}, "1 series left out, given twice: a"),
    ],
)
def test_a_series_that_can_not_be_trusted_is_left_out_and_named(text: str, kept: dict[str, float], note: str) -> None:
    found = parse(text)
    assert {name: value for name, family in found.samples.items() for value in family.values()} == kept
    assert found.notes == (note,)


@pytest.mark.parametrize(
    "key",
    [
        '{a="}",b="#"}',
        '{a="} 5 #"}',
        '{a= "} 5 #"}',
        '{a="x\\"} 5 #"}',
        '{a=",} 5 #"}',
        '{a="x",}',
        "{}",
        '{a="\\\\"}',
        '{a=""}',
    ],
)
def test_a_brace_in_a_value_does_not_end_the_labels(key: str) -> None:
    assert parse(f"a{key} 1\n").samples == {"a": {key: 1}}


def test_more_series_than_can_be_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "MAX_SERIES", 3)
    with pytest.raises(BadExposition, match="4 series; at most 3"):
        parse("a 1\nb 1\nc 1\nd 1\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{a="' + "x" * 5000 + '"}', "labels of 5,006 characters"),
        ('{a="1",a="2"}', "the label a is given twice"),
        ('{x="1}', "labels that can't be read"),
        ("{a=1}", "labels that can't be read"),
    ],
)
def test_labels_that_can_not_be_read_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadExposition, match=message):
        labels(text)
