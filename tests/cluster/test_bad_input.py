"""A policy that can't be used: everything that is wrong at once, in each place where a person may look."""

from __future__ import annotations

import pytest
from davylab.errors import LabError

from tests.cluster.shop import Controller, Json, Shop, policy_manifest

V1, V2 = "hellok8s:v1", "hellok8s:v2"
WRONG: Json = {
    "target": {"name": "web"},
    "traffic": {"service": "web", "routes": [{"ingress": {"name": "wbe"}}]},
    "steps": [{"weight": 10, "hold": "1m"}],
}


def reason_of(shop: Shop) -> str:
    conditions = shop.get("releasepolicy", "web").get("status", {}).get("conditions", [])
    return next((c["message"] for c in conditions if c["type"] == "Ready" and c["status"] == "False"), "")


def test_everything_wrong_is_told_in_the_condition_the_event_and_the_status(shop: Shop, controller: Controller) -> None:
    shop.open()
    shop.kubectl("patch", "service", "web", "-p", '{"spec":{"publishNotReadyAddresses":true}}')
    shop.apply(policy_manifest("web", WRONG))
    shop.wait(lambda: reason_of(shop), "the condition")
    no_ingress = f'spec.traffic.routes[0].ingress.name: no Ingress "wbe" in {shop.namespace}'
    for told in (reason_of(shop), shop.davy("status", "web", check=False).stdout):
        assert no_ingress in told
        assert "publishNotReadyAddresses" in told
    shop.wait(lambda: [e for e in shop.events() if no_ingress in e], "the event on the policy")


def test_a_deployment_held_by_an_invalid_policy_says_so_and_goes_on_when_it_is_mended(
    shop: Shop, controller: Controller
) -> None:
    shop.open()
    shop.apply(policy_manifest("web", WRONG))
    shop.wait(lambda: reason_of(shop), "the condition")
    shop.set_image(V2)
    assert shop.get("deployment", "web")["spec"]["paused"], "the gate does not know which policies are valid"

    def told() -> list[str]:
        events = shop.all("events.events.k8s.io")
        return [
            e["note"] for e in events if e["regarding"]["kind"] == "Deployment" and "policy web" in e.get("note", "")
        ]

    shop.wait(told, "the event on the Deployment")
    assert "kubectl rollout resume" in told()[0]
    assert set(shop.pods().values()) == {V1}
    shop.policy({"weight": 50})
    shop.wait_phase(V2, "Completed")
    shop.wait_quiet(V2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [{"weight": 50}, {"weight": 10}]}, "rise"),
        ({"steps": [{"weight": 101}]}, "less than or equal to 100"),
        ({"steps": [{"weight": 10, "hold": "10"}]}, "hold"),
        ({"steps": [{"weight": 10, "holdd": "10m"}]}, 'unknown field "spec.steps[0].holdd"'),
        ({"steps": []}, "steps"),
        ({"target": {}}, "name"),
        ({"target": {"name": "web", "matchLabels": {"a": "b"}}}, "matchLabels"),
        ({"onFailure": "panic"}, 'supported values: "hold", "revert"'),
    ],
)
def test_what_the_api_server_can_check_is_refused_by_it(shop: Shop, change: Json, message: str) -> None:
    with pytest.raises(LabError) as refused:
        shop.apply(policy_manifest("web", WRONG | change))
    assert message in str(refused.value)
    assert shop.all("releasepolicies") == []


def test_two_policies_for_one_deployment_are_both_refused(shop: Shop, controller: Controller) -> None:
    shop.open()
    fine = {"target": {"name": "web"}, "steps": [{"weight": 50}]}
    shop.apply(policy_manifest("web", fine), policy_manifest("other", fine))

    def both_refused() -> bool:
        return all(shop.condition("Ready", name) == "False" for name in ("web", "other"))

    shop.wait(both_refused, "both policies refused")
    assert "other" in reason_of(shop)
    shop.kubectl("delete", "releasepolicy", "other")
    shop.wait(lambda: shop.condition("Ready") == "True", "the one that is left")


def test_an_edit_in_a_release_changes_the_next(shop: Shop, controller: Controller) -> None:
    shop.open()
    shop.policy({"weight": 50, "approve": True})
    shop.set_image(V2)
    shop.wait_step(V2, 1)
    shop.policy({"weight": 20})
    shop.davy("status", "web")
    assert shop.release(V2)["spec"]["steps"] == [{"weight": 50, "approve": True}]
    assert shop.phase(V2) == "Progressing"
