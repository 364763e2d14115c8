"""Copy a NIfTI file with one geometry that every program reads alike.

Voxels, their type and their scaling are copied as they are; sform and qform become the same
affine with code 1, units mm. The same file and affine always make the same bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import nibabel as nib
from isal import igzip

from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.files import publishing
from atlas8k.core.grid import Grid
from atlas8k.core.nifti_file import READ_DAMAGE, load_header, open_bytes
from atlas8k.core.volume import GZIP_LEVEL

_BLOCK = 1 << 20
_NO_EXTENSION = bytes(4)
TEXTS = ("data_type", "db_name", "descrip", "aux_file", "intent_name")
"""Fields of a header that programs write what they like in."""
_NAMED = 0x04 | 0x08 | 0x10
"""Flags of a gzip header with an extra field, a file's name, a comment (RFC 1952)."""


def rewrite(source: Path, target: Path, grid: Grid, *, bare: bool = False) -> Path:
    """Write `source` to `target` with `grid` as its only geometry; complete or not at all.

    Parameters
    ----------
    source
        A NIfTI file, header and voxels in one, packed or not whatever its name.
    target
        ``.nii.gz`` is packed, ``.nii`` is not.
    grid
        Orthogonal axes; one that is sheared has a ``served`` grid.
    bare
        Leave out all text and extensions, in which scanners' and people's words may stand.

    Raises
    ------
    UnreadableVolumeError
        `source` is no such file, or is damaged.
    OSError
        The disk is full.
    """
    try:
        _, header = load_header(source)
    except Exception as err:  # nibabel raises what its many parsers raise
        raise UnreadableVolumeError(source, f"not a readable NIfTI image ({err})") from err
    if header is None or "srow_x" not in header or int(header["vox_offset"]) < header.sizeof_hdr:
        raise UnreadableVolumeError(source, "header and voxels must be in one NIfTI file")
    start = header.sizeof_hdr
    if bare:
        start = int(header["vox_offset"])
        for name in set(header.keys()) & set(TEXTS):
            header[name] = b""
        header["vox_offset"] = header.sizeof_hdr + 4
    header = _as_nifti1(header)
    header["pixdim"][1:4] = grid.spacing
    header.set_qform(grid.affine, code=1)
    header.set_sform(grid.affine, code=1)
    header["xyzt_units"] = (int(header["xyzt_units"]) & ~7) | 2  # mm; the time's unit stays
    with publishing(target) as temporary, open(temporary, "wb") as stream:
        if target.name.endswith(".gz"):
            # Neither name nor time goes into the file: the same input makes the same bytes.
            with igzip.IGzipFile("", "wb", GZIP_LEVEL, stream, mtime=0) as packed:
                _copy(source, start, header, cast(Any, packed), bare)
        else:
            _copy(source, start, header, stream, bare)
    return target


def _as_nifti1(header: Any) -> Any:
    """Return a NIfTI-2 header, which ITK does not read, as one of NIfTI-1."""
    if isinstance(header, nib.Nifti2Header) and int(max(header["dim"])) < 1 << 15:
        old, header = header, nib.Nifti1Header(endianness=header.endianness)
        for name in set(old) & set(header) - {"sizeof_hdr", "magic", "vox_offset"}:
            header[name] = old[name]
        header["magic"] = header.single_magic
        # Extensions lie between header and voxels.
        header["vox_offset"] = int(old["vox_offset"]) - old.sizeof_hdr + header.sizeof_hdr
    return header


def is_bare(path: Path) -> bool:
    """Return whether a NIfTI file says nothing but where and what its voxels are.

    No text in its header, no extension, no name in the header of gzip.
    """
    with open(path, "rb") as stream:
        packing = stream.read(4)
    if packing[:2] == b"\x1f\x8b" and packing[3] & _NAMED:
        return False
    header = load_header(path)[1]
    if header is None or "descrip" not in header:
        return False
    plain = int(header["vox_offset"]) == header.sizeof_hdr + 4
    texts = set(header.keys()) & set(TEXTS)
    return plain and not any(bytes(header[name]).strip(b"\0 ") for name in texts)


def _copy(source: Path, start: int, header: Any, out: Any, bare: bool) -> None:
    out.write(header.binaryblock)
    if bare:
        out.write(_NO_EXTENSION)
    try:
        with open_bytes(source) as stream:
            stream.read(start)
            shutil.copyfileobj(stream, out, _BLOCK)
    except READ_DAMAGE as err:
        if isinstance(err, OSError) and err.errno is not None:
            raise  # of the disk, not of the file
        raise UnreadableVolumeError(source, f"the voxel data is damaged ({err})") from err
