"""Users as the command line names them."""

from __future__ import annotations

import pytest

from davylab import LabError, User, identity


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("jane", User("jane", "jane", ())),
        ("jane=jane@shop.example", User("jane", "jane@shop.example", ())),
        ("jane=jane/devs,ops", User("jane", "jane", ("devs", "ops"))),
        ("ci=system:serviceaccount:shop:ci", identity.service_account("ci", "shop", "ci")),
        ("ci=system:serviceaccount:shop:ci/devs", User("ci", "system:serviceaccount:shop:ci", ("devs",))),
    ],
)
def test_a_user_is_read_from_its_short_form(text: str, user: User) -> None:
    assert identity.user(text) == user


def test_a_short_name_that_can_not_be_a_files_is_refused() -> None:
    with pytest.raises(LabError, match='"system:x" names a file'):
        identity.user("system:x")
