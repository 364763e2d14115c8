"""Arrays of zeros that take memory only where they are written."""

from __future__ import annotations

import mmap
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt


def sparse_zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array of zeros whose pages take memory when something is first written there.

    ``numpy.zeros`` asks for pages of 2 MB, of which one voxel takes the whole: a structure would
    cost all of the planes that it lies in. Here it costs its rows. Pages that were only read take
    nothing.
    """
    kind = np.dtype(dtype)
    size = prod(shape) * kind.itemsize
    private = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
    if size == 0 or not private:  # Windows
        return np.zeros(shape, kind)
    memory = mmap.mmap(-1, size, flags=private | getattr(mmap, "MAP_NORESERVE", 0))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, kind).reshape(shape)
