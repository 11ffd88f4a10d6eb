"""A whole release on measurements from elsewhere: the real Prometheus (Debian's package), a Job, a webhook.

Prometheus has a certificate of an authority of its own and asks for a password, the webhook for a token; all three are
in a Secret.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.shop import Controller, Json, Shop, Traffic

NEW, NEWER = "hellok8s:v2", "hellok8s:v3"
PROMETHEUS, GATE = "127.0.0.1:19090", "127.0.0.1:18081"
"""In the lab's own network."""
WEBHOOK = """
import http.server, sys
class Gate(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204 if self.headers["Authorization"] == "Bearer for-the-gate" else 401)
        self.end_headers()
    def log_message(self, *args): pass
host, port = sys.argv[1].split(":")
http.server.HTTPServer((host, int(port)), Gate).serve_forever()
"""


PASSWORD = ("from-a-secret", "$2b$04$youuV0tgGWrlIJ4VdnTlkuPaK0/.baEbfh.051lpkEcl4UWCX.DYi")
"""And its bcrypt hash."""
CERTIFICATE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=prometheus"
SAN = "subjectAltName=IP:127.0.0.1"


class Prometheus:
    """Scrapes the shop's pods every second, and may be killed and started again.

    It finds them in a file: Debian's build can't ask Kubernetes.
    """

    def __init__(self, shop: Shop, place: Path) -> None:
        self._shop, self._place = shop, place
        self._targets = place / "targets.json"
        job = {"job_name": "pods", "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "2s"}]}
        config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
        (place / "prometheus.yml").write_text(json.dumps(config))
        command = [*CERTIFICATE.split(), "-addext", SAN, "-keyout", "key.pem", "-out", "ca.pem"]
        subprocess.run(command, cwd=place, check=True, capture_output=True)
        tls = {"cert_file": "ca.pem", "key_file": "key.pem"}
        web = {"tls_server_config": tls, "basic_auth_users": {"davylamp": PASSWORD[1]}}
        (place / "web.yml").write_text(json.dumps(web))

    def discover(self) -> None:
        """The pods that there are now."""
        found = [
            {
                "targets": [f"{pod['status']['podIP']}:8080"],
                "labels": {"pod": pod["metadata"]["name"], "namespace": self._shop.namespace},
            }
            for pod in self._shop.all("pods")
            if pod["status"].get("podIP")
        ]
        fresh = self._place / "targets.new"
        fresh.write_text(json.dumps(found))
        fresh.rename(self._targets)

    def start(self) -> None:
        binary = shutil.which("prometheus")
        assert binary, "prometheus is not installed: apt-get install prometheus"
        options = [f"--config.file={self._place}/prometheus.yml", f"--storage.tsdb.path={self._place}/data"]
        secured = f"--web.config.file={self._place}/web.yml"
        command = [binary, *options, secured, f"--web.listen-address={PROMETHEUS}"]
        self._process = self._shop.lab.spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def prometheus(shop: Shop, tmp_path: Path) -> Iterator[Prometheus]:
    shop.open(ERROR_RATE="0")
    found = Prometheus(shop, tmp_path)
    found.discover()
    found.start()
    given = {"ca.crt": (tmp_path / "ca.pem").read_text(), "password": PASSWORD[0], "token": "for-the-gate"}
    shop.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "metrics"}, "stringData": given})
    # As docs/signals.md has it.
    role = ["--verb=get", "--resource=secrets", "--resource-name=metrics"]
    shop.kubectl("create", "role", "davylamp-secrets", *role)
    account = "--serviceaccount=davylamp-system:davylamp"
    shop.kubectl("create", "rolebinding", "davylamp-secrets", "--role=davylamp-secrets", account)
    gate = shop.lab.spawn([sys.executable, "-c", WEBHOOK, GATE])
    yield found
    found.kill()
    gate.kill()
    gate.wait()


def smoke_test(code: int) -> Json:
    """hellok8s as a program that ends with this exit code."""
    container = {"name": "test", "image": "hellok8s:v1", "env": [{"name": "CRASH", "value": str(code)}]}
    return {"name": "smoke", "job": {"template": {"spec": {"containers": [container]}}}}


def analysis(*checks: Json) -> Json:
    password = {"username": "davylamp", "password": {"secret": "metrics", "key": "password"}}
    tls = {"ca": {"secret": "metrics", "key": "ca.crt"}}
    sources = {"prometheus": {"address": f"https://{PROMETHEUS}", "basicAuth": password, "tls": tls}}
    return {"interval": "3s", "leaveWhen": "notWorse", "sources": sources, "checks": [{"errors": {}}, *checks]}


def test_prometheus_killed_in_a_release_holds_it_until_it_is_back_and_a_failed_job_takes_one_back(
    shop: Shop, prometheus: Prometheus, tmp_path: Path
) -> None:
    with Controller(shop.lab, tmp_path / "controller.log", "--allow-address", "127.0.0.0/8"):
        traffic = Traffic(shop)
        hook = {"webhook": {"url": f"http://{GATE}/gate", "token": {"secret": "metrics", "key": "token"}}}
        shop.policy({"weight": 20, "hold": "45s"}, {"weight": 100}, analysis=analysis(smoke_test(0), hook))
        shop.set_image(NEW)
        shop.wait(lambda: shop.release(NEW), "the release")

        def measured() -> bool:
            prometheus.discover()
            found = shop.release(NEW).get("status", {}).get("analysis", {})
            return bool(found) and not found["blind"] and found["canary"]["requests"] > 0

        # Killed for less than a minute when the hold is over, so that what was seen before is still young.
        shop.wait(measured, "a measurement of the canary")
        prometheus.kill()
        shop.wait(lambda: "now step 1 is held while there is no data" in _said(shop), "no data", 150)
        assert "verdict errors: no data" in _said(shop)
        assert PROMETHEUS in _said(shop)
        assert GATE not in _said(shop), "the webhook answers"
        assert shop.phase(NEW) == "Progressing"
        assert shop.release(NEW)["status"]["step"] == 1
        prometheus.discover()
        prometheus.start()
        ended = shop.wait_phase(NEW, "RolledBack", "Completed", timeout=120)
        assert ended["status"]["phase"] == "Completed", ended["status"]
        said = {check["name"]: check["message"] for check in ended["status"]["analysis"]["checks"]}
        assert said["smoke"] == f"smoke: passed: Job {ended['metadata']['name']}-smoke-1 has succeeded"
        assert said["webhook"] == f"webhook: passed: http://{GATE}/gate answers 204"
        assert ended["status"]["analysis"]["canary"]["requests"] > 0
        traffic.nothing_lost()

        shop.policy({"weight": 20, "hold": "1h"}, {"weight": 100}, analysis=analysis(smoke_test(3)))
        shop.set_image(NEWER)
        ended = shop.wait_phase(NEWER, "RolledBack", "Completed", timeout=120)
        assert ended["status"]["phase"] == "RolledBack", ended["status"]
        assert f"smoke: failed: Job {ended['metadata']['name']}-smoke-1 has failed" in ended["status"]["message"]


def _said(shop: Shop) -> str:
    """What `davy status` says, on one line."""
    return " ".join(shop.davy("status", "web", check=False).stdout.split())
