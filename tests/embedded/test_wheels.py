"""Programs that come as wheels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from davylamp.embedded.errors import EmbeddedError
from davylamp.embedded.wheels import PROGRAMS, program


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Python, and an empty PATH."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    return tmp_path


def put(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.touch(mode=0o755)
    return file


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_missing_program_is_named_with_the_way_to_install_it(prefix: Path, name: str) -> None:
    with pytest.raises(EmbeddedError, match=rf"no `{name}` in .* nor on the PATH: pip install 'davylamp\[embedded\]'"):
        program(name)


def test_the_one_beside_our_python_comes_before_the_one_on_the_path(prefix: Path) -> None:
    other = put(prefix / "elsewhere", "kubectl")
    assert program("kubectl") == other
    ours = put(prefix / "bin", "kubectl")
    assert program("kubectl") == ours
