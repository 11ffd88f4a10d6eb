"""Which addresses policies may make Davylamp connect to.

A policy names addresses (Prometheus, webhooks) and whoever writes policies may be less trusted than the controller,
so that addresses inside the controller's machine and its cloud's metadata service are refused unless the
controller's options allow them. What is checked is the address of the very socket that is about to be connected:
a name that resolves differently a moment later, a redirect and a number in an odd notation gain nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED: tuple[tuple[str, str], ...] = (
    ("169.254.0.0/16", "link-local (cloud metadata)"),
    ("fe80::/10", "link-local"),
    ("127.0.0.0/8", "loopback"),
    ("::1/128", "loopback"),
    ("0.0.0.0/8", "unspecified (this machine)"),
    ("::/128", "unspecified (this machine)"),
    ("fd00:ec2::/32", "cloud metadata (AWS)"),
    ("fd20:ce::254/128", "cloud metadata (Google)"),
    ("100.100.100.200/32", "cloud metadata (Alibaba)"),
    ("168.63.129.16/32", "the platform's own (Azure)"),
    ("192.0.0.192/32", "cloud metadata (Oracle)"),
    ("224.0.0.0/4", "multicast"),
    ("ff00::/8", "multicast"),
    ("255.255.255.255/32", "broadcast"),
)
REFUSED: tuple[tuple[Network, str], ...] = tuple((ipaddress.ip_network(net), what) for net, what in _REFUSED)
NAMES = frozenset({"metadata.google.internal", "metadata", "metadata.goog", "instance-data"})
"""Names of metadata services; they resolve to addresses above wherever they exist."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Refused(OSError):
    """A connection that is not made; the message says to what, and why not."""


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks as an option gives them: `127.0.0.0/8`, `10.0.0.7`. Raises ValueError naming the one that is none."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ValueError(f'"{text}" is no network: write for example 127.0.0.0/8 ({error})') from None
    return tuple(found)


def refusal(address: str, allowed: Sequence[Network] = ()) -> str:
    """Why there is no connecting to `address`; empty where there is. An IPv4 address inside of an IPv6 one (mapped,
    6to4, Teredo, NAT64) counts as what it leads to."""
    outer = ipaddress.ip_address(address.partition("%")[0])
    for one in _meant(outer):
        if any(one in network for network in allowed if network.version == one.version):
            continue
        for network, what in REFUSED:
            if network.version == one.version and one in network:
                return f"{address} is {what}; the controller's --allow-address allows such"
    return ""


def _meant(outer: Address) -> tuple[Address, ...]:
    if isinstance(outer, ipaddress.IPv4Address):
        return (outer,)
    inner: list[Address | None] = [outer.ipv4_mapped, outer.sixtofour, outer.teredo[1] if outer.teredo else None]
    if outer in _NAT64:
        inner.append(ipaddress.IPv4Address(int(outer) & 0xFFFFFFFF))
    return (outer, *(one for one in inner if one is not None))


def check_name(host: str, allowed: Sequence[Network] = ()) -> None:
    """Raises Refused for the name of a metadata service, so that a policy learns it without a connection."""
    if not allowed and host.rstrip(".").lower() in NAMES:
        raise Refused(f"{host} is a cloud metadata service")


def connector(
    allowed: Sequence[Network] = (), *, limit: int = 100, resolver: AbstractResolver | None = None
) -> aiohttp.TCPConnector:
    """Connections that may only lead where `refusal` has nothing against; else Refused within aiohttp's
    ClientConnectorError. `limit` is how many there are at once. To be made inside a running event loop."""

    def guarded(info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        family, kind, proto, _, address = info
        if why := refusal(str(address[0]), allowed):
            raise Refused(why)
        return socket.socket(family, kind, proto)

    return aiohttp.TCPConnector(limit=limit, resolver=resolver, socket_factory=guarded, ttl_dns_cache=30)
