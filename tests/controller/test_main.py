from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

CONNECTIONS = """
from davylamp.controller.main import give_back_large_blocks

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) // 1024

give_back_large_blocks()
del (once := [bytearray(1 << 20)])[0]
before = resident()
connections = [(bytearray(256 * 1024), bytearray(60 * 1024)) for _ in range(100)]
busy = resident()
stay = [small for _, small in connections]
del connections
print(busy - before, resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another malloc than glibc's")
def test_what_closed_connections_held_goes_back_to_the_system() -> None:
    out = subprocess.run([sys.executable, "-c", CONNECTIONS], check=True, capture_output=True, text=True).stdout
    busy, idle = map(int, out.split())
    assert busy >= 25
    assert idle <= 10
