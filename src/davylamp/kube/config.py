"""Which cluster, and as whom: kubeconfig files as kubectl reads them, or the service account of a pod.

Files and TLS are lightkube's; tokens are ours, since lightkube's are bound to its own HTTP client and its exec
plugins stop at v1beta1.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import yaml
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.config.models import User, UserExec
from lightkube.core.exceptions import ConfigError

from davylamp.kube.errors import ConfigProblem

DEFAULT_KUBECONFIG = "~/.kube/config"


class Target(msgspec.Struct, frozen=True):
    """One cluster as one user. `where` says how it was found, for error messages."""

    server: str
    namespace: str
    tls: ssl.SSLContext | bool
    user: User | None
    where: str
    server_name: str | None = None
    """The name in the server's certificate, where it isn't the address's (`tls-server-name`)."""
    proxy: str | None = None


def load(kubeconfig: str | None = None, context: str | None = None) -> Target:
    """The cluster to talk to, found as kubectl does: `kubeconfig`, else the files in $KUBECONFIG, else
    ~/.kube/config, else the service account of the pod that we are in.

    Raises ConfigProblem where there is none, or where the context, cluster or user isn't in it.
    """
    files = _files(kubeconfig)
    if not files:
        return _in_cluster(context)
    merged = _merge(files)
    where = f"kubeconfig {', '.join(str(file) for file in files)}"
    single = _select(merged, context, where)
    cluster = next(c["cluster"] for c in merged["clusters"] if c["name"] == single.context.cluster)
    return _target(single, f"{where}, context {single.context_name}", cluster)


def contexts(kubeconfig: str | None = None) -> list[str]:
    """The contexts that there are to choose from (for shell completion)."""
    files = _files(kubeconfig)
    return [entry["name"] for entry in _merge(files)["contexts"]] if files else []


