"""The stage of the embedded cluster: what it starts, it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from davylamp.embedded import traefik
from davylamp.embedded.demo import embedded
from davylamp.embedded.demo.embedded import Embedded
from davylamp.embedded.errors import EmbeddedError

FILES = {"admin": Path("/a"), "davylamp": Path("/d"), "traefik": Path("/t")}
TELL = "import os, sys; print(os.environ['KUBECONFIG'], flush=True); sys.stdin.read()"


@pytest.fixture
def stage(tmp_path: Path) -> Embedded:
    return Embedded(tmp_path, FILES, "http://127.0.0.1:1/")


async def test_a_process_has_the_kubeconfig_of_its_user_and_ends_with_the_stage(stage: Embedded) -> None:
    command = [sys.executable, "-S", "-c", TELL]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    admin = stage.spawn(command, **pipes)
    controller = stage.spawn(command, kubeconfig=stage.controller_kubeconfig, **pipes)
    assert admin.stdout is not None
    assert controller.stdout is not None
    assert (admin.stdout.readline(), controller.stdout.readline()) == ("/a\n", "/d\n")
    await stage.end()
    assert (admin.poll(), controller.poll()) == (-15, -15)


async def test_traefik_that_does_not_start_is_told_with_its_last_words(
    stage: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [sys.executable, "-S", "-c", "import sys; sys.exit('port taken')"]
    monkeypatch.setattr(traefik, "command", lambda *_, **__: failing)
    with pytest.raises(EmbeddedError, match="Traefik has ended: port taken"):
        await embedded._start_traefik(stage, "127.0.0.1:1", "127.0.0.1:1")
    await stage.end()
