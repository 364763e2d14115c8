"""Pack byte maps, codes and heat, small and fast into one string of bytes.

Every map is cut to the box of what is not 0 and deflated on its own, so that threads share
the work and a reader may take only some.

Layout: 4 bytes ``AT81``, the header's length as a little-endian uint32, the header as
JSON, then the deflated boxes one after the other.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from atlas8k.attention.probabilities import Quantised
from atlas8k.attention.regions import bounding_box
from atlas8k.core.errors import AttentionError
from atlas8k.core.grid import Grid
from atlas8k.core.memory import sparse_zeros

deflate: Any = isal_zlib
"""Deflate, several times faster than zlib; the format is the same."""

MAGIC = b"AT81"
LEVEL = 1
THREADS = 2

Bytes = npt.NDArray[np.uint8]


def pack(maps: Bytes | Sequence[Bytes], meta: Mapping[str, Any] | None = None) -> bytes:
    """Pack byte maps.

    Parameters
    ----------
    maps
        ``(..., X, Y, Z)`` uint8; or several ``(n, X, Y, Z)``, packed as one behind the other
        without being copied.
    meta
        Anything JSON can hold; :func:`unpack` returns it.
    """
    if isinstance(maps, np.ndarray):
        shape, flat = maps.shape, list(maps.reshape(-1, *maps.shape[-3:]))
    else:
        flat = [image for some in maps for image in some]
        shape = (len(flat), *flat[0].shape)

    def pack_map(image: Bytes) -> tuple[list[list[int]], bytes]:
        box = bounding_box(image)
        if box is None:
            return [[0, 0]] * 3, b""
        return [[s.start, s.stop] for s in box], deflate.compress(image[box].tobytes(), LEVEL)

    with ThreadPoolExecutor(THREADS) as pool:
        packed = list(pool.map(pack_map, flat))
    header = json.dumps(
        {
            "shape": list(shape),
            "boxes": [box for box, _ in packed],
            "sizes": [len(data) for _, data in packed],
            "meta": dict(meta or {}),
        }
    ).encode()
    return b"".join([MAGIC, struct.pack("<I", len(header)), header, *(data for _, data in packed)])


def unpack(data: bytes, name: str = "packed maps") -> tuple[Bytes, dict[str, Any]]:
    """Return maps ``(..., X, Y, Z)`` uint8 and meta as they were packed.

    Raises
    ------
    AttentionError
        The bytes are not packed maps, or cut short; names the volume.
    """
    view = memoryview(data)
    try:
        if bytes(view[:4]) != MAGIC:
            raise ValueError("another file type")
        (length,) = struct.unpack("<I", view[4:8])
        header = json.loads(bytes(view[8 : 8 + length]))
        shape = tuple(header["shape"])
        maps = sparse_zeros(shape, np.uint8)
        flat = maps.reshape(-1, *shape[-3:])
        ends = 8 + length + np.cumsum([0, *header["sizes"]])

        def unpack_map(index: int) -> None:
            begin, end = ends[index], ends[index + 1]
            if begin == end:
                return
            box = tuple(slice(a, b) for a, b in header["boxes"][index])
            target = flat[index][box]
            raw = deflate.decompress(view[begin:end], bufsize=max(1, target.size))
            target[...] = np.frombuffer(raw, dtype=np.uint8).reshape(target.shape)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(unpack_map, range(len(flat))))
    except (ValueError, KeyError, TypeError, struct.error, deflate.error) as err:
        raise AttentionError(name, f"not readable as packed maps ({err}); make it anew") from err
    return maps, header["meta"]


def pack_codes(codes: Quantised, grid: Grid) -> bytes:
    """Pack one volume's byte-quantised probabilities with their grid."""
    meta = {"floor": codes.floor, "lost": codes.lost.tolist(), "affine": grid.affine.tolist()}
    return pack(codes.codes, meta)


def unpack_codes(data: bytes, name: str = "packed codes") -> tuple[Quantised, Grid]:
    """Return the codes and their grid that :func:`pack_codes` packed.

    Raises
    ------
    AttentionError
        The bytes are no packed codes; names the volume.
    """
    codes, meta = unpack(data, name)
    try:
        lost, affine = np.array(meta["lost"], dtype=np.float64), np.array(meta["affine"])
        x, y, z = codes.shape[2:]
        return Quantised(codes, lost, float(meta["floor"])), Grid((x, y, z), affine)
    except (KeyError, TypeError, ValueError) as err:
        raise AttentionError(name, f"these are packed maps, but no probabilities ({err})") from err
