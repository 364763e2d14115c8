"""Count and map values of label maps, as fast as memory is read.

A label map is mostly background. Eight voxels at a time that are all background are
skipped, so that only the rest, a tenth of an abdominal CT, is counted one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlas8k.core.structures import parts_of

Labels = npt.NDArray[np.uint8]

_BLOCK = 1 << 22  # voxels a step: the counting below needs 8 bytes for each that is not 0


def counts(array: Labels) -> npt.NDArray[np.int64]:
    """Count the voxels of each value; ``(256,)`` of an array of any shape."""
    totals = np.zeros(256, dtype=np.int64)
    for block in _blocks(array.ravel(order="K")):
        totals += _count(block)
    return totals


def joint_counts(first: Labels, second: Labels) -> npt.NDArray[np.int64]:
    """Count the voxels of each pair of values of two label maps; ``(256, 256)``.

    Parameters
    ----------
    first, second
        uint8 of one shape; ``[i, j]`` counts voxels that are ``i`` in the first and ``j`` in
        the second. Twice as fast where no value is above 15.
    """
    order = memory_order(first)
    flat = first.ravel(order), second.ravel(order)
    narrow = max(int(one.max(initial=0)) for one in flat) < 16
    bits, kind = (4, np.uint8) if narrow else (8, np.uint16)
    values = 1 << bits
    totals = np.zeros(values * values, dtype=np.int64)
    for a, b in zip(_blocks(flat[0]), _blocks(flat[1]), strict=True):
        shifted = np.left_shift(b.astype(kind, copy=False), bits, dtype=kind)
        totals += _count(a | shifted)
    both = np.zeros((256, 256), dtype=np.int64)
    both[:values, :values] = totals.reshape(values, values).T
    return both


def in_file_order(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a ``(X, Y, Z)`` array with its first axis closest in memory, as files have it.

    Plane by plane, which the processor's cache holds: two to six times as fast as NumPy does
    the whole. An array that lies so already is returned as it is.
    """
    if array.ndim != 3 or array.flags.f_contiguous:
        return np.asfortranarray(array)
    out = np.empty(array.shape, array.dtype, order="F")
    for row in range(array.shape[1]):
        out[:, row] = array[:, row]
    return out


def organ_mask(array: Labels, organ_id: int) -> npt.NDArray[np.bool_]:
    """Return where a structure in use is in a label map, what lies within it too."""
    if parts_of(organ_id)[1:]:
        return renamed(array, mask_table(organ_id)).view(np.bool_)
    mask: npt.NDArray[np.bool_] = array == organ_id
    return mask


def renamed(array: Labels, table: Labels) -> Labels:
    """Return ``table[array]`` in the array's own memory order; `table`: ``(256,)`` uint8.

    Much faster than indexing, which makes a 64-bit index of every voxel.
    """
    order = memory_order(array)
    flat = bytearray(array.ravel(order).data).translate(table.tobytes())
    return np.frombuffer(flat, dtype=np.uint8).reshape(array.shape, order=order)


def mask_table(organ_id: int) -> Labels:
    """Return a table for :func:`renamed` by which a structure's mask is 1, ``(256,)`` uint8.

    What the structure set has within it belongs to it.
    """
    table = np.zeros(256, dtype=np.uint8)
    table[list(parts_of(organ_id))] = 1
    return table


def only(array: Labels, ids: Iterable[int]) -> Labels:
    """Return a copy of a label map with these organ ids; other voxels are 0."""
    table = np.zeros(256, dtype=np.uint8)
    for number in ids:
        table[number] = number
    return renamed(array, table)


def table_of(values: Mapping[int, int]) -> Labels:
    """Return a table for :func:`renamed` that gives structures other values, ``(256,)`` uint8.

    Parameters
    ----------
    values
        By id; what is not named is 0, or the value of the structure that it lies within.
    """
    table = np.zeros(256, dtype=np.uint8)
    for number, value in values.items():
        for part in parts_of(number):
            if part == number or (part not in values and not table[part]):
                table[part] = value
    return table


def fill(top: Labels, below: Labels) -> npt.NDArray[np.int64]:
    """Give `top`, in place, the voxels of `below` where it has none.

    Parameters
    ----------
    top
        uint8, organ ids, contiguous.
    below
        The same, of the same shape.

    Returns
    -------
    ndarray
        ``(256, 256)``: voxels that have a value in both, by value in `top` and in `below`.
    """
    if not (top.flags.c_contiguous or top.flags.f_contiguous):
        raise ValueError("top must be contiguous")
    both = joint_counts(top, below)
    both[0], both[:, 0] = 0, 0
    np.copyto(top, below, where=top == 0)
    return both


def memory_order(array: npt.NDArray[Any]) -> Literal["C", "F"]:
    """Return ``"F"`` where the first axis is the fastest, as in NIfTI files, else ``"C"``."""
    return "F" if array.flags.f_contiguous else "C"


def _blocks(flat: Labels) -> Iterator[Labels]:
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK]


def _count(block: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Count each value of a block; ``(256,)`` of bytes, ``(65536,)`` of two."""
    a_word, values = 8 // block.itemsize, 1 << 8 * block.itemsize
    whole = block.size - block.size % a_word
    words = block[:whole].view(np.uint64)
    nonzero = words[words != 0].view(block.dtype)
    totals = np.bincount(nonzero, minlength=values)
    totals += np.bincount(block[whole:], minlength=values)
    totals[0] += whole - nonzero.size
    return totals
