"""Uploaded files: kept in a folder of their own while a request lasts, looked at before use."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from atlas8k.errors import VolumeError
from atlas8k.server.errors import TooLargeError
from atlas8k.server.studies.names import IMAGE_SUFFIXES, require_suffix
from atlas8k.server.web.limits import MIB
from atlas8k.volume import (
    READ_DAMAGE,
    is_packed,
    load_header,
    open_bytes,
)

logger = logging.getLogger(__name__)

MAX_VOXELS = 1 << 29
"""Of an upload: 536,870,912, a CT of 512 x 512 x 2048. Reading it takes 2 GiB."""
BLOCK = 1 << 20


@contextlib.contextmanager
def received(
    kind: str,
    filename: str | None,
    stream: BinaryIO,
    *,
    upload_mb: float,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
) -> Iterator[Path]:
    """An uploaded file on disk for the block, under a name of ours.

    Parameters
    ----------
    kind
        What it is, for messages.
    filename
        As the client names it; only its suffix is used.
    upload_mb
        Bound of the size, as sent and unpacked.

    Raises
    ------
    BadNameError
        Its suffix is not one of `suffixes`.
    TooLargeError, VolumeError
        As :func:`check_claims`.
    """
    suffix = require_suffix(kind, Path(filename or "").name, suffixes)[1]
    with tempfile.TemporaryDirectory(prefix="atlas8k-") as folder:
        path = Path(folder) / f"upload{suffix}"
        with open(path, "wb") as out:
            while block := stream.read(BLOCK):
                out.write(block)
        try:
            check_claims(path, upload_mb)
        except VolumeError as err:
            raise type(err)(f"the {kind}", err.reason) from err
        yield path


def check_claims(path: Path, upload_mb: float) -> None:
    """Raise where an image's header claims more voxels than may come, or than have come.

    Reads the header, then unpacks block by block up to the bound: memory does not grow
    with what a header claims or with what a small file unpacks to. A file that is no
    image at all passes, whoever reads it has a better reason to give.

    Parameters
    ----------
    upload_mb
        Bound of the unpacked size in MiB.

    Raises
    ------
    TooLargeError
        More than :data:`MAX_VOXELS` or than `upload_mb`.
    VolumeError
        The file ends before the voxels that its header claims, or its packing is damaged.
    """
    try:
        image, _ = load_header(path)
        shape = image.shape
        claimed = int(image.dataobj.offset) + int(
            np.prod([int(n) for n in shape], dtype=object) * image.get_data_dtype().itemsize
        )
    except Exception as err:  # nibabel raises what its many parsers raise
        logger.debug("%s is left to the reader: %s", path.name, err)
        return
    if int(np.prod([int(n) for n in shape], dtype=object)) > MAX_VOXELS:
        raise TooLargeError(f"the header claims {shape} voxels; at most {MAX_VOXELS} may come")
    limit = int(upload_mb * MIB)
    if claimed > limit:
        raise TooLargeError(
            f"the header claims {claimed / MIB:.0f} MiB of voxels; "
            f"at most {upload_mb:g} MiB may come (--conf upload_mb)"
        )
    found = unpacked_bytes(path, limit)
    if found > limit:
        raise TooLargeError(f"the file unpacks to more than {upload_mb:g} MiB (--conf upload_mb)")
    if found < claimed:
        raise VolumeError(
            path, f"it is damaged: the header claims {claimed} bytes, there are {found}"
        )


def unpacked_bytes(path: Path, limit: int) -> int:
    """Size of a file, unpacked where it is packed; counting ends soon after `limit`.

    Raises
    ------
    VolumeError
        The packing is damaged.
    """
    if not is_packed(path):
        return path.stat().st_size
    count = 0
    try:
        with open_bytes(path) as stream:
            while count <= limit and (block := stream.read(BLOCK)):
                count += len(block)
    except READ_DAMAGE as err:
        raise VolumeError(path, f"its packing is damaged ({err})") from err
    return count
