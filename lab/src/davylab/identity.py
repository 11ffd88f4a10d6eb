"""Who may talk to the API server: its certificate, the token file and a kubeconfig for each user."""

from __future__ import annotations

import base64
import re
import secrets
import shutil
import subprocess
from pathlib import Path

import msgspec
import yaml

from davylab.errors import LabError
from davylab.namespace import API_ADDRESS

API_PORT = 6443


class User(msgspec.Struct, frozen=True):
    """A user of the token file. ``short`` names the kubeconfig: DIR/kubeconfig.<short>."""

    short: str
    name: str
    groups: tuple[str, ...]


def user(text: str) -> User:
    """``SHORT[=NAME[/GROUP,...]]``. NAME is SHORT if left out; a service account's groups are its own if left out."""
    short, _, rest = text.partition("=")
    if not re.fullmatch(r"[A-Za-z0-9-]+", short):
        raise LabError(
            f'user "{text}": "{short}" names a file and is of letters, digits and -: SHORT[=NAME[/GROUP,...]]'
        )
    name, _, groups = rest.partition("/")
    if not groups and (parts := name.split(":"))[:2] == ["system", "serviceaccount"] and len(parts) == 4:
        return service_account(short, parts[2], parts[3])
    return User(short, name or short, tuple(groups.split(",")) if groups else ())


def service_account(short: str, namespace: str, name: str) -> User:
    """A user with exactly the name and groups that the API server gives a service account."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(short, f"system:serviceaccount:{namespace}:{name}", groups)


ADMIN = User("admin", "admin", ("system:masters",))
KUBELET = User("kubelet", "system:node:davylab", ("system:masters", "system:nodes"))
TRAEFIK = User("traefik", "traefik", ("system:masters",))
ISTIOD = User("istiod", "istiod", ("system:masters",))
DAVYLAMP = service_account("davylamp", "davylamp-system", "davylamp")


class Paths(msgspec.Struct, frozen=True):
    """Files below the state folder."""

    root: Path

    @property
    def certificate(self) -> Path:
        return self.root / "pki" / "tls.crt"

    @property
    def key(self) -> Path:
        return self.root / "pki" / "tls.key"

    @property
    def service_account_key(self) -> Path:
        return self.root / "pki" / "service-account.key"

    @property
    def tokens(self) -> Path:
        return self.root / "pki" / "tokens.csv"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def info(self) -> Path:
        return self.root / "cluster.json"

    def kubeconfig(self, user: User = ADMIN, *, inside: bool) -> Path:
        suffix = "" if user.short == "admin" else f".{user.short}"
        return self.root / f"kubeconfig{suffix}{'.inside' if inside else ''}"


_OPENSSL = f"""
[req]
distinguished_name = name
x509_extensions = ext
prompt = no
[name]
CN = davylab
[ext]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
subjectAltName = IP:127.0.0.1, IP:{API_ADDRESS}, IP:10.96.0.1, DNS:localhost, DNS:kubernetes, \
DNS:kubernetes.default, DNS:kubernetes.default.svc, DNS:kubernetes.default.svc.cluster.local
"""


def make_certificate(paths: Paths) -> None:
    """A self-signed certificate that is its own authority, and the key that signs service account tokens."""
    if shutil.which("openssl") is None:
        raise LabError("the API server's certificate is made with `openssl`: install it")
    folder = paths.certificate.parent
    folder.mkdir(parents=True, exist_ok=True)
    if all(path.exists() for path in (paths.certificate, paths.key, paths.service_account_key)):
        return
    config = folder / "openssl.cnf"
    config.write_text(_OPENSSL)
    for key in (paths.service_account_key, paths.key):
        # ecparam, not genpkey: the API server takes a public key out of a SEC1 file, but not out of PKCS #8.
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    _openssl(
        *("req", "-x509", "-new", "-config", str(config), "-days", "3650"),
        *("-key", str(paths.key), "-out", str(paths.certificate)),
    )


def write_access(paths: Paths, users: list[User], host_port: int) -> None:
    """The token file, and for each user a kubeconfig for the host (through the relay) and one for inside."""
    rows = []
    for user in users:
        token = secrets.token_hex(16)
        rows.append(f'{token},{user.name},uid-{user.short},"{",".join(user.groups)}"\n')
        for inside in (False, True):
            address = f"{API_ADDRESS}:{API_PORT}" if inside else f"127.0.0.1:{host_port}"
            write_kubeconfig(paths.kubeconfig(user, inside=inside), address, paths.certificate, token)
    _write_private(paths.tokens, "".join(rows))


def write_kubeconfig(path: Path, address: str, certificate: Path, token: str) -> None:
    """The certificate is embedded, so that the file can be copied."""
    authority = base64.b64encode(certificate.read_bytes()).decode()
    cluster = {"server": f"https://{address}", "certificate-authority-data": authority}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "davylab",
        "clusters": [{"name": "davylab", "cluster": cluster}],
        "users": [{"name": "davylab", "user": {"token": token}}],
        "contexts": [{"name": "davylab", "context": {"cluster": "davylab", "user": "davylab"}}],
    }
    _write_private(path, yaml.safe_dump(content, sort_keys=False))


def server_and_token(kubeconfig_file: Path) -> tuple[str, str]:
    """What a kubeconfig of ours says."""
    content = yaml.safe_load(kubeconfig_file.read_text())
    return content["clusters"][0]["cluster"]["server"], content["users"][0]["user"]["token"]


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _openssl(*args: str) -> None:
    done = subprocess.run(["openssl", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"`openssl {' '.join(args)}` failed: {done.stderr.strip()}")
