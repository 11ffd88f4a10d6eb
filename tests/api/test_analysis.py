"""The analysis of a policy: complete examples are read, and bad ones refused with all that is wrong at once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from davylamp.api.analysis import USUAL, Analysis, Check, Errors, Key, Latency, review
from davylamp.api.parse import problems_of
from davylamp.api.units import share

WHOLE = """
sources:
  prometheus:
    address: https://mimir.monitoring/prometheus
    bearerToken: {secret: mimir, key: token}
    tls: {ca: {secret: mimir, key: ca.crt}, serverName: mimir.internal}
    headers: {X-Scope-OrgID: shop}
    timeout: 5s
checks:
  - errors: {}
  - name: calls
    errors: {requests: shop_calls_total, failed: {result: "oops|bad"}}
  - latency: {quantile: 0.99}
  - logs: {level: warning, ignore: ["^deprecated"], container: web}
  - feedback: {origins: ["https://shop.example"], token: {secret: feedback, key: token}}
  - metric: {name: orders, query: 'sum by (pod) (rate(orders_total{pod=~"$pods"}[1m]))', bad: down}
  - threshold: {query: 'max(queue_length{pod=~"$canary"})', max: 100}
  - webhook: {url: "https://checks.example/gate", body: {team: shop}, timeout: 3s}
  - job:
      template: {spec: {containers: [{name: smoke, image: "smoke:1"}]}}
  - kayenta:
      metrics:
        - {name: cpu, query: 'sum(rate(cpu{pod=~"$pods"}[1m]))', direction: increase, group: cost}
      weights: {cost: 100}
      pass: 80
      marginal: 50
