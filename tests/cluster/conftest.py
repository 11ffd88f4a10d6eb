"""One real control plane for all cluster tests, Davylamp installed on it, and a namespace for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from davylab import Lab

from tests.cluster.shop import Controller, Shop, davy

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """$DAVYLAB_STATE names one that is running already; otherwise one is started, and ends with the tests."""
    state = os.environ.get("DAVYLAB_STATE")
    with Lab.attach(state) if state else Lab(gateway=True, istio=True, audit=True) as lab:
        yield lab


@pytest.fixture(scope="session")
def installed(lab: Lab) -> Lab:
    davy(lab, "install")
    return lab


@pytest.fixture
def controller(installed: Lab, tmp_path: Path) -> Iterator[Controller]:
    """A controller of this test's own, as the service account it has in a cluster."""
    with Controller(installed, tmp_path / "controller.log") as controller:
        yield controller


@pytest.fixture
def shop(installed: Lab) -> Iterator[Shop]:
    """An empty namespace with helpers to fill it; it is deleted after the test."""
    shop = Shop(installed, f"shop-{next(_numbers)}")
    shop.kubectl("create", "namespace", shop.namespace)
    yield shop
    shop.close()
