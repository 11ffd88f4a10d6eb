"""A Kubernetes cluster in one process, for demo, simulation and tests. docs/embedded.md tells what it does not do."""
