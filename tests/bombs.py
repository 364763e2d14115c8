"""Small files that cost gigabytes where what they claim is believed."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from tests.formats.seg_kit import save_seg

from atlas8k.core.grid import Grid
from atlas8k.core.volume import write_nifti

_BLOCK = 1 << 24


def packed_zeros(count: int) -> bytes:
    """So many zeros as gzip, some members of 16 MiB: a thousandth of the size, at once."""
    whole, rest = divmod(count, _BLOCK)
    return gzip.compress(bytes(_BLOCK), 9) * whole + gzip.compress(bytes(rest), 9)


def nifti_header(
    shape: Sequence[int], *, mm: float = 1.0, code: int = 4, bits: int = 16, offset: float = 352
) -> bytes:
    """NIfTI-1, in one file with its voxels."""
    raw = bytearray(352)
    struct.pack_into("<i", raw, 0, 348)
    struct.pack_into("<8h", raw, 40, len(shape), *shape, *([1] * (7 - len(shape))))
    struct.pack_into("<hh", raw, 70, code, bits)
    struct.pack_into("<8f", raw, 76, 1.0, mm, mm, mm, *([1.0] * 4))
    struct.pack_into("<f", raw, 108, offset)
    struct.pack_into("<f", raw, 112, 1.0)
    raw[123] = 2
    struct.pack_into("<h", raw, 254, 1)
    for row, at in enumerate((280, 296, 312)):
        struct.pack_into("<4f", raw, at, *(mm * (column == row) for column in range(4)))
    raw[344:348] = b"n+1\0"
    return bytes(raw)


def nifti2_header(shape: Sequence[int]) -> bytes:
    """NIfTI-2: sizes are 64-bit numbers there."""
    raw = bytearray(544)
    struct.pack_into("<i", raw, 0, 540)
    raw[4:12] = b"n+2\0\r\n\x1a\n"
    struct.pack_into("<hh", raw, 12, 4, 16)
    struct.pack_into("<8q", raw, 16, len(shape), *shape, *([1] * (7 - len(shape))))
    struct.pack_into("<8d", raw, 104, *([1.0] * 8))
    struct.pack_into("<q", raw, 168, 544)
    struct.pack_into("<d", raw, 176, 1.0)
    struct.pack_into("<i", raw, 348, 1)
    for row, at in enumerate((400, 432, 464)):
        struct.pack_into("<4d", raw, at, *(float(column == row) for column in range(4)))
    return bytes(raw)


def extended(path: Path, size: int, *, honest: bool) -> Path:
    """A header extension of so many zeros; `honest`: the voxels begin behind it."""
    size -= size % 16
    offset = 352 + size if honest else 352 + 16
    start = bytearray(nifti_header((20, 18, 16), mm=12, offset=offset))
    start[348] = 1
    start += struct.pack("<ii", size, 6)
    path.write_bytes(gzip.compress(bytes(start)) + packed_zeros(size - 8 + 2 * 20 * 18 * 16))
    return path


def two_files(path: Path, size: int) -> Path:
    """A header that says that voxels are in another file: extensions go on to the end."""
    start = bytearray(nifti_header((20, 18, 16), mm=12))
    start[344:348], start[348] = b"ni1\0", 1
    start += struct.pack("<ii", size - size % 16, 6)
    path.write_bytes(gzip.compress(bytes(start)) + packed_zeros(size))
    return path


def longer(path: Path, size: int) -> Path:
    """A header of a small CT, and a stream that goes on."""
    path.write_bytes(gzip.compress(nifti_header((20, 18, 16), mm=12)) + packed_zeros(size))
    return path


def coarse_ct(path: Path, mm: float, n: int = 48) -> Path:
    """Noise in a cube of voxels of so many mm."""
    noise = np.random.default_rng(1).normal(40, 20, (n, n, n)).astype(np.int16)
    return write_nifti(path, noise, Grid((n, n, n), np.diag([mm, mm, mm, 1.0])))


def layered_nrrd(path: Path, n: int, *, layers: int = 64, kind: str = "double") -> Path:
    """3D Slicer's segmentation: so many layers of zeros, a segment each."""
    fields = [
        "NRRD0004",
        f"type: {kind}",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {layers} {n} {n} {n}",
        "space directions: none (1,0,0) (0,1,0) (0,0,1)",
        "kinds: list domain domain domain",
        "endian: little",
        "encoding: gzip",
        "space origin: (0,0,0)",
    ]
    for layer in range(layers):
        fields += [
            f"Segment{layer}_Name:=part {layer}",
            f"Segment{layer}_LabelValue:=1",
            f"Segment{layer}_Layer:={layer}",
        ]
    head = "\n".join([*fields, "", ""]).encode()
    path.write_bytes(head + packed_zeros(layers * n**3 * {"double": 8, "uint8": 1}[kind]))
    return path


def thin_seg(path: Path, n: int, *, extent_mm: float = 1000.0, step_mm: float = 0.1) -> Path:
    """A DICOM SEG of a few frames whose places say so many slices."""
    last = round(extent_mm / step_mm)
    grid = Grid((n, n, last + 1), np.diag([-1.0, -1.0, step_mm, 1.0]))
    drawn = np.zeros((n, n), np.uint8)
    drawn[:8, :8] = 1
    return save_seg(path, grid, [(1, z, drawn) for z in (0, 1, last)], {1: "liver"})


def deflated_seg(path: Path, size: int) -> Path:
    """A DICOM SEG, deflated, with so many zeros of a private element."""
    grid = Grid((16, 16, 3), np.eye(4))
    drawn = np.ones((16, 16), np.uint8)
    save_seg(path, grid, [(1, z, drawn) for z in range(3)], {1: "liver"})
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path)
    start = 132 + 12 + data.file_meta.FileMetaInformationGroupLength
    inner = zlib.decompress(path.read_bytes()[start:], -zlib.MAX_WBITS)
    more = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, size)
    # The private element comes before all others of the object, which follow group 8.
    cut = inner.index(struct.pack("<HH", 0x0028, 0x0002))
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    out = [packer.compress(inner[:cut] + more)]
    out += [packer.compress(bytes(_BLOCK)) for _ in range(size // _BLOCK)]
    out += [packer.compress(bytes(size % _BLOCK) + inner[cut:]), packer.flush()]
    path.write_bytes(path.read_bytes()[:start] + b"".join(out))
    return path


def packed_frame_seg(path: Path, size: int) -> Path:
    """A DICOM SEG of RLE frames, one of which unpacks to so much more than a frame."""
    grid = Grid((16, 16, 3), np.eye(4))
    drawn = np.ones((16, 16), np.uint8)

    def change(data: FileDataset) -> None:
        data.file_meta.TransferSyntaxUID = RLELossless
        one = struct.pack("<16I", 1, 64, *([0] * 14))
        good = one + b"\x81\x01\x81\x01"  # twice 128 ones
        bad = one + b"\x81\x01" * (size // 128)
        data.PixelData = encapsulate([good, bad, good])
        data["PixelData"].is_undefined_length = True
        data["PixelData"].VR = "OB"

    frames = [(1, z, drawn) for z in range(3)]
    return save_seg(path, grid, frames, {1: "liver"}, kind="FRACTIONAL", full=1, change=change)
