"""A real Kubernetes control plane on a plain Linux machine, without Docker, for tests."""

from davylamp.embedded.load.process import Load
from davylamp.embedded.waiting import wait

from davylab.errors import LabError
from davylab.identity import User, service_account
from davylab.lab import Lab

__all__ = ["Lab", "LabError", "Load", "User", "service_account", "wait"]
