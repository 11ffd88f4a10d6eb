"""Installing, on an API server in memory: what is applied, in which order, and how it is seen to work."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from davylamp.core import names
from davylamp.core.actions import Patch, Ref
from davylamp.kube import gate
from davylamp.kube.errors import ApiError
from davylamp.kube.install import FALLBACK, PROBE, InstallProblem, InstallReport, choose_gate, install
from davylamp.kube.kinds import ref_of_manifest
from davylamp.kube.manifests import INSTALLED, Options, document, manifests
from tests.kube.fake import FakeApi, FakeClock, Object

T = TypeVar("T")
NO_GATE: set[tuple[str, str]] = set()


class Trial(FakeApi):
    """Writes that are only tried: nothing is kept. The gate answers from `active_at` on (seconds; None: never)."""

    def __init__(self, real: FakeApi, active_at: float | None = 0.0) -> None:
        super().__init__(real.clock)
        self.real = real
        self.active_at = active_at

    async def apply(self, manifest: Object, force: bool = True) -> Any:
        self._request("apply", ref_of_manifest(manifest))
        namespace = manifest["metadata"].get("namespace")
        if namespace and Ref("Namespace", "", namespace) not in self.real.objects:
            raise ApiError(404, "NotFound", f'namespaces "{namespace}" not found')

    async def patch(self, patch: Patch) -> Any:
        self._request("patch", patch.ref)
        assert isinstance(patch.patch, dict)
        active = self.active_at is not None and self.clock.passed >= self.active_at
        found = self.real.objects[patch.ref]
        return self._decode({**found, "spec": {**found["spec"], **patch.patch["spec"], "paused": active}})

    async def delete(self, ref: Ref, uid: str = "", propagation: Any = "Background") -> Any | None:
        self._request("delete", ref)
        return None


class Cluster:
    def __init__(self, *, established_after: float = 0.0, active_at: float | None = 0.0) -> None:
        self.clock = FakeClock()
        self.api = FakeApi(self.clock)
        self.api.user = "admin"
        self.trial = Trial(self.api, active_at)
        self.established_after = established_after
        self.api.before = self._serve

    def _serve(self, verb: str, ref: Ref) -> None:
        """The API server takes up a CRD a while after it was written."""
        found = self.api.objects.get(ref)
        if verb == "get" and ref.kind == "CustomResourceDefinition" and found is not None:
            served = self.clock.passed >= self.established_after
            conditions = [{"type": "Established", "status": "True" if served else "False"}]
            if not served:
                conditions.append({"type": "NamesAccepted", "status": "False", "message": '"rel" is taken'})
            found["status"] = {"conditions": conditions}

    def install(self, *, dry_run: bool = False, **options: Any) -> InstallReport:
        work = install(self.api, self.trial, Options(**options), self.clock, dry_run=dry_run)
        return asyncio.run(ended(self.clock, work))

    def names(self, kind: str) -> list[str]:
        return sorted(obj["metadata"]["name"] for obj in self.api.of_kind(kind))


async def ended(clock: FakeClock, work: Coroutine[Any, Any, T]) -> T:
    """What comes of it, with as much time as it takes."""
    task = asyncio.create_task(work)
    for _ in range(2000):
        await clock.advance(0)
        if task.done():
            break
        await clock.advance((clock.next_at or clock.passed) - clock.passed)
    return await task


def results(report: InstallReport) -> set[str]:
    return {change.result for change in report.changes}


def test_everything_is_created_and_the_second_time_nothing_is_changed() -> None:
    cluster = Cluster()
    first = cluster.install()
    assert results(first) == {"created"}
    assert len(first.changes) == len(manifests(Options()))
    before = dict(cluster.api.objects)
    assert results(cluster.install()) == {"unchanged"}
    assert cluster.api.objects == before


def test_what_somebody_has_changed_is_put_right_and_reported() -> None:
    cluster = Cluster()
    cluster.install()
    role = Ref("ClusterRole", "", "davylamp")
    cluster.api.change(role, {"rules": []})
    report = cluster.install()
    assert [(c.kind, c.name) for c in report.changes if c.result == "changed"] == [("ClusterRole", "davylamp")]
    assert cluster.api.objects[role]["rules"]


def test_the_order_is_such_that_nothing_needs_what_comes_later() -> None:
    kinds = [manifest["kind"] for manifest in manifests(Options(image="davylamp:1"))]
    order = [
        "Namespace",
        "CustomResourceDefinition",
        "ServiceAccount",
        "ClusterRole",
        "MutatingAdmissionPolicy",
        "Deployment",
    ]
    assert [kinds.index(kind) for kind in order] == sorted(kinds.index(kind) for kind in order)


def test_crds_are_waited_for_before_anything_else_is_applied() -> None:
    cluster = Cluster(established_after=1.5)
    cluster.install()
    assert cluster.clock.passed == pytest.approx(1.5, abs=0.2)
    applied = [ref.kind for verb, ref in cluster.api.requests if verb == "apply"]
    assert applied[:3] == ["Namespace", "CustomResourceDefinition", "CustomResourceDefinition"]


def test_a_crd_that_is_never_served_ends_the_wait_with_the_servers_reason() -> None:
    with pytest.raises(InstallProblem, match=r'is not served after 30 s: "rel" is taken') as e:
        Cluster(established_after=99).install()
    assert e.value.kind == "timed out"


# --- the gate ---


def test_it_returns_when_the_gate_is_seen_at_work_and_the_probe_is_gone() -> None:
    cluster = Cluster(active_at=23)
    assert cluster.install().gate_active_after == pytest.approx(23, abs=0.2)
    assert PROBE not in cluster.names("Deployment") + cluster.names("ReleasePolicy")


def test_a_gate_that_does_not_come_is_an_error_and_the_probe_is_gone_all_the_same() -> None:
    cluster = Cluster(active_at=None)
    with pytest.raises(InstallProblem, match="did not hold a Deployment within 60 s") as error:
        cluster.install()
    assert error.value.kind == "timed out"
    assert cluster.names("Deployment") == cluster.names("ReleasePolicy") == []


def test_a_probe_on_which_a_controller_has_put_its_finalizer_goes_too() -> None:
    cluster = Cluster()
    cluster.api.admission.append(with_finalizer)
    cluster.install()
    assert cluster.names("ReleasePolicy") == []


def with_finalizer(old: Object | None, new: Object) -> Object:
    if new["kind"] == "ReleasePolicy" and old is None:
        new["metadata"]["finalizers"] = [names.FINALIZER]
    return new


def test_who_is_let_through_by_the_gate_can_not_try_it_and_is_told() -> None:
    report = Cluster(active_at=None).install(writer="admin")
    assert report.gate_active_after is None
    assert report.notes == ("the gate could not be tried: it lets admin, who is asking, through",)


@pytest.mark.parametrize(
    ("wanted", "offered", "found"),
    [
        ("auto", True, "admission"),
        ("auto", False, "fallback"),
        ("admission", True, "admission"),
        ("fallback", True, "fallback"),
        ("fallback", False, "fallback"),
    ],
)
async def test_the_gate_is_what_the_cluster_offers_unless_somebody_wants_less(
    wanted: Any, offered: bool, found: str
) -> None:
    api = FakeApi()
    api.apis = api.apis if offered else NO_GATE
    assert await choose_gate(api, wanted) == found


async def test_a_gate_that_the_cluster_does_not_offer_is_bad_input() -> None:
    api = FakeApi()
    api.apis = NO_GATE
    with pytest.raises(InstallProblem, match="does not offer MutatingAdmissionPolicy v1"):
        await choose_gate(api, "admission")


def test_without_a_gate_the_report_says_what_that_means() -> None:
    cluster = Cluster()
    cluster.api.apis = NO_GATE
    report = cluster.install(gate="fallback")
    assert report.notes == (FALLBACK,)
    assert cluster.names("MutatingAdmissionPolicy") == []
    assert not [ref for _, ref in cluster.api.requests if ref.kind.startswith("MutatingAdmission")]


def test_a_gate_that_is_left_out_by_choice_tells_how_the_controller_must_be_run() -> None:
    (note,) = Cluster().install(gate="fallback").notes
    assert "davy controller --gate fallback" in note


def test_the_gate_lets_exactly_the_controller_through() -> None:
    policies = [m for m in gate.manifests('o"neill') if m["kind"] == "MutatingAdmissionPolicy"]
    found = {c["expression"] for p in policies for c in p["spec"]["matchConditions"] if "username" in c["expression"]}
    assert found == {'request.userInfo.username != "o\\"neill"'}


def test_what_can_be_missing_does_not_stop_the_clusters_deployments() -> None:
    """The policy that depends on our kind must not fail closed; the one that can must look at marked objects only."""
    by_name = {m["metadata"]["name"]: m["spec"] for m in gate.manifests("x") if "mutations" in m["spec"]}
    assert (by_name[gate.NAME]["failurePolicy"], "paramKind" in by_name[gate.NAME]) == ("Ignore", True)
    assert (by_name[gate.MARKED]["failurePolicy"], "paramKind" in by_name[gate.MARKED]) == ("Fail", False)
    selector = by_name[gate.MARKED]["matchConstraints"]["objectSelector"]
    assert selector == {"matchExpressions": [{"key": gate.MARK, "operator": "Exists"}]}


# --- options ---


@pytest.mark.parametrize(
    ("first", "second", "gone"),
    [
        ({}, {"only": "shop"}, {"ClusterRoleBinding davylamp"}),
        ({"only": "shop"}, {}, {"RoleBinding davylamp"}),
        (
            {},
            {"gate": "fallback"},
            {
                f"{kind} {name}"
                for kind in ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
                for name in (gate.NAME, gate.MARKED)
            },
        ),
        ({"image": "davylamp:1"}, {}, set()),
    ],
)
def test_what_only_an_earlier_installation_wanted_is_taken_away(first: Object, second: Object, gone: set[str]) -> None:
    cluster = Cluster()
    cluster.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    cluster.install(**first)
    report = cluster.install(**second)
    assert {f"{c.kind} {c.name}" for c in report.changes if c.result == "deleted"} == gone


def test_roles_of_other_people_are_left_alone() -> None:
    cluster = Cluster()
    other = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "theirs"}}
    cluster.api.put(other)
    assert "theirs" not in {change.name for change in cluster.install().changes}
    assert "theirs" in cluster.names("ClusterRole")


def test_a_namespace_that_was_there_before_is_not_made_ours() -> None:
    cluster = Cluster()
    cluster.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tools"}})
    report = cluster.install(namespace="tools")
    assert [change.name for change in report.changes if change.result == "left alone"] == ["tools"]
    labels = cluster.api.objects[Ref("Namespace", "", "tools")]["metadata"].get("labels", {})
    assert not INSTALLED.items() <= labels.items()


def test_with_one_namespace_there_are_no_rights_anywhere_else() -> None:
    found = manifests(Options(only="shop"))
    cluster_wide = [m for m in found if m["kind"] == "ClusterRoleBinding"]
    assert [m["roleRef"]["name"] for m in cluster_wide] == ["davylamp-cluster"]
    role = next(m for m in found if m["kind"] == "ClusterRole" and m["metadata"]["name"] == "davylamp-cluster")
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"list", "watch"}
    bindings = [m for m in found if m["kind"] == "MutatingAdmissionPolicyBinding"]
    assert all(m["spec"]["matchResources"]["namespaceSelector"] for m in bindings)


def test_the_controllers_options_follow_from_those_of_the_installation() -> None:
    options = Options(image="d:1", only="shop", namespace="ops", gate="fallback", args=("--events=steps",))
    (found,) = [m for m in manifests(options) if m["kind"] == "Deployment"]
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "d:1"
    assert {"--leader-elect", "--lease-namespace=ops", "--namespace=shop", "--gate=fallback"} <= set(container["args"])
    assert container["args"][-1] == "--events=steps"


@pytest.mark.parametrize(
    ("options", "version", "message"),
    [
        ({"only": "nowhere"}, ("1", "37"), "--namespace-only nowhere: there is no such namespace"),
        ({}, ("1", "29+"), "1.30 is the oldest that will do"),
    ],
)
def test_what_does_not_fit_the_cluster_is_said_before_anything_is_written(
    options: Object, version: tuple[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster()

    async def answer() -> dict[str, str]:
        return {"major": version[0], "minor": version[1], "gitVersion": f"v{'.'.join(version)}"}

    monkeypatch.setattr(cluster.api, "version", answer)
    with pytest.raises(InstallProblem, match=message) as error:
        cluster.install(**options)
    assert error.value.kind == "bad input"
    assert cluster.api.writes == []


# --- only trying, only printing ---


def test_a_dry_run_has_everything_checked_and_writes_nothing() -> None:
    cluster = Cluster()
    report = cluster.install(dry_run=True)
    assert results(report) == {"created"}
    assert cluster.api.writes == []
    assert len([verb for verb, _ in cluster.trial.requests if verb == "apply"]) == len(manifests(Options()))


def test_a_dry_run_tells_what_would_change_and_what_would_go() -> None:
    cluster = Cluster()
    cluster.install()
    cluster.api.change(Ref("ClusterRole", "", "davylamp-view"), {"rules": []})
    before = len(cluster.api.writes)
    report = cluster.install(dry_run=True, gate="fallback")
    assert [change.name for change in report.changes if change.result == "changed"] == ["davylamp-view"]
    assert len([change for change in report.changes if change.result == "deleted"]) == 4
    assert len(cluster.api.writes) == before


def test_the_file_in_deploy_is_what_is_installed() -> None:
    file = Path(__file__).parents[2] / "deploy" / "install.yaml"
    assert file.read_text() == document(Options()), "run `make generate`"