def _files(kubeconfig: str | None) -> list[Path]:
    if kubeconfig:
        file = Path(kubeconfig).expanduser()
        if not file.is_file():
            raise ConfigProblem(f"kubeconfig {kubeconfig}: there is no such file")
        return [file]
    named = [Path(name).expanduser() for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    if named:
        found = [file for file in named if file.is_file()]
        if not found:
            raise ConfigProblem(f"KUBECONFIG={os.environ['KUBECONFIG']}: there is no such file")
        return found
    default = Path(DEFAULT_KUBECONFIG).expanduser()
    return [default] if default.is_file() else []


_SECTIONS = {"clusters": "cluster", "contexts": "context", "users": "user"}
_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _merge(files: list[Path]) -> dict[str, Any]:
    """The files as one: of entries with the same name the first counts, as in kubectl."""
    merged: dict[str, Any] = {"clusters": [], "contexts": [], "users": [], "current-context": None}
    for file in files:
        content = _parse(file)
        merged["current-context"] = merged["current-context"] or content.get("current-context") or None
        for section, inner in (("clusters", "cluster"), ("contexts", "context"), ("users", "user")):
            known = {entry["name"] for entry in merged[section]}
            for entry in content.get(section) or []:
                if entry["name"] not in known:
                    value = entry.get(inner) or {}
                    value.update({key: str(file.parent / value[key]) for key in _PATHS if value.get(key)})
                    merged[section].append({"name": entry["name"], inner: value})
    return merged


def _parse(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigProblem(f"kubeconfig {file} can't be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigProblem(f"kubeconfig {file} is not a mapping of clusters, contexts and users")
    for section, inner in _SECTIONS.items():
        entries = content.get(section) or []
        named = isinstance(entries, list) and all(
            isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries
        )
        if not named or not all(isinstance(e.get(inner) or {}, dict) for e in entries):
            raise ConfigProblem(f"kubeconfig {file}: {section} must be a list of {{name: ..., {inner}: {{...}}}}")
    return content


def _select(merged: dict[str, Any], context: str | None, where: str) -> SingleConfig:
    names = [entry["name"] for entry in merged["contexts"]]
    chosen = context or merged["current-context"]
    known = f"it has {', '.join(names)}" if names else "it has none"
    if not chosen:
        raise ConfigProblem(f"{where} has no current context; name one with --context ({known})")
    if chosen not in names:
        raise ConfigProblem(f'context "{chosen}" is not in {where}; {known}')
    try:
        config = KubeConfig.from_dict(merged).get(chosen)
    except KeyError as error:
        raise ConfigProblem(f"{where}: context {chosen} names {error}, which is not in it") from error
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigProblem(f"{where}: {error}") from error
    assert config is not None
    return config


def _target(single: SingleConfig, where: str, cluster: dict[str, Any]) -> Target:
    server = single.cluster.server.rstrip("/")
    try:
        user = single.user or User()
        tls = verify_cluster(single.cluster, user, single.abs_file) if server.startswith("https") else False
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigProblem(f"{where}: the certificates can't be used: {error}") from error
    return Target(
        server=server,
        namespace=single.namespace,
        tls=tls,
        user=single.user,
        where=where,
        server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
    )


def _in_cluster(context: str | None) -> Target:
    try:
        config = KubeConfig.from_service_account(SERVICE_ACCOUNT).get()
    except (ConfigError, KeyError) as error:
        raise ConfigProblem(
            f"no cluster to talk to: no kubeconfig ({DEFAULT_KUBECONFIG}, or name one with --kubeconfig or "
            "KUBECONFIG), and this is not a pod with a service account"
        ) from error
    assert config is not None
    if context:
        raise ConfigProblem(f'context "{context}": there is no kubeconfig, only the pod\'s service account')
    return _target(config, "the pod's service account", {})


class Credentials:
    """The Authorization header of one user, renewed when the API server no longer takes it."""

    def __init__(self, user: User | None) -> None:
        self._user = user or User()
        self._header: str | None = None
        self._until: datetime | None = None
        self._lock = asyncio.Lock()

    async def header(self) -> str | None:
        """The header's value, None for users who show a certificate (or nobody). Raises ConfigProblem."""
        if self._header is None or (self._until is not None and datetime.now(UTC) >= self._until):
            async with self._lock:
                await self._renew()
        return self._header or None

    def refused(self) -> bool:
        """The API server answered 401: forget what was shown. True if there may be something newer to show."""
        renewable = bool(self._user.token_file or self._user.exec)
        if renewable:
            self._header = None
        return renewable

    async def _renew(self) -> None:
        user = self._user
        self._header, self._until = "", None
        if user.token_file:
            # A pod's token is rotated by the kubelet (by default once an hour): read it again now and then.
            self._header = f"Bearer {_read_token(user.token_file)}"
            self._until = datetime.now(UTC) + timedelta(minutes=1)
        elif user.token:
            self._header = f"Bearer {user.token}"
        elif user.exec:
            token, self._until = await _run_plugin(user.exec)
            self._header = f"Bearer {token}"
        elif user.username and user.password:
            pair = f"{user.username}:{user.password}".encode()
            self._header = f"Basic {base64.b64encode(pair).decode()}"
        elif user.auth_provider:
            raise ConfigProblem("this user has an auth-provider, which Kubernetes removed in 1.26; use exec instead")


def _read_token(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise ConfigProblem(f"token file {file} can't be read: {error.strerror}") from error


class _ExecStatus(msgspec.Struct, frozen=True):
    token: str = ""
    expirationTimestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, frozen=True):
    status: _ExecStatus = _ExecStatus()


_EXEC_VERSIONS = tuple(f"client.authentication.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))


async def _run_plugin(plugin: UserExec) -> tuple[str, datetime | None]:
    """A token from a credential plugin, and until when it is good.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
    """
    if plugin.apiVersion not in _EXEC_VERSIONS:
        raise ConfigProblem(f"exec plugin {plugin.command}: {plugin.apiVersion} is not one of {_EXEC_VERSIONS}")
    info = {"apiVersion": plugin.apiVersion, "kind": "ExecCredential", "spec": {"interactive": False}}
    env = os.environ | {"KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode()}
    env |= {variable.name: variable.value for variable in plugin.env or ()}
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command, *(plugin.args or ()), env=env, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
    except OSError as error:
        hint = f" {plugin.installHint}" if plugin.installHint else ""
        raise ConfigProblem(f"exec plugin {plugin.command} can't be started: {error.strerror}.{hint}") from error
    out, err = await process.communicate()
    if process.returncode != 0:
        raise ConfigProblem(f"exec plugin {plugin.command} ended with {process.returncode}: {err.decode().strip()}")
    try:
        status = msgspec.json.decode(out, type=_ExecCredential).status
    except msgspec.MsgspecError as error:
        raise ConfigProblem(f"exec plugin {plugin.command} gave no ExecCredential: {error}") from error
    if not status.token:
        # Client certificates from a plugin would need a new TLS context at every renewal; nobody has asked for them.
        raise ConfigProblem(f"exec plugin {plugin.command} gave no token (client certificates are not supported)")
    return status.token, status.expirationTimestamp
