"""The program itself: help, errors, signals, completion."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from davylamp.cli import exits, main
from davylamp.cli.exits import Failure
from davylamp.cli.kubectl_complete import kubectl
from davylamp.controller.main import Options
from tests.cli.conftest import Davy, Serve, Server
from tests.view.situations import in_step

HEAVY = ("lightkube", "aiohttp", "msgspec", "yaml", "davylamp.core", "davylamp.kube", "davylamp.controller")


def test_starting_imports_nothing_heavy() -> None:
    code = "import sys, davylamp.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []


def test_help_lists_every_command_and_every_exit_code(davy: Davy) -> None:
    result = davy("--help")
    assert result.code == exits.OK
    commands = "status watch history validate pause resume approve abort promote retry controller install uninstall"
    for command in (*commands.split(), "version", "completion"):
        assert re.search(rf"^│ {command} ", result.out, re.M), command
    for code, meaning in exits.MEANINGS.items():
        assert f"{code}  {meaning}" in result.out


def test_help_is_what_one_gets_for_no_words(davy: Davy) -> None:
    result = davy()
    assert (result.code, result.err) == (exits.OK, "")
    assert "Usage: davy" in result.out


def test_as_a_plugin_it_speaks_of_kubectl_davy(davy: Davy, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kubectl-davy"])
    serve(in_step(1))
    assert "Usage: kubectl davy status" in davy("status", "--help").out
    assert "`kubectl davy resume web` goes on" in davy("pause", "web").out
    assert davy("stat").err.endswith("see `kubectl davy --help`\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stauts"], "No such command 'stauts'. Did you mean 'status', 'start'; see `davy --help`"),
        (["watch"], "Missing argument 'NAME'; see `davy watch --help`"),
        (["status", "--nam", "x"], "No such option: --nam"),
        (["status", "-o", "xml"], "'xml' is not one of 'json', 'yaml', 'name', 'wide'; see `davy status --help`"),
        (["watch", "web", "--timeout", "10"], '"10" is not a duration: write for example 30s, 10m or 1h30m'),
        (["approve", "web", "--step", "0"], "--step': Input should be greater than or equal to 1"),
        (["pause", "web", "db"], "Got unexpected extra argument"),
    ],
)
def test_wrong_words_are_one_line_and_bad_input(davy: Davy, words: list[str], said: str) -> None:
    result = davy(*words)
    assert result.code == exits.BAD_INPUT
    assert result.err.startswith("davy: ")
    assert said in result.err
    assert len(result.err.splitlines()) == 1


def test_options_may_stand_before_the_command(davy: Davy, serve: Serve) -> None:
    serve(in_step(1))
    assert "namespace other" in davy("-n", "other", "status").err
    assert davy("-n", "other", "status", "-n", "shop", "-o", "name").out == "deployment.apps/web\n"
    assert davy("-n", "other", "status", "-A", "-o", "name").out == "deployment.apps/web\n"


def test_no_way_to_a_cluster_is_one_line(davy: Davy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    result = davy("status")
    assert (result.code, result.err) == (exits.FAILED, "davy: KUBECONFIG=/nowhere: there is no such file\n")


def test_a_bug_is_a_line_and_with_debug_a_traceback(davy: Davy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("oh no")

    monkeypatch.setattr("davylamp.cli.session.connect", broken)
    result = davy("status")
    assert (result.code, result.err) == (
        exits.FAILED,
        "davy: RuntimeError: oh no (this is a bug; --debug shows more)\n",
    )
    with pytest.raises(RuntimeError, match="oh no"):
        davy("status", "--debug")


def test_version(davy: Davy) -> None:
    assert re.fullmatch(r"davylamp \d+\.\d+\.\d+\n", davy("version").out)


def test_every_exit_code_has_a_meaning_of_its_own() -> None:
    named = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert named - {exits.INTERRUPTED, exits.BROKEN_PIPE} == set(exits.MEANINGS)
    assert Failure("x").code == exits.FAILED


# --- the controller's options ---


def test_the_controller_gets_its_options(davy: Davy, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Options] = []

    async def run(options: Options) -> None:
        given.append(options)

    monkeypatch.setattr("davylamp.controller.main.run", run)
    words = (
        "--leader-elect --listen 127.0.0.1:0 --log-format json --log-level warning --workers 3 --events steps -n shop"
    )
    assert davy("controller", *words.split(), "--context", "prod").code == exits.OK
    (options,) = given
    assert (options.context, options.namespaces, options.listen) == ("prod", ("shop",), "127.0.0.1:0")
    assert (options.leader_elect, options.log_format, options.workers) == (True, "json", 3)
    assert options.events == "steps"


def test_the_controllers_defaults_are_its_own(davy: Davy, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Options] = []

    async def run(options: Options) -> None:
        given.append(options)

    monkeypatch.setattr("davylamp.controller.main.run", run)
    assert davy("controller").code == exits.OK
    assert davy("-n", "shop", "controller", "--gate", "fallback").code == exits.OK
    assert davy("controller", "-n", "shop", "-n", "other").code == exits.OK
    assert given == [
        Options(),
        Options(namespaces=("shop",), gate="fallback"),
        Options(namespaces=("shop", "other")),
    ]


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("no port"), exits.BAD_INPUT), (OSError(98, "in use"), exits.FAILED)]
)
def test_an_address_that_can_not_be_listened_on_is_named(
    davy: Davy, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    async def run(options: object) -> None:
        raise error

    monkeypatch.setattr("davylamp.controller.main.run", run)
    result = davy("controller", "--listen", "127.0.0.1:1")
    assert result.code == code
    assert result.err.startswith("davy: --listen 127.0.0.1:1: ")


# --- processes ---


def program(folder: Path, *words: str) -> list[str]:
    """A command that runs `davy` against a paused release."""
    script = folder / "davy.py"
    script.write_text(
        "import contextlib, sys\n"
        "from davylamp.cli import session\n"
        "from davylamp.cli.main import main\n"
        "from tests.cli.conftest import Server\n"
        "from tests.view.situations import paused\n"
        "@contextlib.asynccontextmanager\n"
        "async def connect(*_):\n"
        "    yield Server(paused())\n"
        "session.connect = connect\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    return [sys.executable, str(script), *words]


ROOT = Path(__file__).parents[2]
ENV = os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}


@pytest.mark.parametrize("words", [("status",), ("status", "web", "-o", "json"), ("watch", "web"), ("history",)])
def test_a_reader_that_goes_away_ends_it_without_a_word(tmp_path: Path, words: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = program(tmp_path, *words)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, env=ENV, timeout=30)
    os.close(write)
    assert (done.returncode, done.stderr) == (exits.BROKEN_PIPE, "")


def test_ctrl_c_ends_a_watch_without_a_word_and_gives_the_cursor_back(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    command = program(tmp_path, "watch", "web")
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=ENV)
    os.close(follower)
    shown = _read(leader, "resume")
    process.send_signal(signal.SIGINT)
    shown += _read(leader, "")
    os.close(leader)
    assert process.wait(10) == exits.INTERRUPTED
    assert "Traceback" not in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def _read(terminal: int, until: str, timeout: float = 20) -> str:
    """What is shown until `until` is ("": until the other side has gone)."""
    shown = b""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:
            break
        shown += chunk
        if not chunk or (until and until.encode() in shown):
            break
    return shown.decode()


# --- completion ---


@pytest.fixture
def completions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    def of(words: str) -> list[str]:
        monkeypatch.setenv("_DAVY_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main.main([])
        return sorted(capsys.readouterr().out.split())

    return of


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("davy st", ["start", "status"]),
        ("davy status w", ["web"]),
        ("davy status -n shop ", ["web"]),
        ("davy status -n other ", []),
        ("davy pause --reason x w", ["web"]),
        ("davy status -n s", ["shop"]),
        ("davy status -o ", ["json", "name", "wide", "yaml"]),
        ("davy completion ", ["bash", "fish", "zsh"]),
        ("davy install --dry", ["--dry-run"]),
        ("davy approve --ste", ["--step"]),
    ],
)
def test_what_a_shell_is_offered(
    serve: Serve, completions: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch, words: str, found: list[str]
) -> None:
    server = serve(in_step(1))
    server.put({"kind": "Namespace", "metadata": {"name": "shop"}})

    @contextlib.asynccontextmanager
    async def connect(kubeconfig: str | None, context: str | None) -> AsyncIterator[Server]:
        yield server

    monkeypatch.setattr("davylamp.kube.client.connect", connect)
    assert completions(words) == found


def test_a_completion_is_silent_where_there_is_no_cluster(
    completions: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert completions("davy status ") == []
    assert completions("davy status --context ") == []


def test_contexts_come_from_the_kubeconfig(
    completions: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config"
    contexts = "".join(f"- {{name: {name}, context: {{cluster: c}}}}\n" for name in ("prod", "dev"))
    file.write_text(f"clusters: [{{name: c, cluster: {{server: 'http://x'}}}}]\ncontexts:\n{contexts}")
    monkeypatch.setenv("KUBECONFIG", str(file))
    assert completions("davy status --context ") == ["dev", "prod"]
    assert completions("davy watch --context p") == ["prod"]


def test_kubectl_completes_the_plugin_by_its_own_protocol(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-davy", "prom"])
    kubectl()
    assert capsys.readouterr().out == "promote\n:4\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell_calls_davy(davy: Davy, shell: str) -> None:
    result = davy("completion", shell)
    assert result.code == exits.OK
    assert f"_DAVY_COMPLETE=complete_{shell}" in result.out


@pytest.mark.parametrize("option", ["--allow-address", "--trust-proxy"])
def test_a_network_that_is_none_is_named_before_anything_begins(davy: Davy, option: str) -> None:
    result = davy("controller", option, "10.0.0.0/64")
    assert result.code == exits.BAD_INPUT
    assert '"10.0.0.0/64" is no network: write for example 127.0.0.0/8' in result.err
