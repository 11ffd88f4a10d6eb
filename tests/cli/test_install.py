"""`davy install` and `davy uninstall` as commands: what needs no cluster, and how reports read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from davylamp.cli.installing import CODES, told_install, told_uninstall
from davylamp.cli.main import main
from davylamp.kube.held import Held
from davylamp.kube.install import FALLBACK, Change, InstallReport
from davylamp.kube.manifests import Options, document
from davylamp.kube.uninstall import UninstallReport
from davylamp.view.lines import plain

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


def test_print_needs_no_cluster_and_gives_the_file_in_deploy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--print"]) == 0
    assert capsys.readouterr().out == (DEPLOY / "install.yaml").read_text()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--gate", "auto"], Options()),
        (["--gate", "fallback"], Options(gate="fallback")),
        (["--namespace-only", "shop", "-n", "ops"], Options(only="shop", namespace="ops")),
        (["--image", "davylamp:1", "--writer", "me"], Options(image="davylamp:1", writer="me")),
        (
            ["--image", "d:1", "--controller-option=--events=steps", "--controller-option=--trust-proxy=10.0.0.0/8"],
            Options(image="d:1", args=("--events=steps", "--trust-proxy=10.0.0.0/8")),
        ),
    ],
)
def test_options_reach_the_manifests(args: list[str], expected: Options, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--print", *args]) == 0
    assert capsys.readouterr().out == document(expected)


def test_what_is_printed_is_yaml_without_surprises(capsys: pytest.CaptureFixture[str]) -> None:
    main(["install", "--print", "--image", "davylamp:1"])
    text = capsys.readouterr().out
    assert all(found["kind"] and found["metadata"]["name"] for found in yaml.safe_load_all(text))
    assert "&id" not in text


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["uninstall", "--timeout", "5"], 2, "--timeout"),
        (["install", "--gate", "none"], 2, "--gate"),
        (["install", "--controller-option=--events=steps"], 2, "set --image too"),
        (["install", "--image=d:1", "--controller-option=--evnts=steps"], 2, "No such option: --evnts"),
        (["install", "--image=d:1", "--controller-option=--events=all"], 2, "'all' is not one of 'few', 'steps'"),
        (["install", "--image=d:1", "--controller-option=steps"], 2, "unexpected extra argument(s) (steps)"),
        (["install", "--image=d:1", "--controller-option=--trust-proxy=10.0.0"], 2, "10.0.0"),
        (["install", "--image=d:1", "--controller-option=--gate=fallback"], 2, "--gate is decided by"),
        (["install"], 1, "there is no such file"),
        (["uninstall"], 1, "there is no such file"),
    ],
)
def test_bad_input_and_no_cluster_have_their_exit_codes(
    args: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == code
    assert message in capsys.readouterr().err


def test_each_problem_has_an_exit_code_of_its_own() -> None:
    assert CODES == {"bad input": 2, "timed out": 5, "refused": 6}


def test_an_installation_names_what_it_changed_and_counts_the_rest() -> None:
    changes = (
        Change("Namespace", "davylamp-system", "created"),
        Change("ServiceAccount", "davylamp", "changed", "davylamp-system"),
        Change("ClusterRole", "davylamp", "unchanged"),
        Change("ClusterRole", "davylamp-view", "unchanged"),
    )
    report = InstallReport("admission", changes, 0.9)
    assert [plain(line) for line in told_install(report, Options(image="x"), dry_run=False)] == [
        "created  Namespace davylamp-system",
        "changed  ServiceAccount davylamp-system/davylamp",
        "unchanged: 2 objects",
        "the gate is active: it was seen to hold a Deployment after 0.9 s",
    ]


def test_a_dry_run_does_not_claim_to_have_done_it() -> None:
    report = InstallReport("admission", (Change("Namespace", "davylamp-system", "created"),))
    (line,) = told_install(report, Options(), dry_run=True)
    assert plain(line) == "would be created  Namespace davylamp-system"


def test_a_cluster_without_a_gate_reads_what_that_means() -> None:
    lines = [
        plain(line) for line in told_install(InstallReport("fallback", (), notes=(FALLBACK,)), Options(), dry_run=False)
    ]
    assert "permanently paused" in lines[0]
    assert "Argo CD and Flux show such a Deployment as paused or suspended" in lines[0]


def test_a_deployment_that_stays_paused_comes_last_with_both_commands() -> None:
    held = Held("shop", "web", "hellok8s:v3", "hellok8s:v2", "kubectl resume", "kubectl set image")
    lines = [plain(line) for line in told_uninstall(UninstallReport((), (held,)))]
    assert lines[0] == "Davylamp is gone from this cluster, but 1 Deployment stays paused"
    assert lines[2:] == [
        "shop/web holds hellok8s:v3; its pods run hellok8s:v2",
        "  to roll hellok8s:v3 out:",
        "    kubectl resume",
        "  to stay with hellok8s:v2:",
        "    kubectl set image",
    ]
