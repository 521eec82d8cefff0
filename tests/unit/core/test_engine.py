"""What computed an answer is named the same in every process, and how many BLAS threads it may use is really set."""

import subprocess
import sys

from sfmd.core.engine import ENGINE, set_blas_threads


def test_the_fingerprint_is_the_same_in_another_process():
    other = subprocess.run(
        [sys.executable, "-c", "from sfmd.core.engine import ENGINE; print(ENGINE)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert other.stdout.strip() == ENGINE
    assert ENGINE.startswith("sfm-core/")
    assert "libm/" in ENGINE


def test_blas_threads_are_bounded_for_real():
    """In a process of its own: the number of threads that a large product leaves behind."""
    program = (
        "import os, numpy as np\n"
        "from sfmd.core.engine import set_blas_threads\n"
        "print(set_blas_threads(1))\n"
        "a = np.ones((1500, 1500)); a @ a\n"
        "import ctypes, glob\n"
        "from pathlib import Path\n"
        "for lib in (Path(np.__file__).parent.parent / 'numpy.libs').glob('lib*openblas*'):\n"
        "    h = ctypes.CDLL(str(lib))\n"
        "    names = ('scipy_openblas_get_num_threads64_', 'openblas_get_num_threads64_', 'openblas_get_num_threads')\n"
        "    print([getattr(h, n)() for n in names if hasattr(h, n)][0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "1"]
    assert set_blas_threads(1) is True
