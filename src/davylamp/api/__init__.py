"""The kinds of the API group davylamp.dev, the slim Kubernetes objects, and what is wrong with an input."""

GROUP = "davylamp.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
