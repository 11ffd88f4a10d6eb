"""Kubernetes' protobuf, as typed clients write objects of built-in kinds: read, never written."""
