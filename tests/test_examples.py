"""Every YAML in examples/ is a policy that can be used with the objects beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from davylamp.api.objects import (
    Deployment,
    HTTPRoute,
    Ingress,
    IngressClass,
    IngressClassSpec,
    Meta,
    Service,
    VirtualService,
)
from davylamp.api.parse import parse_policy
from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.review import review

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
TYPES: dict[str, Any] = {kind.__name__: kind for kind in (Deployment, Service, Ingress, HTTPRoute, VirtualService)}
NGINX = IngressClass(metadata=Meta(name="nginx"), spec=IngressClassSpec(controller="k8s.io/ingress-nginx"))


def served(document: dict[str, Any]) -> dict[str, Any]:
    """What a Gateway's controller says of a route that it has taken."""
    if document["kind"] != "HTTPRoute":
        return {}
    conditions = [{"type": "Accepted", "status": "True"}, {"type": "ResolvedRefs", "status": "True"}]
    parents = [{"parentRef": ref, "conditions": conditions} for ref in document["spec"]["parentRefs"]]
    return {"status": {"parents": parents}}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_can_be_used_as_it_is(file: Path) -> None:
    documents = list(yaml.safe_load_all(file.read_text()))
    objects = [
        msgspec.json.decode(msgspec.json.encode(document | served(document)), type=TYPES[document["kind"]])
        for document in documents
        if document["kind"] in TYPES
    ]
    mine = [document for document in documents if document["kind"] == "ReleasePolicy"]
    policies, problems = parse_policy(yaml.safe_dump_all(mine))
    assert problems == []
    assert len(policies) == 1
    index = NamespaceObjects.of("", [*policies, *objects], {"nginx": NGINX})
    assert [problem for problem in review(policies[0], index) if not problem.warning] == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4
