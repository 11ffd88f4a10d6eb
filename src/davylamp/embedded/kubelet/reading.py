"""The logs of a kubelet's pods, for an API server in the same process (`davylamp.embedded.store.Logs`)."""

from __future__ import annotations

from collections.abc import Callable

from davylamp.embedded import status
from davylamp.embedded.kubelet.agent import Agent
from davylamp.embedded.kubelet.logs import ContainerLog


class AgentLogs:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def read(self, namespace: str, pod: str, container: str, *, previous: bool) -> bytes:
        content = self._run(namespace, pod, container, previous=previous).path.read_bytes()
        return content[: content.rfind(b"\n") + 1]

    def follow(self, namespace: str, pod: str, container: str, wake: Callable[[], None]) -> Callable[[], None]:
        run = self._run(namespace, pod, container)
        run.followers.add(wake)
        return lambda: run.followers.discard(wake)

    def ended(self, namespace: str, pod: str, container: str) -> bool:
        return self._run(namespace, pod, container).closed.is_set()

    def _run(self, namespace: str, pod: str, container: str, *, previous: bool = False) -> ContainerLog:
        found = self._agent.runner_of(namespace, pod)
        if found is None:
            raise status.not_found("", "pods", pod)
        runs = found.logs.get(container, [])
        back = 2 if previous else 1
        if len(runs) < back:
            what = "previous terminated container" if previous else "container"
            raise status.bad_request(f'{what} "{container}" in pod "{pod}" not found or waiting to start')
        return runs[-back]
