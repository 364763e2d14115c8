"""Bound what a deflated DICOM file unpacks to: the library unpacks all of it to read a header."""

from __future__ import annotations

import zlib
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from atlas8k.core.errors import UnreadableVolumeError

MAX_INFLATED = 1 << 28
"""Bytes: a segmentation of 8,192 frames of 512 x 512. Images are not sent deflated."""
_BLOCK = 1 << 20
_GROUP = 12
"""Bytes of the element that says how long the group of file information is."""


def check_inflated(path: Path) -> None:
    """Raise where a file is deflated and unpacks to more than is read.

    Raises
    ------
    UnreadableVolumeError
        It unpacks to more than :data:`MAX_INFLATED`.
    Exception
        Any that pydicom's parser raises.
    """
    information = read_file_meta_info(path)
    if information.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    start = 132 + _GROUP + int(information.FileMetaInformationGroupLength)
    unpacked, found = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with open(path, "rb") as stream:
        stream.seek(start)
        while not unpacked.eof and (block := stream.read(_BLOCK)):
            while block:
                found += len(unpacked.decompress(block, _BLOCK))
                if found > MAX_INFLATED:
                    raise UnreadableVolumeError(
                        path, f"it is deflated and unpacks to more than {MAX_INFLATED:,} bytes"
                    )
                block = unpacked.unconsumed_tail
