"""Lines as frameworks write them: which belong together, how bad they are, and what of them must not be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from davylamp.signals.lines import Entry, Joiner, Level
from davylamp.signals.masking import safe, shape

WARNING, ERROR, OTHER = Level.WARNING, Level.ERROR, Level.OTHER


def entries(text: str) -> list[Entry]:
    joiner = Joiner()
    return [found for line in text.splitlines() for found in joiner.add(line)] + list(joiner.flush())


def log(name: str) -> str:
    return (Path(__file__).parent / "logs" / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "python",
            [
                Entry(OTHER, "2026-01-05 10:00:01,123 INFO shop.web: order 17 placed"),
                Entry(ERROR, "shop.db: could not save order 18", "shop.errors.SaveError", "order 18 was not saved"),
                Entry(WARNING, "shop.web: slow answer: 2.3 s"),
            ],
        ),
        (
            "java",
            [
                Entry(OTHER, log("java").splitlines()[0]),
                Entry(
                    ERROR,
                    "1 --- [nio-8080-exec-2] o.a.c.c.C.[.[.[/].[dispatcherServlet] : Servlet.service() failed",
                    "java.lang.IllegalStateException",
                    "no stock for item 4711",
                ),
                Entry(WARNING, "1 --- [nio-8080-exec-3] c.e.shop.Cart : cart 5 is old"),
            ],
        ),
        (
            "go",
            [
                Entry(OTHER, "I0105 10:00:01.123456       1 main.go:12] serving on :8080"),
                Entry(
                    ERROR,
                    'store.go:77] "Could not save" err="connection refused" order=18',
                    "panic",
                    "runtime error: invalid memory address or nil pointer dereference",
                ),
                Entry(WARNING, "slow answer"),
            ],
        ),
        (
            "node",
            [
                Entry(OTHER, "GET /cart 200 3.2 ms"),
                Entry(
                    ERROR,
                    "/app/cart.js:17",
                    "TypeError",
                    "Cannot read properties of undefined (reading 'items')",
                ),
                Entry(ERROR, "[Nest] 7 - 01/05/2026, 10:00:03 AM [OrderService] payment refused"),
            ],
        ),
        (
            "dotnet",
            [
                Entry(OTHER, "info: Microsoft.Hosting.Lifetime[14]"),
                Entry(
                    ERROR,
                    "Microsoft.AspNetCore.Server.Kestrel[13]",
                    "System.InvalidOperationException",
                    "Sequence contains no elements",
                ),
                Entry(
                    ERROR,
                    "",
                    "System.NullReferenceException",
                    "Object reference not set to an instance of an object.",
                ),
            ],
        ),
        (
            "json",
            [
                Entry(OTHER, "order placed"),
                Entry(ERROR, "could not save", "java.sql.SQLException", "refused"),
                Entry(ERROR, "payment failed", "PaymentError", "card declined"),
                Entry(ERROR, "could not save", "", "connection refused"),
                Entry(ERROR, "Order {Id} failed", "System.TimeoutException", "too slow"),
                Entry(WARNING, "slow answer"),
                Entry(ERROR, "boom", "ValueError", "bad value"),
                Entry(ERROR, "disk full"),
                Entry(OTHER, "not {json"),
            ],
        ),
        (
            "others",
            [
                Entry(ERROR, "29#29: *1 connect() failed (111: Connection refused) while connecting to upstream"),
                Entry(WARNING, "[12] [config] [source/common/config.cc:1] gRPC config stream closed: 14"),
                Entry(ERROR, "10.0.0.7 GET / 500 1.2ms"),
                Entry(OTHER, '10.0.0.7 - - [05/Jan/2026:10:00:02 +0000] "GET /error HTTP/1.1" 200 12'),
                Entry(ERROR, "E, [2026-01-05T10:00:02.456 #1] -- : NoMethodError (undefined method)"),
                Entry(OTHER, "there were no errors"),
            ],
        ),
    ],
)
def test_entries_of_frameworks(name: str, expected: list[Entry]) -> None:
    assert entries(log(name)) == expected


@pytest.mark.parametrize(
    ("text", "gone", "left"),
    [
        ("login failed password=hunter2 user=bob", "hunter2", "user=bob"),
        ("cfg DB_PASSWORD: 'hun ter2', host: db", "hun ter2", "host: db"),
        ('{"apiKey":"abc123","id":7}', "abc123", '"id":7'),
        ("Authorization: Bearer abc.def-ghi rest", "abc.def-ghi", "rest"),
        ("sent basic dXNlcjpwYXNz now", "dXNlcjpwYXNz", "now"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijk end", "eyJzdWIi", "end"),
        ("connect postgres://shop:pa55@db:5432/x failed", "pa55", "db:5432/x failed"),
        ("mail to jane.doe+x@example.co.uk bounced", "jane.doe", "bounced"),
        ("GET /pay?card=1&cvv=123 500", "cvv=123", "/pay?<query> 500"),
        ("card 4111 1111 1111 1111 declined", "4111", "declined"),
        ("card 4111111111111111 declined", "4111111111111111", "declined"),
        ("key AKIAIOSFODNN7EXAMPLE used", "AKIAIOSFODNN7EXAMPLE", "used"),
        ("token ghp_16C7e42F292c6912E7710c838347Ae178B4a bad", "ghp_16C7", "bad"),
        ("cookie: session=abcdef; path=/", "abcdef", "path=/"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY----- after", "MIIEow", "after"),
        ("hash 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 x", "9f86d0818", "x"),
    ],
)
def test_secrets_and_persons_are_not_kept(text: str, gone: str, left: str) -> None:
    assert gone not in safe(text)
    assert left in safe(text)


@pytest.mark.parametrize(
    "text",
    [
        "could not connect to db-1.prod:5432: connection refused",
        "java.lang.IllegalStateException: no stock for item 4711",
        "psycopg2.OperationalError: server closed the connection unexpectedly",
        "10.0.0.7 GET / 500 1.2ms at 2026-01-05 10:00:02",
    ],
)
def test_a_harmless_line_stays_as_it_is(text: str) -> None:
    assert safe(text) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("took 17 ms", "took 3.5 ms"),
        ("item 0c9f3d52-7a51-4b51-8d1e-0f4e2c1a9b77", "item 1d9f3d52-7a51-4b51-8d1e-0f4e2c1a9b78"),
        ("from 10.0.0.7:4711", "from 192.168.12.1:80"),
        ("pod web-7f6b13cd4-x2x9z gone", "pod web-6d5bc4f79-kq8lm gone"),
        ("at 2026-01-05T10:00:02.1Z", "at 2027-11-25T23:59:59.999Z"),
        ("object 0xc000014090", "object 0xdeadbeef"),
        ("commit 9fceb02d0ae5", "commit 7ac1b2e4"),
    ],
)
def test_what_differs_each_time_does_not_tell_messages_apart(one: str, other: str) -> None:
    assert shape(one) == shape(other) != one


def test_words_tell_messages_apart() -> None:
    assert shape("cache is full") == "cache is full"
