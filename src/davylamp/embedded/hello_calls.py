"""What hellok8s answers to gRPC calls, over HTTP/2 without TLS: a message that says `hello`, and a status as trailer.

Loaded only where hellok8s is started with GRPC=1, since it needs a library (`h2`).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from hyperframe.frame import GoAwayFrame

if TYPE_CHECKING:
    from davylamp.embedded.hellok8s import App  # it is the program itself, and is not to be loaded a second time

GRPC_STATUS = {200: "0", 404: "12"}  # OK, UNIMPLEMENTED; all others are INTERNAL
INTERNAL = "13"
GO_AWAY = GoAwayFrame(last_stream_id=2**31 - 1).serialize()
"""As it is without `h2`, which takes nothing any more after its own: calls that are under way are answered still."""


class Calls(asyncio.Protocol):
    """One client, from the first bytes of its connection on."""

    def __init__(self, app: App, transport: asyncio.Transport, data: bytes) -> None:
        self.app = app
        self.transport: asyncio.Transport | None = transport
        self.calls: dict[int, tuple[str, float]] = {}  # by stream: the path, and when it came
        self.told = False
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.initiate_connection()
        transport.set_protocol(self)
        app.connections.add(self)
        app.unconnected.clear()
        self.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.app.connections.discard(self)
        if not self.app.connections:
            self.app.unconnected.set()

    def idle(self) -> bool:
        return not self.calls

    def data_received(self, data: bytes) -> None:
        if self.transport is None:
            return
        try:
            for event in self.h2.receive_data(data):
                match event:
                    case RequestReceived(headers=headers, stream_id=int(stream)):
                        path = next((value.decode() for name, value in headers or () if name == b":path"), "")
                        self.calls[stream] = (path.partition("?")[0], time.perf_counter())
                    case DataReceived(flow_controlled_length=int(length), stream_id=int(stream)) if length:
                        self.h2.acknowledge_received_data(length, stream)
                    case StreamEnded(stream_id=int(stream)) if stream in self.calls:
                        self.answer(stream, *self.calls.pop(stream))
                    case StreamReset(stream_id=int(stream)):
                        self.calls.pop(stream, None)
        except ProtocolError:
            self.transport.write(self.h2.data_to_send())
            self.transport.close()
            return
        self.transport.write(self.h2.data_to_send())
        if self.app.draining and not self.told:
            self.told = True
            self.transport.write(GO_AWAY)

    def answer(self, stream: int, path: str, began: float) -> None:
        app = self.app
        status, _, body = app.answer(path, "")
        message = body.encode()[:127]
        field = bytes([0x0A, len(message)]) + message  # a protocol buffer whose field 1 is this text
        named = [("x-version", app.settings.version), ("x-pod", app.settings.pod)]
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc"), *named])
        self.h2.send_data(stream, b"\0" + len(field).to_bytes(4, "big") + field)
        self.h2.send_headers(stream, [("grpc-status", GRPC_STATUS.get(status, INTERNAL))], end_stream=True)
        seconds = time.perf_counter() - began
        app.count("POST", path, status, seconds)
        app.log("-", "POST", path, status, seconds)
