"""`davy validate`: all problems of all files at once, with and without a cluster."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from davylamp.cli import exits
from tests.cli.conftest import Davy, Serve
from tests.view import situations

GOOD = """\
apiVersion: davylamp.dev/v1alpha1
kind: ReleasePolicy
metadata: {name: web}
spec:
  target: {name: web}
  traffic: {service: web, routes: [{ingress: {name: web}}]}
  steps:
    - {weight: 10, hold: 10m}
    - {weight: 100}
"""
UNREADABLE = GOOD.replace("10m", "10").replace("- {weight: 100}", "- {weight: 100, aprove: true}")
WRONG = GOOD.replace("ingress: {name: web}", "ingress: {name: wbe}").replace("weight: 100", "weight: 5")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"good": GOOD, "unreadable": UNREADABLE, "wrong": WRONG}.items():
        (tmp_path / f"{name}.yaml").write_text(text)


def test_a_good_policy_is_said_to_be_good(davy: Davy, serve: Serve, files: None) -> None:
    server = serve(situations.without_policy())
    result = davy("validate", "-f", "good.yaml")
    assert (result.code, result.out) == (exits.OK, "good.yaml: policy shop/web can be used\n")
    assert server.writes == []


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_the_files(
    davy: Davy, serve: Serve, files: None
) -> None:
    serve(situations.without_policy())
    result = davy("validate", "-f", "wrong.yaml", "-f", "unreadable.yaml", "-f", "good.yaml")
    assert result.code == exits.BAD_INPUT
    assert [line for line in result.lines if "warning" not in line] == [
        "wrong.yaml: policy shop/web can't be used, 2 problems:",
        "  spec.steps[1].weight: 5 comes after 10; weights must rise",
        '  spec.traffic.routes[0].ingress.name: no Ingress "wbe" in shop; those that send to Service "web": web',
        "unreadable.yaml can't be used, 2 problems:",
        '  spec.steps[0].hold: "10" is not a duration: write for example 30s, 10m or 1h30m; did you mean 10s or 10m? '
        "(line 8)",
        "  spec.steps[1].aprove: unknown field; did you mean approve? (line 9)",
        "good.yaml: policy shop/web can be used",
    ]


def test_offline_no_cluster_is_asked(davy: Davy, files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert davy("validate", "--offline", "-f", "good.yaml").out == (
        "good.yaml: policy web is well-formed (--offline: the cluster was not asked)\n"
    )
    result = davy("validate", "--offline", "-f", "wrong.yaml")
    assert result.code == exits.BAD_INPUT
    assert "spec.steps[1].weight: 5 comes after 10" in result.out
    assert "wbe" not in result.out


def test_a_file_that_can_not_be_read_as_a_policy_needs_no_cluster(
    davy: Davy, files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert davy("validate", "-f", "unreadable.yaml").code == exits.BAD_INPUT


def test_a_policy_may_replace_the_one_that_is_there(davy: Davy, serve: Serve, files: None) -> None:
    serve(situations.invalid())
    assert davy("validate", "-f", "good.yaml").code == exits.OK


def test_two_policies_for_one_deployment_are_found_also_among_the_files(
    davy: Davy, serve: Serve, files: None, tmp_path: Path
) -> None:
    serve(situations.without_policy())
    (tmp_path / "twice.yaml").write_text(GOOD + "---\n" + GOOD.replace("{name: web}\nspec", "{name: web-2}\nspec"))
    result = davy("validate", "-f", "twice.yaml")
    assert result.code == exits.BAD_INPUT
    assert result.out.count('is the target of the ReleasePolicies "web" and "web-2"') == 2


def test_for_programs_each_policy_has_its_problems(davy: Davy, serve: Serve, files: None) -> None:
    serve(situations.without_policy())
    result = davy("validate", "-f", "good.yaml", "-f", "wrong.yaml", "-o", "json")
    assert result.code == exits.BAD_INPUT
    content = json.loads(result.out)
    assert [(one["file"], one["namespace"], one["name"]) for one in content] == [
        ("good.yaml", "shop", "web"),
        ("wrong.yaml", "shop", "web"),
    ]
    assert content[0]["problems"] == []
    assert content[1]["problems"][0]["path"] == "spec.steps[1].weight"


def test_standard_input_is_a_file_too(davy: Davy, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(situations.without_policy())
    monkeypatch.setattr("sys.stdin", io.StringIO(GOOD))
    assert davy("validate", "-f", "-").out == "-: policy shop/web can be used\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-f", "nowhere.yaml"], "nowhere.yaml can't be read: No such file or directory"),
        (["-f", "."], ". can't be read: Is a directory"),
        ([], "Missing option"),
    ],
)
def test_a_file_that_is_none_is_bad_input(davy: Davy, files: None, args: list[str], said: str) -> None:
    result = davy("validate", *args)
    assert result.code == exits.BAD_INPUT
    assert result.err.startswith(f"davy: {said}")


def test_a_policy_of_another_namespace_than_asked_for_is_bad_input(
    davy: Davy, serve: Serve, files: None, tmp_path: Path
) -> None:
    serve(situations.without_policy())
    (tmp_path / "other.yaml").write_text(GOOD.replace("{name: web}\nspec", "{name: web, namespace: other}\nspec"))
    result = davy("validate", "-n", "shop", "-f", "other.yaml")
    assert (result.code, result.err) == (
        exits.BAD_INPUT,
        "davy: ReleasePolicy web: metadata.namespace is other, and --namespace shop\n",
    )
