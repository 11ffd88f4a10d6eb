"""What a person sees of a pair, how they start one, and how a canary made by hand becomes a release."""

from __future__ import annotations

import re

import yaml

from davylamp.cli import exits
from davylamp.core import names
from davylamp.core.actions import Ref
from tests.cli.conftest import Davy, Serve, Terminal
from tests.core.model import Json
from tests.core.pair_model import V2, Pair, pair_policy, until_step
from tests.core.test_pairs import APPROVED, of, started

WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"


def test_both_names_and_the_policys_mean_the_same_workload(davy: Davy, serve: Serve) -> None:
    cluster = started(APPROVED)
    cluster.run()
    serve(cluster)
    seen = {davy("status", name).out for name in ("web", "web-v1", "web-v2", "policy/web")}
    assert len(seen) == 1
    lines = seen.pop().splitlines()
    assert lines[0].startswith("shop/web-v1 and web-v2  release web-v2-")
    assert any(line.split()[:3] == ["stable", "web-v1", "(hellok8s:v1)"] for line in lines)
    assert any(line.split()[:3] == ["canary", "web-v2", "(hellok8s:v2)"] for line in lines)
    assert any("`davy approve web-v2`" in line for line in lines)


def test_at_rest_it_is_said_who_serves_and_how_to_start(davy: Davy, serve: Serve) -> None:
    serve(of(APPROVED))
    out = davy("status", "web").out
    assert "web-v1 (hellok8s:v1) serves, web-v2 is idle" in out
    assert "`davy start web-v2`" in out


def test_a_watch_shows_each_deployment_by_its_role_with_its_pods_below(
    davy: Davy, serve: Serve, terminal: Terminal
) -> None:
    cluster = started(APPROVED)
    cluster.run()
    serve(cluster)
    assert davy("watch", "web", "--timeout", "300ms").code == exits.TIMED_OUT
    drawn = terminal.getvalue()
    last = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", drawn[drawn.rindex("shop/web-v1 and web-v2") :])
    shown = [line.split()[:3] for line in last.splitlines() if re.match(r"  (stable|canary) |\s+[├└] ", line)]
    roles = [line for line in shown if line[0] in ("stable", "canary")]
    assert roles == [["stable", "web-v1", "(hellok8s:v1)"], ["canary", "web-v2", "(hellok8s:v2)"]]
    of = [next(name for name in ("web-v1", "web-v2") if name in line[1]) for line in shown]
    assert of == ["web-v1"] * 5 + ["web-v2"] * (1 + cluster.size("web-v2")), last


def test_the_history_of_a_pair_has_the_releases_of_both(davy: Davy, serve: Serve) -> None:
    cluster = started([{"weight": 100}])
    cluster.run()
    cluster.set_image_of("web-v1", "hellok8s:v3")
    cluster.run()
    serve(cluster)
    for name in ("web", "web-v1", "web-v2"):
        lines = davy("history", name).lines
        assert [line.split()[0].rsplit("-", 2)[0] for line in lines[1:]] == ["web-v1", "web-v2"]


def test_all_workloads_have_a_pair_once(davy: Davy, serve: Serve) -> None:
    serve(of(APPROVED))
    lines = davy("status").lines
    assert [line.split("  ")[0] for line in lines[1:]] == ["web-v1 and web-v2"]


def test_a_start_is_a_word_on_the_idle_deployment_said_once(davy: Davy, serve: Serve) -> None:
    cluster = of(APPROVED)
    server = serve(cluster)
    result = davy("start", "web", "--reason", "friday")
    assert result.code == exits.OK
    assert "begins; `davy watch web-v2` shows how" in result.out
    idle = next(d for d in server.of_kind("Deployment") if d["metadata"]["name"] == "web-v2")
    assert idle["metadata"]["annotations"][names.START].startswith("web-v2-")
    assert idle["metadata"]["annotations"][names.START_BY] == "ann (ann@laptop): friday"
    assert "begins already" in davy("start", "web").out


def test_a_start_is_refused_where_it_makes_no_sense(davy: Davy, serve: Serve) -> None:
    cluster = started(APPROVED)
    cluster.run()
    serve(cluster)
    result = davy("start", "web")
    assert (result.code, "is under way" in result.err) == (exits.REFUSED, True)


