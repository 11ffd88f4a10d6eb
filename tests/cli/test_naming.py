"""Which workload a name means."""

from __future__ import annotations

import json

import pytest

from davylamp.cli import exits
from tests.cli.conftest import Davy, Serve
from tests.core.model import Cluster, deployment_spec, policy_spec
from tests.view import situations
from tests.view.situations import in_step


def fleet() -> Cluster:
    """Deployments web, cart and basket; a policy `frontend` for the last two, and one named like nothing else."""
    cluster = in_step(1)
    for name in ("cart", "basket"):
        spec = deployment_spec("hellok8s:v1", 2)
        spec["selector"] = {"matchLabels": {"app": name}}
        spec["template"]["metadata"]["labels"] = {"app": name}
        cluster.put("Deployment", name, spec=spec, metadata={"labels": {"tier": "frontend"}})
    target = {"target": {"matchLabels": {"tier": "frontend"}}}
    cluster.put("ReleasePolicy", "frontend", spec=policy_spec(50, 100, service=False) | target)
    cluster.put(
        "ReleasePolicy",
        "backend",
        spec=policy_spec(50, 100, service=False) | {"target": {"matchLabels": {"tier": "backend"}}},
    )
    cluster.settle()
    return cluster


@pytest.mark.parametrize(
    "name",
    [
        "web",
        "deployment/web",
        "deploy/web",
        "deployments/web",
        "deployment.apps/web",
        "Deployment/web",
        "policy/web",
        "releasepolicy.davylamp.dev/web",
        "web-bc87ce785f-1",
        "release/web-bc87ce785f-1",
        "release.davylamp.dev/web-bc87ce785f-1",
    ],
)
def test_a_workload_has_many_names(davy: Davy, serve: Serve, name: str) -> None:
    serve(fleet())
    assert davy("status", name, "-o", "name").out == "deployment.apps/web\n"


def test_the_policy_of_a_fleet_means_all_of_it_in_status(davy: Davy, serve: Serve) -> None:
    serve(fleet())
    assert davy("status", "frontend", "-o", "name").lines == ["deployment.apps/basket", "deployment.apps/cart"]
    assert [view["name"] for view in json.loads(davy("status", "frontend", "-o", "json").out)] == ["basket", "cart"]


def test_a_command_for_a_fleet_has_to_name_one_of_it(davy: Davy, serve: Serve) -> None:
    serve(fleet())
    result = davy("pause", "frontend")
    assert (result.code, result.err) == (
        exits.BAD_INPUT,
        'davy: "frontend" is several Deployments in shop, basket and cart: name one of them\n',
    )
    assert davy("status", "frontend", "--wait").code == exits.BAD_INPUT


def test_a_policy_without_a_deployment_says_why(davy: Davy, serve: Serve) -> None:
    serve(fleet())
    result = davy("status", "backend")
    assert result.code == exits.OK
    assert result.out == ("policy shop/backend: spec.target.matchLabels: no Deployment in shop has tier=backend\n")
    assert davy("pause", "backend").err == "davy: policy shop/backend has no Deployment\n"


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("wbe", exits.NOT_FOUND, "no Deployment, policy or release wbe in namespace shop; did you mean web?"),
        ("deploy/card", exits.NOT_FOUND, "no Deployment card in namespace shop; did you mean cart?"),
        ("other", exits.NOT_FOUND, "there are basket, cart and web"),
        ("release/x", exits.NOT_FOUND, "no Release x in namespace shop; there are web-bc87ce785f-1"),
        ("service/web", exits.BAD_INPUT, '"service/web" names no workload: a Deployment\'s name, or deployment/NAME'),
        ("deploy/", exits.BAD_INPUT, '"deploy/" names no workload'),
    ],
)
def test_a_name_that_means_nothing_is_answered_with_names_that_do(
    davy: Davy, serve: Serve, name: str, code: int, said: str
) -> None:
    serve(fleet())
    for command in ("status", "watch", "pause", "history"):
        result = davy(command, name)
        assert result.code == code
        assert said in result.err
        assert len(result.err.splitlines()) == 1


def test_an_empty_namespace_says_so(davy: Davy, serve: Serve) -> None:
    serve(fleet())
    assert "there is none at all in that namespace" in davy("status", "x", "-n", "empty").err


def test_a_deployment_that_only_a_policy_names_is_found(davy: Davy, serve: Serve) -> None:
    serve(situations.gone())
    result = davy("status", "web")
    assert result.code == exits.OK
    assert result.lines[:2] == [
        "policy shop/web can't be used, 1 problem:",
        '  spec.target.name: no Deployment "web" in shop; there is none at all',
    ]
