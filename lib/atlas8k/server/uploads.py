"""Uploaded files: held in a folder of their own while a request lasts, checked before use."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import UploadFile
from monailabel.interfaces.utils.app import app_instance

from atlas8k.core.errors import VolumeError
from atlas8k.core.nifti_file import READ_DAMAGE, is_packed, load_header, open_bytes
from atlas8k.formats.nrrd import claimed_bytes, starts_as_nrrd
from atlas8k.server.limits import MIB, NO_TEXT, is_text
from atlas8k.services.errors import RequestError, TooLargeError
from atlas8k.services.studies.names import IMAGE_SUFFIXES, LABEL_SUFFIXES, require_suffix

logger = logging.getLogger(__name__)

MAX_VOXELS = 1 << 29
"""Of an upload: 536,870,912, a CT of 512 x 512 x 2048. Reading it takes 2 GiB."""
BLOCK = 1 << 20
LABEL_UPLOADS = (*LABEL_SUFFIXES, ".dcm")


@contextlib.contextmanager
def received(
    kind: str,
    file: UploadFile,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    *,
    upload_mb: float | None = None,
) -> Iterator[Path]:
    """Hold an uploaded file on disk for the block, under a name of ours.

    Parameters
    ----------
    kind
        What it is, for messages.
    file
        As it came; of its name, only the suffix is used.
    upload_mb
        Bound of the size, as sent and unpacked; that of the server where ``None``.

    Raises
    ------
    BadNameError
        Its suffix is not one of `suffixes`.
    TooLargeError, VolumeError
        As :func:`check_claims`.
    """
    suffix = require_suffix(kind, Path(file.filename or "").name, suffixes)[1]
    with tempfile.TemporaryDirectory(prefix="atlas8k-") as folder:
        path = Path(folder) / f"upload{suffix}"
        with open(path, "wb") as out:
            shutil.copyfileobj(file.file, out, BLOCK)
        try:
            check_claims(path, upload_mb or app_instance().settings.upload_mb)
        except VolumeError as err:
            raise type(err)(f"the {kind}", err.reason) from err
        yield path


@contextlib.contextmanager
def received_label(image: str, file: UploadFile) -> Iterator[Path]:
    """Hold an uploaded label as :func:`received`; OHIF and archives save DICOM SEG without suffix.

    What is found wrong with it in the block is reported of the image's label, not of a file of
    ours.
    """
    if "." not in Path(file.filename or "").name:
        file.file.seek(128)
        if file.file.read(4) == b"DICM":
            file.filename = f"{file.filename}.dcm"
        file.file.seek(0)
    with received("label file", file, LABEL_UPLOADS) as path, named_after(image):
        yield path


@contextlib.contextmanager
def named_after(image: str) -> Iterator[None]:
    """Report what is found wrong in the block of the image's label."""
    try:
        yield
    except VolumeError as err:
        raise type(err)(f"label of {image}", err.reason) from err


def check_claims(path: Path, upload_mb: float) -> None:
    """Raise where an image's header claims more voxels than may come, or than have come.

    Reads the header, then unpacks a NIfTI file block by block up to the bound: memory does not
    grow with what a header claims or with what a small file unpacks to. A file that is no image at
    all passes, whoever reads it has a better reason to give; so does DICOM, whose frames are
    unpacked one by one.

    Parameters
    ----------
    upload_mb
        Bound of the unpacked size in MiB.

    Raises
    ------
    TooLargeError
        More than :data:`MAX_VOXELS` or than `upload_mb`.
    VolumeError
        The file ends before the voxels that its header claims, its packing is damaged, or what
        lies between header and voxels is too much.
    """
    limit = int(upload_mb * MIB)
    if starts_as_nrrd(path):
        _check_claimed(claimed_bytes(path), upload_mb)
        return
    try:
        image, _ = load_header(path)
        voxels = math.prod(map(int, image.shape))
        claimed = int(image.dataobj.offset) + voxels * image.get_data_dtype().itemsize
    except VolumeError:
        raise
    except Exception as err:  # nibabel raises what its many parsers raise
        logger.debug("%s is left to the reader: %s", path.name, err)
        return
    if voxels > MAX_VOXELS:
        raise TooLargeError(
            f"the header claims {image.shape} voxels; at most {MAX_VOXELS} may come"
        )
    _check_claimed(claimed, upload_mb)
    found = 0
    if is_packed(path):
        try:
            with open_bytes(path) as stream:
                while found <= limit and (block := stream.read(BLOCK)):
                    found += len(block)
        except READ_DAMAGE as err:
            raise VolumeError(path, f"its packing is damaged ({err})") from err
    else:
        found = path.stat().st_size
    if found > limit:
        raise TooLargeError(f"the file unpacks to more than {upload_mb:g} MiB (--conf upload_mb)")
    if found < claimed:
        raise VolumeError(
            path, f"it is damaged: the header claims {claimed} bytes, there are {found}"
        )


def _check_claimed(claimed: int, upload_mb: float) -> None:
    if claimed > upload_mb * MIB:
        raise TooLargeError(
            f"the header claims {claimed / MIB:.0f} MiB of voxels; "
            f"at most {upload_mb:g} MiB may come (--conf upload_mb)"
        )


def parse_object(field: str, text: str) -> dict[str, Any]:
    """Return the JSON object in a form field, ``{}`` where it is empty.

    Raises
    ------
    RequestError
        Not JSON, not an object, or with a text that is no Unicode.
    """
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as err:
        raise RequestError(f"{field}: not JSON ({err})") from err
    if not isinstance(value, dict):
        raise RequestError(f"{field}: a JSON object is needed, not {type(value).__name__}")
    if not is_text(value):
        raise RequestError(f"{field}: {NO_TEXT}")
    return value