def by_hand() -> Pair:
    """Two Deployments, two Services, two Ingresses, at 10 %, and no policy."""
    cluster = Pair(by_hand=10, idle=2)
    cluster.set_image_of("web-v2", V2)
    return cluster


def test_adopting_tells_what_there_is_and_writes_nothing(davy: Davy, serve: Serve) -> None:
    server = serve(by_hand())
    result = davy("adopt", "web")
    assert result.code == exits.OK
    assert result.err.splitlines()[:3] == [
        "found in shop:",
        "  Ingress web sends shop.example/ to Service web: Deployment web-v1 (hellok8s:v1, 4 pods)",
        "  Ingress web-canary sends 10 % of it to Service web-canary: Deployment web-v2 (hellok8s:v2, 2 pods)",
    ]
    steps: list[Json] = [{"weight": 10, "approve": True}, {"weight": 50, "hold": "10m"}, {"weight": 100, "hold": "10m"}]
    spec = pair_policy(steps, canary=True, traffic={"canaryService": "web-canary"})
    assert yaml.safe_load(result.out)["spec"] == spec
    assert server.of_kind("ReleasePolicy") == []


def test_an_adopted_canary_goes_on_without_a_change_of_its_weight(davy: Davy, serve: Serve) -> None:
    cluster = by_hand()
    server = serve(cluster)
    result = davy("adopt", "web-canary", "--apply")
    assert (result.code, "goes on from 10 %" in result.out) == (exits.OK, True)
    (policy,) = server.of_kind("ReleasePolicy")
    cluster.put("ReleasePolicy", "web", spec=policy["spec"])
    idle = next(d for d in server.of_kind("Deployment") if d["metadata"]["name"] == "web-v2")
    cluster.edit(
        "Deployment", "web-v2", lambda obj: obj["metadata"].update(annotations=idle["metadata"]["annotations"])
    )
    cluster.run(until=until_step(cluster, 1))
    assert set(cluster.weights) == {10}
    assert cluster.run().reason == "AwaitingApproval"
    cluster.command(approved={"step": 1})
    cluster.run()
    assert cluster.phase() == "Completed"
    assert [w for i, w in enumerate(cluster.weights) if i == 0 or w != cluster.weights[i - 1]] == [10, 50, 100]
    assert cluster.get("Ingress", "web-canary")["metadata"]["annotations"][WEIGHT] == "0"
    assert cluster.violations == []


def test_a_deployment_that_the_controller_marks_meanwhile_is_asked_again(davy: Davy, serve: Serve) -> None:
    cluster = by_hand()
    server = serve(cluster)
    marks = iter(("once", "twice"))

    def marked(verb: str, ref: Ref) -> None:
        if verb == "patch" and ref.kind == "Deployment" and (mark := next(marks, "")):
            cluster.edit("Deployment", ref.name, lambda obj: obj["metadata"].update(labels={"mark": mark}))
            server.mirror()

    server.before = marked
    result = davy("adopt", "web", "--apply")
    assert (result.code, "goes on from 10 %" in result.out) == (exits.OK, True), result.err
    idle = next(d for d in server.of_kind("Deployment") if d["metadata"]["name"] == "web-v2")
    assert (names.START in idle["metadata"]["annotations"], idle["metadata"]["labels"]) == (True, {"mark": "twice"})


def test_there_being_no_canary_of_that_name_is_said_with_those_that_there_are(davy: Davy, serve: Serve) -> None:
    serve(by_hand())
    result = davy("adopt", "shop")
    assert result.code == exits.NOT_FOUND
    assert result.err == 'davy: no canary Ingress in namespace shop has to do with "shop"; there are web-canary\n'


def test_a_policy_that_is_there_already_is_not_made_again(davy: Davy, serve: Serve) -> None:
    cluster = by_hand()
    cluster.put("ReleasePolicy", "old", spec=pair_policy(APPROVED, canary=True))
    serve(cluster)
    result = davy("adopt", "web", "--apply")
    assert result.code == exits.BAD_INPUT
    assert 'is the target of the ReleasePolicies "old" and "web"' in result.err
