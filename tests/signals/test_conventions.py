"""Real-looking metrics of many programs: which series feed which check, and what is read from them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from davylamp.signals.conventions import CONVENTIONS, Names, detect, read
from davylamp.signals.exposition import Exposition, parse

HERE = Path(__file__).parent / "expositions"


def exposition(name: str) -> Exposition:
    return parse((HERE / f"{name}.txt").read_text())


@pytest.mark.parametrize(
    ("name", "errors", "requests", "failures"),
    [
        ("client_go", "http_requests_total", 921, 9),
        ("node_prom_bundle", "http_request_duration_seconds_count", 43, 2),
        ("otel", "http_server_request_duration_seconds_count", 104, 4),
        ("otel_old", "http_server_duration_milliseconds_count", 62, 2),
        ("spring", "http_server_requests_seconds_count", 147, 7),
        ("spring_histogram", "http_server_requests_seconds_count", 10, 0),
        ("nginx_vts", "nginx_vts_server_requests_total", 88, 2),
        ("traefik", "traefik_service_requests_total", 310, 20),
        ("istio", "istio_requests_total", 406, 6),
        ("envoy", "envoy_http_downstream_rq_xx", 125, 3),
        ("grpc", "grpc_server_handled_total", 223, 5),
        ("fastapi", "http_requests_total", 67, 3),
        ("dotnet", "http_requests_received_total", 34, 1),
        ("hellok8s", "http_requests_total", 426, 6),
    ],
)
def test_requests_and_failures_of_users_are_read(name: str, errors: str, requests: float, failures: float) -> None:
    found = exposition(name)
    choice = detect(found)
    assert choice.errors is not None
    assert choice.errors.requests == errors
    counts = read(found, choice)
    assert (sum(counts.requests.values()), sum(counts.failures.values())) == (requests, failures)


@pytest.mark.parametrize(
    ("name", "histogram", "bounds", "cumulative"),
    [
        ("client_go", "http_request_duration_seconds", (0.1, 0.5, math.inf), (800, 894, 909)),
        ("otel", "http_server_request_duration_seconds", (0.005, 0.05, math.inf), (11, 98, 104)),
        ("otel_old", "http_server_duration_milliseconds", (0.005, 0.25, math.inf), (51, 62, 62)),
        ("spring_histogram", "http_server_requests_seconds", (0.001, 0.1, math.inf), (3, 9, 10)),
        ("traefik", "traefik_service_request_duration_seconds", (0.1, 0.3, math.inf), (250, 280, 290)),
        ("istio", "istio_request_duration_milliseconds", (0.0005, 0.1, math.inf), (0, 390, 400)),
        ("envoy", "envoy_http_downstream_rq_time", (0.0005, 0.025, math.inf), (0, 110, 125)),
        ("grpc", "grpc_server_handling_seconds", (0.005, 0.1, math.inf), (100, 220, 223)),
        ("fastapi", "http_request_duration_seconds", (0.1, 0.5, math.inf), (60, 66, 67)),
        ("dotnet", "http_request_duration_seconds", (0.001, math.inf), (30, 33)),
        ("hellok8s", "http_request_duration_seconds", (0.001, 0.1, math.inf), (405, 423, 423)),
    ],
)
def test_histograms_are_read_in_seconds(
    name: str, histogram: str, bounds: tuple[float, ...], cumulative: tuple[float, ...]
) -> None:
    found = exposition(name)
    choice = detect(found)
    assert choice.latency is not None
    assert choice.latency.latency == histogram
    buckets = read(found, choice).buckets.values()
    assert {bound: sum(one[bound] for one in buckets) for bound in bounds} == dict(zip(bounds, cumulative, strict=True))


@pytest.mark.parametrize(
    ("name", "metric", "why"),
    [
        ("spring", "http_server_requests_seconds", "it is a summary without buckets"),
        ("nginx_exporter", "nginx_http_requests_total", "no label tells how a request ended"),
        ("traefik", "traefik_entrypoint_requests_total", "but traefik_service_requests_total is used"),
        ("client_go", "promhttp_metric_handler_requests_total", "counts the monitoring itself"),
        ("client_go", "http_requests_total", "2 series left out"),
        ("otel_old", "http_server_duration_milliseconds", "in milliseconds"),
    ],
)
def test_what_is_left_out_comes_with_its_reason(name: str, metric: str, why: str) -> None:
    findings = [f.why for f in detect(exposition(name)).findings if f.metric == metric]
    assert any(why in said for said in findings), findings


@pytest.mark.parametrize("name", ["spring", "nginx_vts"])
def test_without_buckets_there_is_no_latency(name: str) -> None:
    assert detect(exposition(name)).latency is None


def test_names_of_the_policy_go_before_the_conventions() -> None:
    found = parse('http_requests_total{code="500"} 7\nshop_calls{result="ok"} 5\nshop_calls{result="oops"} 2\n')
    choice = detect(found, Names(requests="shop_calls", failed={"result": "oops|bad"}))
    counts = read(found, choice)
    assert (sum(counts.requests.values()), sum(counts.failures.values())) == (7, 2)


def test_a_counter_of_failures_of_its_own_need_not_exist_before_the_first_failure() -> None:
    names = Names(requests="shop_calls", failures="shop_failures")
    before, after = parse("shop_calls 5\n"), parse("shop_calls 9\nshop_failures 1\n")
    choice = detect(before, names)
    assert sum(read(before, choice).failures.values()) == 0
    assert sum(read(after, choice).failures.values()) == 1
    assert any(f.metric == "shop_failures" and "no such metric" in f.why for f in choice.findings)


def test_what_has_counted_something_goes_before_what_has_not() -> None:
    idle = 'http_server_request_duration_seconds_count{http_response_status_code="200"} 0\n'
    found = parse(idle + 'http_requests_total{code="200"} 4\n')
    choice = detect(found)
    assert choice.errors is not None
    assert choice.errors.requests == "http_requests_total"


def test_a_name_that_nobody_knows_is_shown_with_what_to_do() -> None:
    (finding,) = detect(parse("shop_requests_total 5\n")).findings
    assert (finding.check, finding.metric) == ("", "shop_requests_total")
    assert "errors.requests" in finding.why


def test_the_documentation_names_every_convention() -> None:
    page = (HERE.parents[2] / "docs" / "signals.md").read_text()
    rows = [row for row in page.splitlines() if row.startswith("| ")]
    for one in CONVENTIONS:
        assert any(f"`{one.requests}`" in row and f"`{one.latency}`" in row for row in rows), one


def test_words_instead_of_codes_are_not_taken_for_success() -> None:
    found = detect(parse('http_requests_total{status="success"} 5\nhttp_requests_total{status="oops"} 2\n'))
    assert found.errors is None
    assert "its values oops, success are no HTTP codes" in found.findings[0].why


def test_a_request_that_ended_without_a_status_failed() -> None:
    name = "http_server_request_duration_seconds_count"
    found = parse(f'{name}{{http_response_status_code="200"}} 5\n{name}{{error_type="timeout"}} 2\n')
    assert sum(read(found, detect(found)).failures.values()) == 2
