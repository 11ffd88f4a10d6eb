"""Where pods are: an address each, or one address for all and ports of their own."""

from __future__ import annotations

import ipaddress
import random
import socket
import sys
from collections.abc import Sequence

import msgspec

LOOPBACK = "127.0.0.1"
PODS_ON_LINUX = ipaddress.IPv4Network("127.64.0.0/10")
"""All of 127.0.0.0/8 is this machine on Linux; elsewhere only 127.0.0.1 is."""
BLOCK = 22
"""Bits of the prefix of one cluster's part of them: 1,022 addresses."""
_claims: list[socket.socket] = []
"""Of the blocks that this process has taken, until it ends."""


class Network(msgspec.Struct, frozen=True):
    """``nodes`` are addresses by name; ``first`` to ``last`` are those of pods. With ``shared`` all pods have
    the address ``first``, and each container port is another free one, which the pod's annotation says."""

    nodes: dict[str, str]
    first: str
    last: str
    shared: bool = False


def on_loopback(nodes: Sequence[str]) -> Network:
    """A network for pods on this machine, without a network namespace."""
    addresses = dict.fromkeys(nodes, LOOPBACK)
    if sys.platform == "linux":
        block = _block()
        return Network(addresses, str(block[1]), str(block[-2]))
    return Network(addresses, LOOPBACK, LOOPBACK, shared=True)


def _block() -> ipaddress.IPv4Network:
    """A block that no other cluster of this machine has: who has one has bound the (abstract) socket of its name.
    Two pods of one address would answer for each other. Raises OSError where all are taken."""
    blocks = list(PODS_ON_LINUX.subnets(new_prefix=BLOCK))
    random.SystemRandom().shuffle(blocks)
    for block in blocks:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0davylamp-pods-{block}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return block
    raise OSError(f"all of {PODS_ON_LINUX} is taken by embedded clusters of this machine")


class Addresses:
    """Gives out the addresses of pods."""

    def __init__(self, network: Network) -> None:
        self._first = int(ipaddress.ip_address(network.first))
        self._last = int(ipaddress.ip_address(network.last))
        self._at = self._first - 1
        self._shared = network.first if network.shared else ""
        self._used: set[str] = set()

    def take(self, wanted: str = "") -> str:
        """``wanted`` if it is free, or one that nobody has; freed ones come again only when the range is through."""
        if self._shared:
            return self._shared
        if wanted and wanted not in self._used:
            self._used.add(wanted)
            return wanted
        while True:
            self._at = self._first if self._at >= self._last else self._at + 1
            address = str(ipaddress.ip_address(self._at))
            if address not in self._used:
                self._used.add(address)
                return address

    def free(self, address: str) -> None:
        self._used.discard(address)


def free_ports(address: str, count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((address, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
