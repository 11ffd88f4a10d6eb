"""Times, weights, images, commands, and text of others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from davylamp.view.lines import UNICODE, Span, bar, columns, cut, fold, plain
from davylamp.view.words import ago, change, clean, clock, left, pair, percent, short, since, spelled

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("secs", "text"),
    [(-3, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_how_long_ago_is_said_in_one_unit(secs: float, text: str) -> None:
    assert ago(secs) == text


def test_what_has_just_happened_has_no_number() -> None:
    assert (since(1.4), since(3)) == ("just now", "3 s ago")


@pytest.mark.parametrize(("secs", "text"), [(598, "9 min 58 s"), (0.4, "0 s"), (-1, "0 s"), (59.6, "60 s")])
def test_what_is_left_counts_down_in_whole_seconds(secs: float, text: str) -> None:
    assert left(secs) == text


def test_times_of_another_day_have_their_date() -> None:
    east = timezone(timedelta(hours=13))
    assert clock(NOON, NOON + timedelta(hours=1), UTC) == "12:00:00"
    assert clock(NOON, NOON + timedelta(hours=13), UTC) == "2026-11-23 12:00"
    assert clock(NOON, NOON + timedelta(hours=13), east) == "01:00:00"


@pytest.mark.parametrize(("weight", "text"), [(10, "10 %"), (9.76, "9.8 %"), (33.333, "33.3 %"), (0.0, "0 %")])
def test_percentages_have_at_most_one_decimal(weight: float, text: str) -> None:
    assert percent(weight) == text


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("web:v2", "web:v2"),
        ("registry.example:5000/team/web:v2", "web:v2"),
        ("r.example/web@sha256:" + "1f3870be274f6c49" * 4, "web@1f3870be274f"),
        ("r.example/web:v2, docker.io/envoy:1.40", "web:v2, envoy:1.40"),
        ("", ""),
    ],
)
def test_images_are_shortened_to_what_changes(image: str, text: str) -> None:
    assert short(image) == text


def test_images_that_differ_only_in_the_registry_are_shown_whole() -> None:
    assert pair("a.example/web:v2", "b.example/web:v2") == ("a.example/web:v2", "b.example/web:v2")
    assert change("a.example/web:v1", "b.example/web:v2", "→") == "web:v1 → web:v2"
    assert change("web:v1", "web:v1", "→") == "web:v1 (another template)"


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("plain ü ✔", "plain ü ✔"),
        ("two\nlines\tand\r\n", "two lines and  "),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202eevil", "\\x202eevil"),
        ("\x9b2J", "\\x9b2J"),
    ],
)
def test_text_of_others_has_no_control_over_the_terminal(text: str, harmless: str) -> None:
    assert clean(text) == harmless


def test_commands_are_spelled_for_the_caller() -> None:
    text = "`davy approve web`, `davy install`, `kubectl rollout undo`"
    assert spelled(text, "davy", "") == text
    assert spelled(text, "kubectl davy", "-n shop", "kubectl --context c") == (
        "`kubectl davy approve -n shop web`, `kubectl davy install`, `kubectl --context c rollout undo`"
    )


@pytest.mark.parametrize(
    ("share", "asked", "text"),
    [
        (0, 0, "          "),
        (100, 100, "██████████"),
        (10, 10, "█         "),
        (12.5, 12.5, "█▎        "),
        (10, 50, "█░░░░     "),
        (50, 10, "█████     "),
        (130, 0, "██████████"),
    ],
)
def test_a_bar_has_what_is_in_effect_and_hints_at_what_is_asked_for(share: float, asked: float, text: str) -> None:
    assert bar(share, asked, 10, UNICODE) == text


def test_columns_are_as_wide_as_their_widest_cell_and_empty_ones_are_left_out() -> None:
    rows = [[Span("a"), Span(""), Span("bbb"), Span("c")], [Span("aa"), Span(""), Span("b"), Span("")]]
    assert [plain(line) for line in columns(rows)] == ["a   bbb  c", "aa  b"]
    assert columns([]) == []


def test_a_line_is_cut_at_the_width_but_never_to_nothing() -> None:
    line = (Span("name  "), Span("a long message about something"))
    assert plain(cut(line, 30, "…")) == "name  a long message about so…"
    assert plain(cut(line, 12, "…")) == "name  a long message about…"
    assert plain(cut(line, None, "…")) == plain(line)


def test_folded_lines_keep_their_styles_and_are_indented() -> None:
    line = (Span("name ", "strong"), Span("several words that go on and on", "bad"))
    folded = list(fold(line, 24, 4))
    assert [plain(piece) for piece in folded] == ["name several words that", "    go on and on"]
    assert {span.style for span in folded[1] if span.text.strip()} == {"bad"}
