"""Where the metrics of a release's pods are, and how its versions are called."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from davylamp.api.analysis import Scraping
from davylamp.api.objects import Condition, Meta, Pod, PodStatus, ServicePort, ServiceSpec
from davylamp.api.types import Release, ReleaseSpec, Side
from davylamp.controller.measured import MOST_STABLE, Container, container_of, measured, sides_of
from tests.builders import BEGIN, deployment, replica_set, service

HTTP = Container("app", {"http": 8080})


def pod(name: str, *, ready: bool = True, ip: str = "10.244.0.9", going: bool = False) -> Pod:
    state = Condition("Ready", "True" if ready else "False", last_transition_time=BEGIN)
    gone = BEGIN if going else None
    return Pod(Meta(name=name, deletion_timestamp=gone), PodStatus(pod_ip=ip, conditions=(state,)))


def ports(*containers: list[dict[str, Any]]) -> Any:
    spec = {"containers": [{"name": f"c{number}", "ports": given} for number, given in enumerate(containers)]}
    made = replica_set(deployment())
    template = msgspec.Raw(json.dumps({"spec": spec}).encode())
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, template=template))


@pytest.mark.parametrize(
    ("containers", "target", "expected"),
    [
        ([[{"name": "http", "containerPort": 80}]], 80, {"http": 80}),
        ([[{"containerPort": 80}], [{"name": "metrics", "containerPort": 9090}]], "http", {"80": 80, "metrics": 9090}),
        ([[]], 8080, {"8080": 8080}),
        ([[]], None, {"80": 80}),
        ([[]], "http", {}),
    ],
)
def test_ports_are_the_templates_and_those_that_only_the_service_names(
    containers: list[list[dict[str, Any]]], target: int | str | None, expected: dict[str, int]
) -> None:
    given = msgspec.structs.replace(service(), spec=ServiceSpec(ports=(ServicePort(80, target_port=target),)))
    assert container_of(ports(*containers), given) == Container("c0", expected)


def test_nothing_is_known_of_a_version_whose_replica_set_is_gone() -> None:
    assert container_of(None, None) == Container()


def test_only_pods_that_can_answer_are_asked() -> None:
    pods = [pod("a"), pod("b", ready=False), pod("c", ip=""), pod("d", going=True)]
    found = measured("shop", pods, pods, containers=(HTTP, HTTP), scraping=Scraping(), now=BEGIN.timestamp())
    assert [target.pod for target in found.all] == ["a", "a"]
    assert found.stable[0].urls[0] == "http://10.244.0.9:8080/metrics"


def test_a_young_pod_is_known_by_when_it_became_ready() -> None:
    def ready_at(later: timedelta) -> float | None:
        now = (BEGIN + later).timestamp()
        return (
            measured("shop", (), [pod("a")], containers=(HTTP, HTTP), scraping=Scraping(), now=now).canary[0].ready_at
        )

    assert ready_at(timedelta(minutes=5)) == BEGIN.timestamp()
    assert ready_at(timedelta(days=1)) is None


def test_of_very_many_stable_pods_always_the_same_ones_are_asked() -> None:
    pods = [pod(f"web-{number}") for number in range(500)]
    first, again = (
        measured("shop", some, (), containers=(HTTP, HTTP), scraping=Scraping(), now=0).stable
        for some in (pods, pods[::-1])
    )
    assert len(first) == MOST_STABLE
    assert {target.pod for target in first} == {target.pod for target in again}


def test_a_version_is_told_by_its_hash_its_replica_set_its_image_its_tag_and_its_pods() -> None:
    spec = ReleaseSpec(
        policy="web",
        deployment="web",
        template="",
        stable=Side("web-1", "h1", "registry:5000/shop/web"),
        canary=Side("web-2", "h2", "shop/web:v2, proxy:1.2"),
        steps=(),
    )
    pods = measured("shop", [pod("a")], [pod("b")], containers=(HTTP, HTTP), scraping=Scraping(), now=0)
    sides = sides_of(Release(Meta(name="web-2"), spec), pods)
    assert sides.stable == {"web-1", "h1", "registry:5000/shop/web", "a"}
    assert sides.canary == {"web-2", "h2", "shop/web:v2", "v2", "proxy:1.2", "1.2", "b"}
