"""gRPC calls over HTTP/2 as a client sends them, one at a time on a connection.

By frames rather than by `h2`: there a connection that is told to end (GOAWAY) takes no answer any more, and one under
way would count as lost.
"""

from __future__ import annotations

from collections.abc import Iterator

import hpack
from hyperframe import exceptions, frame

from davylamp.embedded.load.counts import NO_VERSION
from davylamp.embedded.load.exchanges import Answer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = 9  # bytes before a frame's content
MOST = 16384  # bytes of it, as long as nobody has allowed more
EMPTY_MESSAGE = bytes(5)
STATUSES = {"0": 200, "5": 404, "12": 404, "14": 503}
"""What HTTP would say, by grpc-status; 500 for all others."""


class Calls:
    """`load.exchanges.Exchanges`. An answer's status is 200 only if the call's own is OK."""

    def __init__(self) -> None:
        self.over = False
        self.buffer = b""
        self.out = PREFACE + frame.SettingsFrame().serialize()
        self.stream = -1
        self.block = b""
        self.headers: dict[str, str] = {}
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()

    def request(self, head: str) -> bytes:
        self.stream += 2
        self.headers = {}
        asked = frame.HeadersFrame(self.stream, self.encoder.encode(_fields(head)), flags=["END_HEADERS"])
        message = frame.DataFrame(self.stream, EMPTY_MESSAGE, flags=["END_STREAM"])
        return self.reply() + asked.serialize() + message.serialize()

    def reply(self) -> bytes:
        out, self.out = self.out, b""
        return out

    def feed(self, data: bytes) -> Answer | None:
        self.buffer += data
        try:
            ended = [one for one in self._frames() if self._take(one)]
        except (exceptions.HyperframeError, hpack.HPACKError) as error:
            raise ValueError(f"not HTTP/2: {error}") from error
        if not ended:
            return None
        found = self.headers
        status = int(found.get(":status", "0"))
        if status == 200:
            status = STATUSES.get(found.get("grpc-status", ""), 500)
        return Answer(status, found.get("x-version", NO_VERSION), not self.over)

    def _frames(self) -> Iterator[frame.Frame]:
        while len(self.buffer) >= HEAD:
            one, length = frame.Frame.parse_frame_header(memoryview(self.buffer[:HEAD]))
            if length > MOST:
                raise ValueError(f"not HTTP/2: {self.buffer[:60]!r}")
            if len(self.buffer) < HEAD + length:
                return
            one.parse_body(memoryview(self.buffer[HEAD : HEAD + length]))
            self.buffer = self.buffer[HEAD + length :]
            yield one

    def _take(self, one: frame.Frame) -> bool:
        """Whether the answer is whole by it."""
        match one:
            case frame.SettingsFrame() if "ACK" not in one.flags:
                size = one.settings.get(frame.SettingsFrame.HEADER_TABLE_SIZE)
                if size is not None:
                    self.encoder.header_table_size = size
                self.out += frame.SettingsFrame(flags=["ACK"]).serialize()
            case frame.PingFrame() if "ACK" not in one.flags:
                self.out += frame.PingFrame(opaque_data=one.opaque_data, flags=["ACK"]).serialize()
            case frame.GoAwayFrame():
                self.over = True
            case frame.RstStreamFrame() if one.stream_id == self.stream:
                raise ValueError(f"the call was reset with {one.error_code}")
            case frame.HeadersFrame() | frame.ContinuationFrame():
                self.block += one.data
                if "END_HEADERS" in one.flags:
                    self.headers |= {str(name): str(value) for name, value in self.decoder.decode(self.block)}
                    self.block = b""
            case frame.DataFrame() if one.flow_controlled_length:
                self.out += frame.WindowUpdateFrame(0, one.flow_controlled_length).serialize()
        return "END_STREAM" in one.flags and one.stream_id == self.stream


def _fields(head: str) -> list[tuple[str, str]]:
    """HTTP/1.1's head as HTTP/2 has it."""
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    named = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    host = dict(named).get("host", "")
    whole = [(":method", method), (":scheme", "http"), (":path", path), (":authority", host)]
    return [*whole, *((name, value) for name, value in named if name != "host")]
