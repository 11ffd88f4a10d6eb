"""kubectl, as people use it."""

from __future__ import annotations

import re
import subprocess

import yaml

from tests.contract.harness import Space
from tests.contract.objects import config, deployment, ingress, service


def columns(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.strip().splitlines()]


def test_get_prints_the_columns_of_each_kind(space: Space) -> None:
    space.apply(deployment(replicas=1), service(), ingress(), config())
    space.wait(lambda: (space.get("deployments.apps", "web").get("status") or {}).get("readyReplicas") == 1)
    heads = {
        "deployments": ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"],
        "replicasets": ["NAME", "DESIRED", "CURRENT", "READY", "AGE"],
        "pods": ["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
        "services": ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"],
        "ingresses": ["NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "AGE"],
        "endpointslices": ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"],
        "configmaps": ["NAME", "DATA", "AGE"],
    }
    for kind, head in heads.items():
        assert columns(space.kubectl("get", kind).out)[0] == head
    assert columns(space.kubectl("get", "deploy", "web").out)[1][:4] == ["web", "1/1", "1", "1"]
    (row,) = columns(space.kubectl("get", "pods", "--no-headers").out)
    assert row[1:4] == ["1/1", "Running", "0"]
    scale = columns(space.kubectl("get", "deploy", "web", "--subresource=scale").out)
    assert [row[:3] for row in scale] == [["NAME", "DESIRED", "AVAILABLE"], ["web", "1", "1"]]
    wide = columns(space.kubectl("get", "deploy", "-o", "wide").out)
    assert wide[0][5:] == ["CONTAINERS", "IMAGES", "SELECTOR"]
    assert wide[1][5:] == ["app", "hellok8s:v1", "app=web"]
    assert columns(space.kubectl("get", "svc", "web").out)[1][4] == "80/TCP"
    assert columns(space.kubectl("get", "ingress", "web", "--no-headers").out)[0][:3] == ["web", "nginx", "web.example"]


def test_apply_says_created_configured_and_unchanged(space: Space) -> None:
    text = yaml.safe_dump(deployment(replicas=0))
    assert space.kubectl("apply", "-f", "-", input=text).out == "deployment.apps/web created\n"
    assert space.kubectl("apply", "-f", "-", input=text).out == "deployment.apps/web unchanged\n"
    text = yaml.safe_dump(deployment(image="hellok8s:v2", replicas=0))
    assert space.kubectl("apply", "-f", "-", input=text).out == "deployment.apps/web configured\n"


def test_apply_removes_a_field_that_is_no_longer_given(space: Space) -> None:
    space.apply(config(data={"a": "1", "b": "2"}))
    space.apply(config(data={"b": "2"}))
    assert space.get("configmaps", "one")["data"] == {"b": "2"}


def test_apply_refuses_an_unknown_field(space: Space) -> None:
    done = space.kubectl("apply", "-f", "-", input=yaml.safe_dump(deployment(replica=1)), check=False)
    assert done.code == 1
    assert 'unknown field "spec.replica"' in done.err


def test_apply_server_side_and_its_conflicts(space: Space) -> None:
    text = yaml.safe_dump(deployment(replicas=0))
    done = space.kubectl("apply", "--server-side", "-f", "-", input=text)
    assert done.out == "deployment.apps/web serverside-applied\n"
    space.kubectl("set", "image", "deploy/web", "app=hellok8s:v2")
    refused = space.kubectl("apply", "--server-side", "-f", "-", input=text, check=False)
    assert refused.code == 1
    assert 'conflict with "kubectl-set" using apps/v1: .spec.template.spec.containers[name="app"].image' in refused.err
    space.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text)
    template = space.get("deployments.apps", "web")["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == "hellok8s:v1"


def test_edit_changes_what_the_editor_changed(space: Space) -> None:
    space.apply(deployment(replicas=0))
    done = space.kubectl("edit", "deploy", "web", EDITOR="sed -i s/hellok8s:v1/hellok8s:v2/")
    assert done.out == "deployment.apps/web edited\n"
    (container,) = space.get("deployments.apps", "web")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "hellok8s:v2"


def test_set_scale_label_annotate_patch(space: Space) -> None:
    space.apply(deployment(replicas=0, paused=True))
    space.kubectl("set", "image", "deploy/web", "app=hellok8s:v2")
    space.kubectl("set", "env", "deploy/web", "A=1")
    space.kubectl("scale", "deploy/web", "--replicas=2")
    space.kubectl("label", "deploy/web", "tier=front")
    space.kubectl("annotate", "deploy/web", "note=x y")
    space.kubectl("patch", "deploy/web", "-p", '{"spec": {"minReadySeconds": 3}}')
    space.kubectl("patch", "deploy/web", "--type=json", "-p", '[{"op": "add", "path": "/spec/paused", "value": false}]')
    found = space.get("deployments.apps", "web")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["env"]) == ("hellok8s:v2", [{"name": "A", "value": "1"}])
    assert (found["spec"]["replicas"], found["spec"]["minReadySeconds"]) == (2, 3)
    assert found["spec"].get("paused", False) is False
    assert found["metadata"]["labels"] == {"tier": "front"}
    assert found["metadata"]["annotations"]["note"] == "x y"


def test_describe_tells_of_the_object(space: Space) -> None:
    space.apply(deployment(replicas=1), service())
    space.wait(lambda: (space.get("deployments.apps", "web").get("status") or {}).get("readyReplicas") == 1)
    text = space.kubectl("describe", "deploy", "web").out
    assert re.search(r"Replicas:\s+1 desired \| 1 updated \| 1 total \| 1 available \| 0 unavailable", text)
    assert "NewReplicaSet:" in text
    assert re.search(r"Endpoints:\s+\d+\.\d+\.\d+\.\d+:8080", space.kubectl("describe", "svc", "web").out)
    (pod,) = space.list("pods")
    assert "Ready:          True" in space.kubectl("describe", "pod", pod["metadata"]["name"]).out


def test_delete_waits_until_it_is_gone(space: Space) -> None:
    space.apply(deployment(replicas=1))
    space.wait(lambda: space.list("pods"))
    assert space.kubectl("delete", "deploy", "web", "--wait").out.startswith('deployment.apps "web" deleted')
    assert space.find("deployments.apps", "web") is None
    space.wait(lambda: not space.list("pods"), "the pods gone")


def test_wait_for_a_condition_and_for_a_path(space: Space) -> None:
    space.apply(deployment(replicas=1))
    space.kubectl("wait", "deploy/web", "--for=condition=Available", "--timeout=60s")
    space.kubectl("wait", "deploy/web", "--for=jsonpath={.status.readyReplicas}=1", "--timeout=60s")
    space.kubectl("delete", "deploy", "web", "--wait=false")
    space.kubectl("wait", "deploy/web", "--for=delete", "--timeout=60s")


def watching(space: Space, *args: str) -> subprocess.Popen[str]:
    """`kubectl get -w`, which ends by itself if nothing comes."""
    command = space.cluster.command("-n", space.name, "--request-timeout=15s", "get", "-w", *args)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_get_with_a_watch_prints_each_change(space: Space) -> None:
    space.create("configmaps", config(labels={"a": "b"}))
    with watching(space, "configmap", "-l", "a=b", "-o", "jsonpath={.data.a}{'\\n'}") as process:
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        space.patch("configmaps", "one", {"data": {"a": "2"}})
        assert process.stdout.readline() == "2\n"
        process.terminate()


def test_get_with_a_watch_prints_rows(space: Space) -> None:
    space.create("deployments.apps", deployment(replicas=0, paused=True))
    with watching(space, "deploy") as process:
        assert process.stdout
        assert process.stdout.readline().split()[0] == "NAME"
        assert process.stdout.readline().split()[:2] == ["web", "0/0"]
        space.kubectl("scale", "deploy/web", "--replicas=2")
        rows = iter(process.stdout.readline, "")
        assert any(row.split()[:2] in (["web", "0/2"], ["web", "1/2"]) for row in rows)
        process.terminate()


def test_a_log_is_followed_until_its_container_ends(space: Space) -> None:
    container = {"env": [{"name": "CRASH", "value": "1"}, {"name": "CRASH_AFTER", "value": "3"}]}
    body = deployment(replicas=1)
    body["spec"]["template"]["spec"]["containers"][0] |= container
    space.apply(body)
    space.wait(lambda: [pod for pod in space.list("pods") if "running" in str(pod["status"])], "a container")
    command = space.cluster.command("-n", space.name, "logs", "-f", "deploy/web")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        text = process.stdout.read()
    assert process.returncode == 0, text
    assert "listening" in text
    assert "FATAL" in text


def test_explain_tells_of_fields(space: Space) -> None:
    text = space.kubectl("explain", "deployment.spec.paused").out
    assert "FIELD: paused <boolean>" in text
    assert "Indicates that the deployment is paused." in text


def test_api_resources_have_short_names_and_verbs(space: Space) -> None:
    rows = [row.split() for row in space.kubectl("api-resources", "--namespaced", "-o", "wide").out.splitlines()]
    by_name = {row[0]: row for row in rows}
    assert by_name["deployments"][1:5] == ["deploy", "apps/v1", "true", "Deployment"]
    assert by_name["pods"][1:4] == ["po", "v1", "true"]
    assert "create,delete,deletecollection,get,list,patch,update,watch" in by_name["services"]


def test_create_takes_a_manifest_and_tells_what_is_there_already(space: Space) -> None:
    text = yaml.safe_dump(deployment(replicas=0))
    assert space.kubectl("create", "-f", "-", input=text).out == "deployment.apps/web created\n"
    again = space.kubectl("create", "-f", "-", input=text, check=False)
    assert (again.code, "AlreadyExists" in again.err) == (1, True)


def test_create_makes_each_kind_from_its_arguments(space: Space) -> None:
    """kubectl's typed commands send protobuf."""
    space.kubectl("create", "deployment", "web", "--image=hellok8s:v1", "--replicas=0", "--port=8080")
    space.kubectl("create", "configmap", "settings", "--from-literal=a=1", "--from-literal=empty=")
    space.kubectl("create", "secret", "generic", "key", "--from-literal=password=geheim")
    space.kubectl("create", "service", "clusterip", "web", "--tcp=80:8080")
    space.kubectl("create", "ingress", "web", "--class=nginx", "--rule=web.example/*=web:80")
    space.kubectl("create", "serviceaccount", "robot")
    space.kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods,deployments.apps")
    space.kubectl("create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:robot")
    web = space.get("deployments.apps", "web")
    (container,) = web["spec"]["template"]["spec"]["containers"]
    assert (web["spec"]["replicas"], web["spec"]["selector"]) == (0, {"matchLabels": {"app": "web"}})
    assert (container["image"], container["ports"]) == (
        "hellok8s:v1",
        [{"containerPort": 8080, "protocol": "TCP"}],
    )
    assert web["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    assert space.get("configmaps", "settings")["data"] == {"a": "1", "empty": ""}
    assert space.get("secrets", "key")["data"] == {"password": "Z2VoZWlt"}
    (port,) = space.get("services", "web")["spec"]["ports"]
    assert port == {"name": "80-8080", "port": 80, "protocol": "TCP", "targetPort": 8080}
    (rule,) = space.get("ingresses.networking.k8s.io", "web")["spec"]["rules"]
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    assert rule == {
        "host": "web.example",
        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
    }
    rules = space.get("roles.rbac.authorization.k8s.io", "reader")["rules"]
    assert [(each["apiGroups"], each["resources"], each["verbs"]) for each in rules] == [
        ([""], ["pods"], ["get", "list"]),
        (["apps"], ["deployments"], ["get", "list"]),
    ]
    (subject,) = space.get("rolebindings.rbac.authorization.k8s.io", "reader")["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}


def test_what_kubectl_writes_itself_can_be_piped_into_apply(space: Space) -> None:
    command = ("create", "configmap", "one", "--from-literal=a=1", "--dry-run=client", "-o", "yaml")
    assert space.kubectl("apply", "-f", "-", input=space.kubectl(*command).out).out == "configmap/one created\n"
    assert space.get("configmaps", "one")["data"] == {"a": "1"}


def test_kubectl_tells_who_is_asking_and_what_they_may_do(space: Space) -> None:
    who = yaml.safe_load(space.kubectl("auth", "whoami", "-o", "yaml").out)
    assert "system:masters" in who["status"]["userInfo"]["groups"]
    assert space.kubectl("auth", "can-i", "create", "deployments").out == "yes\n"
