from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from davylamp.controller.logs import Format, set_up


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], level = before
    root.setLevel(level)


def written(form: Format, message: str, **extra: str) -> str:
    stream = io.StringIO()
    set_up(form, stream=stream)
    try:
        raise ValueError("why") if extra.pop("error", "") else KeyError
    except KeyError:
        logging.getLogger("davylamp.x").info("%s", message, extra=extra)
    except ValueError:
        logging.getLogger("davylamp.x").exception("%s", message, extra=extra)
    return stream.getvalue()


def test_a_machine_reads_one_object_a_line() -> None:
    entry = json.loads(written("json", "it begins", release="web-1", namespace="shop"))
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "logger": "davylamp.x",
        "message": "it begins",
        "namespace": "shop",
        "release": "web-1",
    }


def test_a_person_reads_the_message_first() -> None:
    line = written("text", "it begins", release="web-1", reason="by hand")
    assert line.split(" ", 1)[1] == 'INFO    it begins  release=web-1 reason="by hand"\n'


def test_an_error_comes_with_its_stack() -> None:
    assert "ValueError: why" in written("text", "no", error="yes")
    assert "ValueError: why" in json.loads(written("json", "no", error="yes"))["error"]
