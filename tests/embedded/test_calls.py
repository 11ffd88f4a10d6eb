"""The load generator's gRPC calls, against a server of `h2`."""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded
from hyperframe.frame import GoAwayFrame, PingFrame, RstStreamFrame

from davylamp.embedded.calls import Calls
from davylamp.embedded.load.exchanges import Answer, head_of

HEAD = head_of("/hello.Hello/Say", {"Host": "shop.example", "X-Canary": "true"}, call=True)
NAMED = [(":status", "200"), ("content-type", "application/grpc"), ("x-version", "v2")]


class Server:
    """One connection's other end."""

    def __init__(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.asked: dict[int, dict[str, str]] = {}

    def take(self, data: bytes) -> list[int]:
        """The streams of calls that are whole by it."""
        events = self.h2.receive_data(data)
        for event in events:
            if isinstance(event, RequestReceived):
                self.asked[event.stream_id or 0] = {str(name): str(value) for name, value in event.headers or ()}
        return [event.stream_id or 0 for event in events if isinstance(event, StreamEnded)]

    def answer(self, stream: int, status: str = "0", body: bytes = b"\0\0\0\0\2hi") -> bytes:
        self.h2.send_headers(stream, NAMED)
        self.h2.send_data(stream, body)
        self.h2.send_headers(stream, [("grpc-status", status)], end_stream=True)
        return self.h2.data_to_send()


def test_calls_follow_one_another_on_a_connection_whatever_pieces_answers_come_in() -> None:
    server, calls = Server(), Calls()
    for number in range(20):
        (stream,) = server.take(calls.request(HEAD))
        answer, data = None, server.answer(stream, body=bytes(4000))
        for at in range(len(data)):
            assert answer is None
            answer = calls.feed(data[at : at + 1])
        assert answer == Answer(200, "v2", keep_alive=True), number
        server.take(calls.reply())
    assert server.h2.outbound_flow_control_window > 60_000, "it is told that all was taken"
    assert server.asked[stream] == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/hello.Hello/Say",
        ":authority": "shop.example",
        "x-canary": "true",
        "content-type": "application/grpc",
        "te": "trailers",
    }


@pytest.mark.parametrize(("grpc", "status"), [("0", 200), ("13", 500), ("14", 503), ("12", 404), ("", 500)])
def test_a_calls_own_status_decides(grpc: str, status: int) -> None:
    server, calls = Server(), Calls()
    (stream,) = server.take(calls.request(HEAD))
    found = calls.feed(server.answer(stream, grpc))
    assert found is not None
    assert found.status == status


def test_a_call_under_way_is_answered_by_a_server_that_wants_no_more_of_them() -> None:
    server, calls = Server(), Calls()
    (stream,) = server.take(calls.request(HEAD))
    assert calls.feed(GoAwayFrame(last_stream_id=2**31 - 1).serialize()) is None
    assert calls.over
    assert calls.feed(server.answer(stream)) == Answer(200, "v2", keep_alive=False)


def test_a_ping_is_answered() -> None:
    calls = Calls()
    calls.reply()
    assert calls.feed(PingFrame(opaque_data=b"12345678").serialize()) is None
    assert calls.reply() == PingFrame(opaque_data=b"12345678", flags=["ACK"]).serialize()


@pytest.mark.parametrize("data", [RstStreamFrame(1, error_code=7).serialize(), b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_call_that_is_reset_or_not_answered_in_http_2_is_lost(data: bytes) -> None:
    calls = Calls()
    calls.request(HEAD)
    with pytest.raises(ValueError, match=r"reset|not HTTP/2"):
        calls.feed(data)
