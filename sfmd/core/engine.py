"""What computed an answer, as a receipt names it, and how many threads it may use.

Two engines with the same fingerprint give the same bytes: similarities depend on IEEE arithmetic alone, logarithms and
exponentials on the C library, which the fingerprint probes.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import platform
import struct
from pathlib import Path

import numpy as np

CORE_VERSION = 1


def _libm_probe() -> str:
    """Eight hex digits over log2 and exp at 512 fixed points: equal digits, equal bits."""
    digest = hashlib.sha256()
    for n in range(1, 513):
        x = n * 0.0019607843137254902
        digest.update(struct.pack("<dd", math.log2(x), math.exp(-x * 30.0)))
    return digest.hexdigest()[:8]


ENGINE = f"sfm-core/{CORE_VERSION} {platform.machine()} libm/{_libm_probe()}"


def set_blas_threads(n: int) -> bool:
    """Bound numpy's own OpenBLAS to `n` threads; False when this numpy carries no OpenBLAS that can be asked.

    Several BLAS threads hurt concurrent recalls: the pool of recalls is the parallelism.
    """
    folder = Path(np.__file__).parent.parent / "numpy.libs"
    for library in sorted(folder.glob("lib*openblas*")):
        handle = ctypes.CDLL(str(library))
        for name in (
            "scipy_openblas_set_num_threads64_",
            "openblas_set_num_threads64_",
            "openblas_set_num_threads",
        ):
            if hasattr(handle, name):
                getattr(handle, name)(ctypes.c_int(n))
                return True
    return False
