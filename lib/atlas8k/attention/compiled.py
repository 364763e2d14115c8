"""Compile the kernels, and cache them on disk where a folder for it can be written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit

logger = logging.getLogger(__name__)

FAST_SUMS = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be reordered for vector units; NaN and infinity keep their meaning."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function by numba, without the interpreter lock; cached on disk where possible.

    The server scores in a new process each time, which would compile anew for seconds.
    numba keeps the machine code beside the module or, where that is read-only as in an
    installed package, in the user's cache folder or ``NUMBA_CACHE_DIR``. Where none can
    be written the kernel is compiled in memory. Threads are the caller's: numba's own
    pool may not be entered by two server threads at once.

    The cache goes by the date of the file that holds the kernel: after a change to a
    constant or a helper that a kernel takes from another file, touch the kernel's.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": FAST_SUMS, "error_model": "numpy"}
    try:
        kernel: Callable[..., Any] = njit(cache=True, **options)(function)
    except RuntimeError as err:  # numba found no folder it may write
        logger.info("%s; compiling in memory", err)
        kernel = njit(**options)(function)
    return kernel
