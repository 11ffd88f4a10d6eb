from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from davylamp.kube.config import Credentials, contexts, load
from davylamp.kube.errors import ConfigProblem


def write(path: Path, **names: Any) -> Path:
    """A kubeconfig with one context, cluster and user of each name, and `current` as current context."""
    current = names.pop("current", None)
    content: dict[str, Any] = {"clusters": [], "users": [], "contexts": [], "current-context": current}
    for name, server in names.items():
        content["clusters"].append({"name": name, "cluster": {"server": server}})
        content["users"].append({"name": name, "user": {"token": name}})
        context = {"cluster": name, "user": name, "namespace": f"ns-{name}"}
        content["contexts"].append({"name": name, "context": context})
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_named_file_and_its_current_context_count(tmp_path: Path) -> None:
    file = write(tmp_path / "config", a="http://a:1", b="http://b:2", current="b")
    target = load(str(file))
    assert (target.server, target.namespace) == ("http://b:2", "ns-b")
    assert load(str(file), "a").server == "http://a:1"
    assert contexts(str(file)) == ["a", "b"]


def test_several_files_are_one_and_the_first_of_a_name_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(tmp_path / "one", a="http://a:1")
    second = write(tmp_path / "two", a="http://other:9", b="http://b:2", current="a")
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'missing'}:{second}")
    assert load().server == "http://a:1"
    assert load(context="b").server == "http://b:2"


def test_without_being_told_the_file_at_home_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube" / "config", a="http://a:1", current="a")
    assert load().server == "http://a:1"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("missing",), "kubeconfig missing: there is no such file"),
        (("FILE", "prod"), 'context "prod" is not in kubeconfig .*config; it has a, b'),
        (("FILE",), r"no current context; name one with --context \(it has a, b\)"),
    ],
)
def test_what_is_missing_is_named_with_what_there_is(tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    file = write(tmp_path / "config", a="http://a:1", b="http://b:2")
    with pytest.raises(ConfigProblem, match=message):
        load(*[str(file) if arg == "FILE" else arg for arg in args])


def test_nothing_at_all_says_what_was_looked_for() -> None:
    with pytest.raises(ConfigProblem, match=r"no cluster to talk to.*--kubeconfig.*service account"):
        load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "can't be read"),
        ("- a", "not a mapping"),
        ("clusters: 3", "clusters must be a list"),
        ("users: [{user: {}}]", "users must be a list of"),
        ("users: [{name: u, user: 3}]", "users must be a list of"),
    ],
)
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(ConfigProblem, match=message):
        load(str(file))


def test_a_context_that_names_a_missing_user_says_so(tmp_path: Path) -> None:
    file = write(tmp_path / "config", a="http://a:1", current="a")
    content = yaml.safe_load(file.read_text())
    content["users"] = []
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigProblem, match="context a names 'a', which is not in it"):
        load(str(file))


def test_certificates_are_found_beside_the_file_that_names_them(tmp_path: Path) -> None:
    file = write(tmp_path / "config", a="https://a:1", current="a")
    content = yaml.safe_load(file.read_text())
    content["clusters"][0]["cluster"]["certificate-authority"] = "missing-ca.crt"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigProblem, match="certificates can't be used"):
        load(str(file))


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ({"command": "no-such-plugin", "installHint": "Get it."}, r"can't be started: .*Get it\."),
        ({"command": "/bin/sh", "args": ["-c", "echo no >&2; exit 3"]}, "ended with 3: no"),
        ({"command": "/bin/echo", "args": ["hello"]}, "gave no ExecCredential"),
        ({"command": "/bin/echo", "args": ["{}"]}, "gave no token"),
        ({"command": "x", "apiVersion": "client.authentication.k8s.io/v9"}, "v9 is not one of"),
    ],
)
async def test_a_plugin_that_fails_is_named_with_its_words(
    tmp_path: Path, plugin: dict[str, Any], message: str
) -> None:
    file = write(tmp_path / "config", a="http://a:1", current="a")
    content = yaml.safe_load(file.read_text())
    content["users"][0]["user"] = {"exec": {"apiVersion": "client.authentication.k8s.io/v1"} | plugin}
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigProblem, match=message):
        await Credentials(load(str(file)).user).header()


async def test_name_and_password_are_basic_authorization() -> None:
    from lightkube.config.models import User

    assert await Credentials(User(username="me", password="secret")).header() == "Basic bWU6c2VjcmV0"
