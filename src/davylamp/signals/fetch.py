"""One HTTP request with bounds: time, bytes (after decompression, too), redirects, and whereto (`addresses`)."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec
from yarl import URL

from davylamp.signals.addresses import Network, Refused, check_name, connector

MAX_REDIRECTS = 3
_CHUNK = 256 * 1024


class Unavailable(Exception):
    """No usable answer. `again` is whether the same request may succeed a moment later, `after` how many seconds
    later the server says it would."""

    def __init__(self, message: str, *, again: bool = False, after: float = 0) -> None:
        super().__init__(message)
        self.again = again
        self.after = after


class Answer(msgspec.Struct, frozen=True):
    status: int
    content_type: str
    body: bytes
    retry_after: float = 0
    """Seconds that the server asks to wait."""


def client(
    allowed: Sequence[Network] = (), *, limit: int = 100, resolver: aiohttp.abc.AbstractResolver | None = None
) -> aiohttp.ClientSession:
    """A session for `fetch`; close it. Connections are guarded, cookies are not kept, bodies not unpacked (we do)."""
    return aiohttp.ClientSession(
        connector=connector(allowed, limit=limit, resolver=resolver),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "davylamp"},
    )


async def fetch(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    seconds: float,
    max_bytes: int,
    headers: Mapping[str, str] | None = None,
    data: bytes | Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    redirects: int = MAX_REDIRECTS,
) -> Answer:
    """The answer, whatever its status.

    Raises Unavailable where there is none within `seconds`, where it has more than `max_bytes` (the connection is
    dropped then), or where it would come from an address that is refused.
    """
    try:
        check_name(URL(url).host or "")
        async with asyncio.timeout(seconds):
            async with session.request(
                method,
                url,
                headers={"Accept-Encoding": "gzip", **(headers or {})},
                data=data,
                allow_redirects=redirects > 0,
                max_redirects=redirects,
                ssl=tls if tls is not None else True,
                server_hostname=server_name,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as response:
                body = await _body(response, max_bytes)
                wait = response.headers.get("Retry-After", "")
                kind = response.headers.get("Content-Type", "")
                return Answer(response.status, kind, body, float(wait) if wait.isdigit() else 0)
    except TimeoutError:
        raise Unavailable(f"{url}: no answer within {seconds:g} s", again=True) from None
    except Refused as error:
        raise Unavailable(f"{url}: {error}") from None
    except aiohttp.TooManyRedirects:
        raise Unavailable(f"{url}: more than {redirects} redirects") from None
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise Unavailable(
            f"{url} is no address: write for example http://prometheus.monitoring:9090 ({error})"
        ) from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise Unavailable(f"{url}: its certificate is not trusted: {error.certificate_error}") from None
    except (aiohttp.ClientError, zlib.error, OSError) as error:
        raise _unavailable(url, error) from None
    except ValueError as error:
        raise Unavailable(f"{url}: the request can't be made: {error}") from None


def _unavailable(url: str, error: Exception) -> Unavailable:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Refused):
            return Unavailable(f"{url}: {cause}")
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    if isinstance(error, zlib.error):
        return Unavailable(f"{url}: the answer says it is gzip, but it is not: {error}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Unavailable(f"{url}: the answer was cut off", again=True)
    return Unavailable(f"{url}: {error or type(error).__name__}", again=True)


async def _body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    unpack = (
        zlib.decompressobj(wbits=47) if response.headers.get("Content-Encoding", "") in ("gzip", "deflate") else None
    )
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        rest = chunk
        while rest:
            # A bomb of a few kilobytes unpacks to gigabytes: never more than what may still come, and one byte.
            part = rest if unpack is None else unpack.decompress(rest, max_bytes - size + 1)
            rest = b"" if unpack is None else unpack.unconsumed_tail
            size += len(part)
            if size > max_bytes:
                response.close()
                raise Unavailable(f"{response.url}: the answer has more than {max_bytes / 1e6:g} MB; it is not read on")
            parts.append(part)
    if unpack is not None and not unpack.eof:
        raise Unavailable(f"{response.url}: the answer was cut off", again=True)
    return b"".join(parts)
