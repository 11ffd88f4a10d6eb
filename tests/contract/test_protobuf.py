"""Bodies as typed clients on client-go send them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.harness import Answer, Space

PROTOBUF = "application/vnd.kubernetes.protobuf"
Message = list[tuple[int, Any]]


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def message(fields: Message) -> bytes:
    """Fields by number: numbers, text, bytes, or messages that are lists of fields."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
            continue
        raw = message(value) if isinstance(value, list) else value.encode() if isinstance(value, str) else value
        out += varint(number << 3 | 2) + varint(len(raw)) + raw
    return out


def body(api_version: str, kind: str, fields: Message) -> bytes:
    return b"k8s\0" + message([(1, [(1, api_version), (2, kind)]), (2, message(fields)), (3, ""), (4, "")])


def send(space: Space, method: str, plural: str, raw: bytes, name: str = "") -> Answer:
    return space.request(method, plural, name, raw, content_type=PROTOBUF)


def test_a_lease_is_taken_and_renewed(space: Space) -> None:
    lease: Message = [
        (1, [(1, "lock"), (2, ""), (3, space.name), (7, 0), (8, [])]),
        (2, [(1, "me"), (2, 15), (3, [(1, 1764180000), (2, 250_000_000)]), (4, [(1, 1764180000), (2, 0)]), (5, 0)]),
    ]
    made = send(space, "POST", "leases.coordination.k8s.io", body("coordination.k8s.io/v1", "Lease", lease))
    assert (made.code, made.body["spec"]) == (
        201,
        {
            "holderIdentity": "me",
            "leaseDurationSeconds": 15,
            "acquireTime": "2025-11-26T18:00:00.250000Z",
            "renewTime": "2025-11-26T18:00:00.000000Z",
            "leaseTransitions": 0,
        },
    )
    lease[0][1].append((6, made.body["metadata"]["resourceVersion"]))
    lease[1][1].append((1, "another"))
    taken = send(space, "PUT", "leases.coordination.k8s.io", body("coordination.k8s.io/v1", "Lease", lease), "lock")
    assert (taken.code, taken.body["spec"]["holderIdentity"]) == (200, "another")
    stale = send(space, "PUT", "leases.coordination.k8s.io", body("coordination.k8s.io/v1", "Lease", lease), "lock")
    assert (stale.code, stale.reason) == (409, "Conflict")


def test_a_pod_keeps_all_that_its_message_says(space: Space) -> None:
    handler: Message = [(1, [(2, [(1, "/ready"), (2, [(1, 1), (2, 0), (3, "http")])])]), (4, 7)]
    variable: Message = [(1, "WHERE"), (3, [(1, [(1, ""), (2, "metadata.name")])])]
    resources: Message = [(2, [(1, "cpu"), (2, [(1, "100m")])])]
    container: Message = [
        (1, "app"),
        (2, "hellok8s:v1"),
        (6, [(1, ""), (2, 0), (3, 8080)]),
        (7, variable),
        (8, resources),
        (9, [(1, "scratch"), (3, "/tmp")]),
        (11, handler),
        (14, "Always"),
    ]
    spec: Message = [(1, [(1, "scratch"), (2, [(2, [(1, ""), (2, [(1, "1Mi")])])])]), (2, container), (4, 0)]
    meta: Message = [
        (1, "one"),
        (11, [(1, "app"), (2, "web")]),
        (12, [(1, "empty"), (2, "")]),
        (14, "davylamp.dev/hold"),
    ]
    made = send(space, "POST", "pods", body("v1", "Pod", [(1, meta), (2, spec)]))
    assert made.code == 201, made.message
    space.patch("pods", "one", {"metadata": {"finalizers": None}})
    (found,) = made.body["spec"]["containers"]
    assert made.body["metadata"]["labels"] == {"app": "web"}
    assert made.body["metadata"]["annotations"] == {"empty": ""}
    assert found["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    assert found["env"] == [
        {"name": "WHERE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
    ]
    assert found["resources"] == {"requests": {"cpu": "100m"}}
    assert found["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http", "scheme": "HTTP"}
    assert found["readinessProbe"]["periodSeconds"] == 7
    assert made.body["spec"]["terminationGracePeriodSeconds"] == 0
    volumes = [volume for volume in made.body["spec"]["volumes"] if volume["name"] == "scratch"]
    assert volumes == [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}]


def test_a_secret_keeps_its_bytes(space: Space) -> None:
    fields: Message = [(1, [(1, "key")]), (2, [(1, "raw"), (2, b"\xff\x00")]), (2, [(1, "none")]), (3, "Opaque")]
    assert send(space, "POST", "secrets", body("v1", "Secret", fields)).code == 201
    assert space.get("secrets", "key")["data"] == {"raw": "/wA=", "none": ""}


def test_a_deletion_keeps_to_its_options(space: Space) -> None:
    space.create("configmaps", {"metadata": {"name": "one"}})
    wrong = body("v1", "DeleteOptions", [(2, [(1, "somebody-else")])])
    refused = send(space, "DELETE", "configmaps", wrong, "one")
    assert (refused.code, refused.reason) == (409, "Conflict")
    assert (
        send(space, "DELETE", "configmaps", body("v1", "DeleteOptions", [(1, 0), (4, "Background")]), "one").code == 200
    )
    assert space.find("configmaps", "one") is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"k8s\0\xff", body("v1", "ConfigMap", [(1, [(1, "x")])])[:-9], body("v1", "ConfigMap", [(1, 3)])],
    ids=["nothing", "JSON", "a number without end", "cut off", "another type"],
)
def test_what_is_no_message_is_refused(space: Space, raw: bytes) -> None:
    answer = send(space, "POST", "configmaps", raw)
    assert (answer.code, answer.reason) == (400, "BadRequest")