tolerate: 2
falseAlarms: 0.5%
interval: 15s
warmUp: 2m
leaveWhen: confident
atMost: 2h
whenUnclear: takeBack
"""


def read(text: str) -> tuple[Analysis | None, list[str]]:
    content: Any = yaml.safe_load(text)
    faults = problems_of(Analysis, content, ("spec", "analysis"))
    if faults:
        return None, [str(fault) for fault in faults]
    analysis = msgspec.convert(content, Analysis)
    return analysis, [str(problem) for problem in review(analysis)]


def test_nothing_but_an_analysis_means_errors_and_latency_from_the_pods() -> None:
    analysis, problems = read("{}")
    assert (analysis, problems) == (Analysis(), [])
    assert analysis is not None
    assert analysis.checks == USUAL == (Check(errors=Errors()), Check(latency=Latency()))
    assert (analysis.sources.prometheus, analysis.tolerate, share(analysis.false_alarms)) == (None, 1.25, 0.01)


def test_a_whole_analysis_is_read() -> None:
    analysis, problems = read(WHOLE)
    assert problems == []
    assert analysis is not None
    assert analysis.sources.prometheus is not None
    assert analysis.sources.prometheus.bearer_token == Key("mimir", "token")
    assert [check.title for check in analysis.checks] == [
        "errors",
        "calls",
        "latency",
        "logs",
        "feedback",
        "orders",
        "threshold",
        "webhook",
        "job",
        "kayenta",
    ]
    assert (analysis.tolerate, analysis.false_alarms, analysis.when_unclear) == (2.0, "0.5%", "takeBack")


def test_it_survives_json() -> None:
    analysis, _ = read(WHOLE)
    assert msgspec.json.decode(msgspec.json.encode(analysis), type=Analysis) == analysis


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{toleratte: 2}", "toleratte: unknown field; did you mean tolerate?"),
        ("{tolerate: 0.5}", "tolerate: 0.5 is outside 1..50"),
        ("{tolerate: .nan}", "tolerate: nan where a finite number is expected"),
        ("{tolerate: high}", 'tolerate: "high" where a number is expected'),
        ("{falseAlarms: 1}", 'falseAlarms: "1" is not a percentage: write for example 1% or 0.5%; did you mean 1%?'),
        ("{falseAlarms: 0%}", 'falseAlarms: "0%" is outside 0.01%..20%'),
        ("{interval: 10}", 'interval: "10" is not a duration'),
        ("{interval: 10ms}", 'interval: "10ms" is less than 1s'),
        (
            "{leaveWhen: confidant}",
            'leaveWhen: "confidant" is none of confident, held, notWorse; did you mean confident?',
        ),
        ("{whenUnclear: goOn}", "whenUnclear: goOn never happens without atMost"),
        ("{atMost: 5s, whenUnclear: goOn}", 'atMost: "5s" is less than one interval (10s)'),
        ("{checks: []}", "checks: is empty: leave it out for errors and latency"),
        ("{checks: [{}]}", "checks[0]: a check of no kind: set exactly one of errors, latency"),
        ("{checks: [{errors: {}, logs: {}}]}", "checks[0]: errors and logs in one check: set exactly one of"),
        ("{checks: [{errors: {}}, {errors: {}}]}", 'checks[1]: a second check "errors" (the first is checks[0])'),
        ("{checks: [{latency: {quantile: 99}}]}", "checks[0].latency.quantile: 99 is outside 0.5..0.9999"),
        ("{checks: [{errors: {failed: {code: 5..}}}]}", "checks[0].errors.requests: is missing: name the counter"),
        ("{checks: [{errors: {requests: a, failed: {code: '('}}}]}", 'failed.code: "(" is no regular expression'),
        ("{checks: [{errors: {requests: a, failures: b, failed: {c: d}}}]}", "errors.failed: says what a failure is"),
        ("{checks: [{errors: {requests: a}}]}", "checks[0].errors.failed: is missing: codes of 500 and more"),
        ("{checks: [{logs: {ignore: ['[']}}]}", 'checks[0].logs.ignore[0]: "[" is no regular expression'),
        (
            "{checks: [{feedback: {origins: [shop]}}]}",
            'origins[0]: "shop" is no origin: write for example https://shop',
        ),
        ("{checks: [{feedback: {}}]}", "feedback.token: is missing: whoever reaches the controller"),
        ("{checks: [{webhook: {url: checks}}]}", 'webhook.url: "checks" is no address: write for example http://'),
        ("{checks: [{webhook: {url: 'http://a:b@c'}}]}", "webhook.url: holds a password"),
        ("{checks: [{job: {template: {}}}]}", "job.template.spec.containers: is missing"),
        ("{checks: [{metric: {name: a}}]}", "checks[0].metric.query: is missing"),
        ("{checks: [{metric: {name: a, query: '$pods'}}]}", "metric.query: needs a Prometheus that answers it"),
        ("{sources: {prometheus: {address: x}}}", 'sources.prometheus.address: "x" is no address'),
        (
            "{sources: {prometheus: {address: 'http://p', tls: {insecure: true}}}}",
            "tls.insecure: whoever is on the way",
        ),
        (
            "{sources: {prometheus: {address: 'http://p', headers: {Authorization: x}}}}",
            "headers.Authorization: is set",
        ),
        (
            "{sources: {prometheus: {address: 'http://p'}}, checks: [{metric: {name: a, query: up}}]}",
            "metric.query: names no pods",
        ),
        (
            "{sources: {prometheus: {address: 'http://p'}}, checks: [{threshold: {query: up}}]}",
            "threshold: has no limit: set min, max or both",
        ),
        (
            "{sources: {prometheus: {address: 'http://p'}}, checks: [{threshold: {query: up, min: 2, max: 1}}]}",
            "threshold.min: 2 is more than max (1)",
        ),
        (
            "{sources: {prometheus: {address: 'http://p'}}, checks:"
            " [{kayenta: {metrics: [{name: a, query: up}], weights: {b: 90, default: 20}}}]}",
            "kayenta.weights: add up to 110, not to 100",
        ),
        (
            "{sources: {prometheus: {address: 'http://p', bearerToken: {secret: a, key: b},"
            " basicAuth: {username: a, password: {secret: a, key: b}}}}}",
            "prometheus.basicAuth: and bearerToken are both given",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_field(text: str, problem: str) -> None:
    _, problems = read(text)
    assert any(found.startswith("spec.analysis.") and problem in found for found in problems), problems


def test_where_series_name_the_version_a_query_need_not_name_pods() -> None:
    source = "{sources: {prometheus: {address: 'http://p', versionLabel: hash}}"
    _, problems = read(source + ", checks: [{metric: {name: a, query: sum by (hash) (up)}}]}")
    assert problems == []


def test_everything_is_said_at_once() -> None:
    _, faults = read(
        "{tolerate: 0, interval: 1, checks: [{errors: {quantile: 1}}, {latency: {unit: hours}}], nonsense: 1}"
    )
    assert len(faults) == 5
    _, problems = read("{interval: 10ms, falseAlarms: 50%, checks: [{}, {webhook: {url: x}}, {job: {template: {}}}]}")
    assert len(problems) == 5
