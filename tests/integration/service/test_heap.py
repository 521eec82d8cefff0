"""Memory that is freed goes back to the system, in a process as the daemon's is."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from sfmd.heap import map_large_blocks
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if "set" in sys.argv:
    map_large_blocks()
libc.free(libc.malloc(8 << 20))  # from here on glibc would keep blocks of up to 8 MiB
blocks = [(libc.malloc(4 << 20), libc.malloc(64)) for _ in range(16)]
for large, small in blocks:
    ctypes.memset(large, 1, 4 << 20)
for large, small in blocks[:-1]:
    libc.free(large)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon")))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's: it was NOT tried here")
def test_large_blocks_do_not_stay_between_small_ones() -> None:
    def resident_mib(*how: str) -> float:
        done = subprocess.run([sys.executable, "-c", PROGRAM, *how], capture_output=True, text=True, check=True)
        return int(done.stdout) / 1024

    kept, given_back = resident_mib(), resident_mib("set")
    assert kept - given_back > 40, (kept, given_back)
