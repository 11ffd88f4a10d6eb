"""A Kubernetes cluster in one process, for demo, simulation and tests: the extra `davylamp[embedded]`.

docs/embedded.md tells what it does not do.
"""
