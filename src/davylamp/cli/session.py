"""One run of a command: which cluster and namespace it is about, and its errors in a person's words."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import logging
import shlex
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import msgspec

from davylamp.cli.exits import BAD_INPUT, FAILED, Failure
from davylamp.cli.naming import one
from davylamp.cli.picture import Picture
from davylamp.cli.screen import Screen, screen
from davylamp.kube.client import ApiError, ConfigProblem, connect
from davylamp.kube.protocol import Api
from davylamp.view.lines import Look

T = TypeVar("T")


class Where(msgspec.Struct, frozen=True):
    """The options that say which cluster and which namespace."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    everywhere: bool = False
    program: str = "davy"

    @property
    def flags(self) -> str:
        """The options that a suggested command needs to reach the same place."""
        return _flags(("-n", self.namespace), *self._cluster)

    @property
    def kubectl(self) -> str:
        """The same for a command of kubectl that names its namespace itself."""
        return " ".join(filter(None, ("kubectl", _flags(*self._cluster))))

    @property
    def _cluster(self) -> tuple[tuple[str, str | None], ...]:
        return (("--context", self.context), ("--kubeconfig", self.kubeconfig))

    def look(self, screen: Screen) -> Look:
        """How to speak to this person on `screen`."""
        return screen.look(self.program, self.flags, self.kubectl)


def _flags(*given: tuple[str, str | None]) -> str:
    return " ".join(f"{flag} {shlex.quote(value)}" for flag, value in given if value)


class Session(msgspec.Struct, frozen=True):
    """A connection, and how to speak to the person who asked."""

    where: Where
    api: Api
    namespace: str
    """"" for all."""
    screen: Screen

    @property
    def look(self) -> Look:
        return self.where.look(self.screen)

    async def picture(self) -> Picture:
        """Everything in the namespace (or in all), read once."""
        picture = Picture(self.api, self.namespace)
        await picture.read()
        return picture

    async def workload(self, name: str) -> tuple[Picture, str]:
        """The picture, and the Deployment that `name` means."""
        picture = await self.picture()
        return picture, one(picture.known, self.namespace, name)

    async def who(self) -> str:
        """Who is asking: as the API server knows them and, since many share a user there, as their machine does."""
        here = f"{_user()}@{socket.gethostname()}"
        try:
            return f"{await self.api.whoami()} ({here})"
        except ApiError:
            return here


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container with a user id that has no name


@contextlib.asynccontextmanager
async def session(where: Where) -> AsyncIterator[Session]:
    """Raises Failure where there is no way to the cluster."""
    if where.everywhere and where.namespace:
        raise Failure("--namespace and --all-namespaces exclude each other", BAD_INPUT)
    async with connect(where.kubeconfig, where.context) as api:
        namespace = "" if where.everywhere else where.namespace or api.namespace
        yield Session(where, api, namespace, screen())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do it, with what goes wrong in the cluster as a Failure."""
    logging.basicConfig(format="davy: %(message)s", level=logging.WARNING)
    try:
        return asyncio.run(work)
    except ConfigProblem as problem:
        raise Failure(str(problem)) from problem
    except ApiError as error:
        raise failure(error) from error
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure behind the task group that it ended."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ApiError):
        return failure(error)
    return Failure(str(error)) if isinstance(error, ConfigProblem) else error


def failure(error: ApiError) -> Failure:
    """What the API server refused, and what to do about it where we know."""
    kind = error.ref.kind if error.ref is not None else ""
    if error.not_found and kind in ("ReleasePolicy", "Release") and not (error.ref and error.ref.name):
        return Failure("Davylamp is not installed in this cluster: `davy install` does that", FAILED)
    if error.forbidden:
        return Failure(f"{error} (the cluster's RBAC has to allow it)", FAILED)
    return Failure(str(error), FAILED)
