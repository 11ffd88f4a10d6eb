"""A real Kubernetes control plane on a plain Linux machine, without Docker, for tests."""

from davylab.errors import LabError
from davylab.identity import User, service_account
from davylab.lab import Lab, wait
from davylab.load import Load

__all__ = ["Lab", "LabError", "Load", "User", "service_account", "wait"]
