"""TCP from a listening socket of the host to an address inside the namespace."""

from __future__ import annotations

import asyncio
import contextlib
import socket


def listen() -> socket.socket:
    """A loopback listener on a free port, to be made before entering the namespace."""
    return socket.create_server(("127.0.0.1", 0), backlog=512)


async def serve(listener: socket.socket, host: str, port: int) -> asyncio.Server:
    """Connects every client of ``listener`` to host:port, as seen from where we run now."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:  # nobody listens there (yet): a refused connection is what the client would have seen
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        for end in (writer, far_writer):
            end.close()

    return await asyncio.start_server(accept, sock=listener)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(64 * 1024):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        return
    writer.transport.abort()
