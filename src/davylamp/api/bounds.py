"""What a type can't say, for the CRDs: rules, and how large the parts of an analysis and of its status may be."""

from __future__ import annotations

from typing import Any

import msgspec

from davylamp.api import analysis as a
from davylamp.api import verdict as v

Schema = dict[str, Any]
Bounds = dict[tuple[type[msgspec.Struct], str], Schema]


class Rule(msgspec.Struct, frozen=True):
    """A CEL rule (x-kubernetes-validations): `message` is what a person reads whose object breaks `rule`.

    `found`, a CEL expression for a string, replaces the message with one that also says what was found.
    """

    rule: str
    message: str
    found: str = ""
    path: str = ""
    """The field that the error names, for example `.steps`; the object itself if empty."""
    reason: str = "FieldValueInvalid"

    def schema(self) -> Schema:
        optional = {"messageExpression": self.found, "fieldPath": self.path}
        kept = {key: value for key, value in optional.items() if value}
        return {"rule": self.rule, "message": self.message, "reason": self.reason} | kept


_NAME = {"minLength": 1, "maxLength": 253}
_TEXT = {"maxLength": 253}
_QUERY = {"maxLength": 4096}
_MAP = {"maxProperties": 32, "additionalProperties": {"type": "string", "maxLength": 1024}}


def _list(most: int, length: int) -> dict[str, Any]:
    return {"maxItems": most, "items": {"type": "string", "maxLength": length}}


ANALYSIS: Bounds = {
    (a.Key, "secret"): _NAME,
    (a.Key, "key"): _NAME,
    (a.BasicAuth, "username"): _TEXT,
    (a.Tls, "server_name"): _TEXT,
    (a.Prometheus, "address"): {"minLength": 1, "maxLength": 2048},
    (a.Prometheus, "headers"): _MAP,
    (a.Prometheus, "pod_label"): _TEXT,
    (a.Prometheus, "namespace_label"): _TEXT,
    (a.Prometheus, "version_label"): _TEXT,
    (a.Scraping, "path"): {"maxLength": 1024},
    (a.Errors, "requests"): _TEXT,
    (a.Errors, "failures"): _TEXT,
    (a.Errors, "failed"): {"maxProperties": 1, "additionalProperties": {"type": "string", "maxLength": 1024}},
    (a.Latency, "histogram"): _TEXT,
    (a.Logs, "container"): _TEXT,
    (a.Logs, "ignore"): _list(32, 1024),
    (a.Feedback, "origins"): _list(32, 253),
    (a.Feedback, "version_header"): _TEXT,
    (a.Feedback, "version_cookie"): _TEXT,
    (a.Metric, "name"): {"minLength": 1, "maxLength": 63},
    (a.Metric, "query"): _QUERY,
    (a.Threshold, "query"): _QUERY,
    (a.Webhook, "url"): {"minLength": 1, "maxLength": 2048},
    (a.Job, "service_account"): _TEXT,
    (a.KayentaMetric, "name"): {"minLength": 1, "maxLength": 63},
    (a.KayentaMetric, "query"): _QUERY,
    (a.KayentaMetric, "group"): {"maxLength": 63},
    (a.Kayenta, "metrics"): {"minItems": 1, "maxItems": 64},
    (a.Kayenta, "weights"): {"maxProperties": 64},
    (a.Check, "name"): {"maxLength": 63},
    (a.Analysis, "checks"): {"minItems": 1, "maxItems": 16},
    (v.AnalysisStatus, "checks"): {"maxItems": 16},
    (v.AnalysisStatus, "history"): {"maxLength": 100_000},
    (v.AnalysisStatus, "state"): {"maxLength": 200_000},
}
