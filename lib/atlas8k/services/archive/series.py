"""A DICOM series of the archive, judged by its headers and read as a CT volume."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from atlas8k.core.errors import VolumeError
from atlas8k.core.volume import Volume
from atlas8k.formats.dicom import inspect, read_volume


class NotAVolumeError(VolumeError):
    """The archive has the series, but it is no CT volume; the reason says why."""


@dataclass(frozen=True)
class Verdict:
    """What a series is.

    Attributes
    ----------
    reason
        Why it is no CT volume; empty where it is one. It names no patient, and not the
        series' description, which may.
    fingerprint
        Changes with its instances.
    """

    reason: str
    fingerprint: str = ""


def verdict(headers: Iterable[Dataset]) -> Verdict:
    """Judge a series by the headers of all its instances."""
    found = inspect(headers)
    if len(found) != 1:
        return Verdict(f"the archive gives instances of {len(found)} series for it")
    one = found[0]
    if one.refusal is not None:
        return Verdict(one.refusal.message.removeprefix(one.name).strip())
    uids = " ".join(instance.uid for instance in one.instances)
    return Verdict("", hashlib.sha256(uids.encode()).hexdigest()[:16])


def check_whole(instance: Dataset) -> None:
    """Raise :class:`EOFError` where an instance was cut off on its way.

    The client takes what has come when a connection ends for a whole answer, and pydicom
    reads as far as there is something to read.
    """
    pixels = instance.get("PixelData")
    if not pixels or "SOPInstanceUID" not in instance:
        raise EOFError("an instance ends before its pixels")
    if instance.file_meta.TransferSyntaxUID.is_compressed:
        return
    bits = instance.Rows * instance.Columns * instance.BitsAllocated
    if len(pixels) * 8 < bits * int(instance.get("NumberOfFrames", 1) or 1):
        raise EOFError("an instance ends in its pixels")


def read(uid: str, folder: Path) -> Volume:
    """Read the instances in `folder` as one CT: HU, int16, axes (columns, rows, slices).

    Raises
    ------
    VolumeError
        They cannot be decoded, or are no CT volume. The error names the series by its UID.
    """
    try:
        volume = read_volume(folder, uid)
    except VolumeError as err:
        # Its own name is that of a folder that nobody has seen.
        raise type(err)(f"series {uid}", err.reason.replace(str(folder), "it")) from err
    array = np.clip(np.rint(volume.array), -32768, 32767).astype(np.int16)
    return Volume(array, volume.grid)
