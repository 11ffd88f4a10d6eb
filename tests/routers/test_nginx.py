"""Our canary Ingress: what it is made of, how drift is put right, and what the objects mean at a moment."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from davylamp.api.objects import Ingress, OwnerReference
from davylamp.core.actions import Ref
from davylamp.core.world import Exposure, Route, RouteContext, Wanted
from davylamp.routers.decision import CANARY, PREFIX, WEIGHT
from davylamp.routers.nginx import CLASS, NginxRoute, canary_name
from tests.builders import NAMESPACE, backend, ingress, meta

CONTEXT = RouteContext(
    release="web-7f6b13-1",
    release_uid="r1",
    namespace=NAMESPACE,
    service="web",
    canary_service="web-canary",
    canary_service_uid="s1",
)
OWNER = {
    "apiVersion": "v1",
    "kind": "Service",
    "name": "web-canary",
    "uid": "s1",
    "controller": True,
    "blockOwnerDeletion": True,
}
LABELS = {"app.kubernetes.io/managed-by": "davylamp", "davylamp.dev/release": "web-7f6b13-1"}
REF = Ref("Ingress", NAMESPACE, "web-davylamp")


def route(main: Ingress | None, canary: Ingress | None = None, *others: Ingress) -> NginxRoute:
    return NginxRoute(NAMESPACE, "web", "web", main, canary, others)


def made(manifest: dict[str, Any], *, age: float = 5) -> Ingress:
    """What the API server has after a manifest was created."""
    found = msgspec.convert(manifest, Ingress)
    known = meta("Ingress", found.metadata.name, age=age)
    metadata = msgspec.structs.replace(
        found.metadata, uid="i1", resource_version="7", creation_timestamp=known.creation_timestamp
    )
    return msgspec.structs.replace(found, metadata=metadata)


def canary_of(main: Ingress, weight: int = 10, *, age: float = 5) -> Ingress:
    (manifest,) = route(main).desired(Exposure(weight), CONTEXT).present
    return made(manifest, age=age)


def patched(canary: Ingress, patch: dict[str, Any]) -> Ingress:
    """`canary` after a merge patch (RFC 7386)."""
    content = _merge(msgspec.to_builtins(canary), patch)
    for rule in content["spec"].get("rules", ()):
        for path in rule["http"]["paths"]:
            path.setdefault("pathType", "ImplementationSpecific")
    return msgspec.convert(content, Ingress, strict=False)


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    content = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            content.pop(key, None)
        else:
            content[key] = _merge(content.get(key), value)
    return content


def with_annotations(obj: Ingress, **changed: str | None) -> Ingress:
    """`obj` with annotations of ingress-nginx set or (None) taken away; underscores are dashes."""
    named = {f"{PREFIX}{key.replace('_', '-')}": value for key, value in changed.items()}
    kept = {key: value for key, value in obj.metadata.annotations.items() if key not in named}
    given = {key: value for key, value in named.items() if value is not None}
    return with_meta(obj, annotations={**kept, **given})


def with_meta(obj: Ingress, **changed: Any) -> Ingress:
    return msgspec.structs.replace(obj, metadata=msgspec.structs.replace(obj.metadata, **changed))


def test_the_canary_ingress_is_the_users_with_its_places_and_the_canary_service() -> None:
    main = ingress(
        rules=[
            ("web.example", "/", "web"),
            ("web.example", "/api", "api"),
            ("web.example", "/v", "web", "http", "Exact"),
            ("api.example", "/", "api"),
            ("any.example", "/.*", "web", 81, "ImplementationSpecific"),
        ],
        tls=["web.example"],
        default="web",
        bare=["bare.example"],
        annotations={
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "cert-manager.io/cluster-issuer": "letsencrypt",
            f"{PREFIX}rewrite-target": "/",
            f"{PREFIX}load-balance": "ewma",
            f"{PREFIX}upstream-hash-by": "$request_uri",
            f"{PREFIX}service-upstream": "true",
        },
    )
    wanted = route(main).desired(Exposure(10), CONTEXT)
    assert wanted == Wanted(
        present=(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {
                    "name": "web-davylamp",
                    "namespace": NAMESPACE,
                    "labels": LABELS,
                    "annotations": {
                        f"{PREFIX}load-balance": "ewma",
                        f"{PREFIX}upstream-hash-by": "$request_uri",
                        f"{PREFIX}service-upstream": "true",
                        CANARY: "true",
                        WEIGHT: "10",
                    },
                    "ownerReferences": [OWNER],
                },
                "spec": {
                    "ingressClassName": "nginx",
                    "tls": [{"hosts": ["web.example"], "secretName": "web-tls"}],
                    "rules": [
                        {
                            "host": "web.example",
                            "http": {
                                "paths": [
                                    {"path": "/", "pathType": "Prefix", "backend": to({"number": 80})},
                                    {"path": "/v", "pathType": "Exact", "backend": to({"name": "http"})},
                                ]
                            },
                        },
                        {
                            "host": "any.example",
                            "http": {
                                "paths": [
                                    {
                                        "path": "/.*",
                                        "pathType": "ImplementationSpecific",
                                        "backend": to({"number": 81}),
                                    }
                                ]
                            },
                        },
                    ],
                },
            },
        )
    )


def to(port: dict[str, Any]) -> dict[str, Any]:
    return {"service": {"name": "web-canary", "port": port}}


def test_a_class_given_by_annotation_is_kept_as_one() -> None:
    old = ingress(class_name=None, annotations={CLASS: "nginx"})
    (manifest,) = route(old).desired(Exposure(1), CONTEXT).present
    assert manifest["metadata"]["annotations"] == {CLASS: "nginx", CANARY: "true", WEIGHT: "1"}
    assert "ingressClassName" not in manifest["spec"]
    both = ingress(annotations={CLASS: "other"})  # the API server refuses a new object with both
    (manifest,) = route(both).desired(Exposure(1), CONTEXT).present
    assert CLASS not in manifest["metadata"]["annotations"]


def test_what_was_created_is_what_was_wanted_and_nothing_is_left_to_write() -> None:
    main = ingress(rules=[("", "/", "web", 80, "ImplementationSpecific")], tls=["a"])
    found = route(main, canary_of(main))
    assert found.desired(Exposure(10), CONTEXT).reached
    assert found.effective(CONTEXT) == Exposure(10)
    assert found.hindrance(CONTEXT) == ""


def test_a_weight_is_one_patch_of_one_annotation() -> None:
    main = ingress()
    wanted = route(main, canary_of(main)).desired(Exposure(50), CONTEXT)
    patch = {"metadata": {"annotations": {WEIGHT: "50"}, "resourceVersion": "7"}}
    assert wanted == Wanted(patches=((REF, patch),))


def test_no_exposure_deletes_the_canary_and_never_strips_it() -> None:
    main = ingress()
    assert route(main).desired(None, CONTEXT).reached
    assert route(main, canary_of(main)).desired(None, CONTEXT) == Wanted(absent=((REF, "i1"),), collected=True)


@pytest.mark.parametrize(("value", "collected"), [("true", False), ("1", False), ("false", True)])
def test_where_proxies_ask_the_services_address_ours_does_not_go_together_with_the_service(
    value: str, collected: bool
) -> None:
    main = ingress(annotations={PREFIX + "service-upstream": value})
    assert route(main, canary_of(main)).desired(None, CONTEXT).collected is collected


def test_ours_belongs_to_the_release_where_there_is_no_service_of_ours_and_is_given_to_one_that_comes() -> None:
    main, alone = ingress(), msgspec.structs.replace(CONTEXT, canary_service_uid="")
    (manifest,) = route(main).desired(Exposure(10), alone).present
    assert [o["kind"] for o in manifest["metadata"]["ownerReferences"]] == ["Release"]
    found = route(main, made(manifest))
    assert found.desired(None, CONTEXT) == Wanted(absent=((REF, "i1"),))
    ((ref, patch),) = found.desired(Exposure(10), CONTEXT).patches
    assert (ref, patch["metadata"]["ownerReferences"]) == (REF, [OWNER])
    going = with_meta(canary_of(main), deletion_timestamp=meta("", "x").creation_timestamp)
    assert route(main, going).desired(None, CONTEXT).reached
    assert route(main, going).effective(CONTEXT) == Exposure(10)  # it counts until it is gone


MAIN = ingress(tls=["web.example"])
OURS = canary_of(MAIN)
SPEC = OURS.spec


@pytest.mark.parametrize(
    "drifted",
    [
        with_annotations(OURS, canary=None),
        with_annotations(OURS, canary="false"),
        with_annotations(OURS, canary_weight="99"),
        with_annotations(OURS, canary_weight=None),
        with_annotations(OURS, canary_weight_total="1000"),
        with_annotations(OURS, canary_by_header="X-Canary"),
        with_annotations(OURS, canary=None, canary_weight="3", canary_by_cookie="c"),
        with_meta(OURS, labels={}),
        with_meta(OURS, owner_references=()),
        msgspec.structs.replace(OURS, spec=msgspec.structs.replace(SPEC, rules=())),
        msgspec.structs.replace(OURS, spec=msgspec.structs.replace(SPEC, ingress_class_name="other")),
        msgspec.structs.replace(OURS, spec=msgspec.structs.replace(SPEC, ingress_class_name=None)),
        msgspec.structs.replace(OURS, spec=msgspec.structs.replace(SPEC, tls=())),
        msgspec.structs.replace(OURS, spec=msgspec.structs.replace(SPEC, default_backend=backend("web"))),
    ],
)
def test_drift_by_other_hands_is_put_right_in_one_write_together_with_the_new_weight(drifted: Ingress) -> None:
    wanted = route(MAIN, drifted).desired(Exposure(50), CONTEXT)
    ((ref, patch),) = wanted.patches
    assert (ref, patch["metadata"]["resourceVersion"]) == (REF, "7")
    assert not wanted.present
    assert not wanted.absent
    right = route(MAIN, patched(drifted, patch))
    assert right.desired(Exposure(50), CONTEXT).reached
    assert right.effective(CONTEXT) == Exposure(50)


def test_annotations_of_others_are_left_alone() -> None:
    found = with_meta(OURS, annotations={**OURS.metadata.annotations, "field.cattle.io/publicEndpoints": "[]"})
    assert route(MAIN, found).desired(Exposure(10), CONTEXT).reached


def test_a_path_that_the_user_adds_during_a_release_is_followed() -> None:
    more = ingress(rules=[("web.example", "/", "web"), ("web.example", "/new", "web")], tls=["web.example"])
    found = route(more, OURS)
    ((_, patch),) = found.desired(Exposure(10), CONTEXT).patches
    assert patch["metadata"] == {"resourceVersion": "7"}
    assert list(patch["spec"]) == ["rules"]
    assert route(more, patched(OURS, patch)).desired(Exposure(10), CONTEXT).reached


def test_a_path_that_the_user_removes_makes_ours_ineffective_until_it_is_followed() -> None:
    both = ingress(rules=[("web.example", "/", "web"), ("web.example", "/b", "web")])
    found = route(ingress(), canary_of(both))
    assert found.effective(CONTEXT) is None  # ingress-nginx drops the whole canary for one unmatched path
    assert found.desired(Exposure(10), CONTEXT).patches


@pytest.mark.parametrize(
    "main", [None, ingress(rules=[("web.example", "/", "other")]), ingress(rules=[], default="web")]
)
def test_with_nothing_left_to_split_our_ingress_goes(main: Ingress | None) -> None:
    assert route(main).desired(Exposure(10), CONTEXT).reached
    found = route(main, OURS)
    assert found.desired(Exposure(10), CONTEXT).absent == ((REF, "i1"),)
    assert found.effective(CONTEXT) is None
    assert found.hindrance(CONTEXT) == ("Ingress web no longer sends to Service web" if main else "Ingress web is gone")


COPIED = OwnerReference(kind="Shop", name="x", uid="x", controller=True)


@pytest.mark.parametrize(
    "foreign",
    [ingress("web-davylamp", [("x", "/", "y")]), ingress("web-davylamp", labels=LABELS, owner=COPIED)],
)
def test_an_ingress_of_our_name_that_is_somebody_elses_is_never_touched(foreign: Ingress) -> None:
    found = route(ingress(), foreign)
    assert found.desired(Exposure(10), CONTEXT).reached
    assert found.desired(None, CONTEXT).reached
    assert found.effective(CONTEXT) is None
    assert found.hindrance(CONTEXT) == "there is an Ingress web-davylamp already, and it is not ours"


def test_a_leftover_of_another_release_goes_first() -> None:
    older = OwnerReference(kind="Release", name="web-0-1", uid="r0", controller=True)
    left = with_meta(OURS, owner_references=(older,), labels={**LABELS, "davylamp.dev/release": "web-0-1"})
    found = route(MAIN, left)
    assert found.desired(Exposure(10), CONTEXT) == Wanted(absent=((REF, "i1"),))
    assert found.desired(None, CONTEXT) == Wanted(absent=((REF, "i1"),))
    assert found.effective(CONTEXT) is None


def foreign_canary(age: float, rules: Any = (("web.example", "/", "other"),)) -> Ingress:
    return ingress("rival", rules, annotations={CANARY: "true", WEIGHT: "5"}, age=age)


def test_an_older_foreign_canary_counts_instead_of_ours_and_is_named() -> None:
    found = route(MAIN, OURS, foreign_canary(age=1))
    assert found.effective(CONTEXT) is None
    assert found.hindrance(CONTEXT) == (
        "Ingress rival is an older canary of Service web, and only the oldest one counts"
    )
    assert found.desired(Exposure(10), CONTEXT).reached  # nothing that we could write would help


def test_a_younger_foreign_canary_changes_nothing() -> None:
    found = route(MAIN, OURS, foreign_canary(age=9))
    assert found.effective(CONTEXT) == Exposure(10)
    assert found.hindrance(CONTEXT) == ""


def test_an_older_canary_of_another_ingress_with_the_same_service_counts_too() -> None:
    other = ingress("internal", [("internal.example", "/", "web")])
    rival = foreign_canary(1, [("internal.example", "/", "other")])
    assert route(MAIN, OURS, other, rival).effective(CONTEXT) is None
    apart = ingress("internal", [("internal.example", "/", "web", "http")])  # another upstream: the port by name
    assert route(MAIN, OURS, apart, rival).effective(CONTEXT) == Exposure(10)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"canary_weight": "0"}, Exposure(0)),
        ({"canary_weight": "-5"}, Exposure(0)),
        ({"canary_weight": "150"}, Exposure(100)),
        ({"canary_weight": "1", "canary_weight_total": "1000"}, Exposure(1)),  # some requests are not none
        ({"canary_weight": "half"}, Exposure(0)),
        ({"canary": None}, Exposure(100)),  # an ordinary Ingress; it may win
    ],
)
def test_the_effect_is_what_the_controller_makes_of_the_annotations(
    changed: dict[str, str | None], expected: Exposure
) -> None:
    assert route(MAIN, with_annotations(OURS, **changed)).effective(CONTEXT) == expected


def test_a_canary_that_sends_elsewhere_has_no_effect() -> None:
    (manifest,) = route(MAIN).desired(Exposure(10), msgspec.structs.replace(CONTEXT, canary_service="x")).present
    assert route(MAIN, made(manifest)).effective(CONTEXT) is None


@pytest.mark.parametrize(
    ("ingress_name", "service", "expected"),
    [
        ("web", "web", "web-davylamp"),
        ("shop", "cart", "shop.cart-davylamp"),
        ("shop.cart", "x", "shop.cart.x-davylamp"),
    ],
)
def test_the_name_tells_ingress_and_service(ingress_name: str, service: str, expected: str) -> None:
    assert canary_name(ingress_name, service) == expected


def test_a_long_name_is_shortened_with_a_hash_and_stays_different() -> None:
    one, two = canary_name("a" * 253, "web"), canary_name("a" * 252 + "b", "web")
    assert (len(one), len(two), one == two) == (253, 253, False)
    assert one.endswith("-davylamp")


def test_it_is_a_route() -> None:
    found: Route = route(ingress())
    assert found.name == "Ingress web"
    assert found.refs == (Ref("Ingress", NAMESPACE, "web"), REF)
