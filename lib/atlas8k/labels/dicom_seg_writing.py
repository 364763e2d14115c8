"""A label map as a DICOM SEG object of its CT series, written by dcmqi's converter.

Segments go by organ, never by position: each carries its own name, SNOMED CT code and
recommended colour, organs without voxels are left out, and those left are numbered from 1.
An attention map becomes an object of its own, whose names and codes mean no organ.

Sources: DICOM PS3.3 C.8.20, PS3.16 CID 7150; dcmqi's schema of ``seg-meta.json``.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from atlas8k.dicom import inspect
from atlas8k.errors import (
    EmptyVolumeError,
    GridMismatchError,
    LabelValueError,
    UnreadableVolumeError,
)
from atlas8k.grid import Grid
from atlas8k.labels.nrrd_file import write_nrrd
from atlas8k.labels.placing import find_placement, put
from atlas8k.organs import N_ORGANS, ORGANS, Organ
from atlas8k.volume import publish

logger = logging.getLogger(__name__)

Kind = Literal["organs", "attention"]
Made = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]

ATTENTION_SCHEME = "99ATLAS8K"
"""Coding scheme of our own (PS3.16 8.2: private ones begin with 99); no organ is coded in it."""
ATTENTION_COLOR = (255, 0, 80)

_ANATOMY = ("123037004", "SCT", "Anatomical Structure")
_RELATION = ("309825002", "SCT", "Spatial and Relational Concept")
_TIMEOUT_S = 120
_LONGEST = 64  # characters of a long string (PS3.5, VR LO)


@dataclass(frozen=True)
class WrittenSeg:
    """What was written.

    Attributes
    ----------
    organs
        Names of the organs with a segment, in the order of their segment numbers.
    series_uid, instance_uid
        Of the new object; its study is the CT's.
    """

    path: Path
    organs: tuple[str, ...]
    series_uid: str
    instance_uid: str


def write_segmentation(
    array: npt.NDArray[np.uint8],
    grid: Grid,
    series: Sequence[str | os.PathLike[str] | pydicom.Dataset],
    path: str | Path,
    *,
    description: str,
    kind: Kind = "organs",
    made: Made = "SEMIAUTOMATIC",
    algorithm: str = "atlas8k",
    creator: str = "atlas8k",
    series_number: int = 300,
) -> WrittenSeg:
    """Write a label map as a DICOM SEG object; complete or not at all.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids 0 to 9 on `grid`; of an attention map the id of the
        organ in doubt.
    grid
        Where the voxels are, any axes: they are turned to the series' own, never resampled.
    series
        The CT series: its files, or their headers. All instances, in any order.
    path
        File to write.
    description
        Series description of the new object, at most 64 characters; name no patient in it.
    kind
        ``"organs"``, or ``"attention"`` for an object that can be taken for no organs.
    made, algorithm
        How the segments came about, and by what; `algorithm` is not written of manual ones.
    creator
        Content creator, a program's name and not a person's.

    Raises
    ------
    GridMismatchError
        The label is not on the series, voxel for voxel and as a whole; or the instances are
        not those of one series.
    VolumeError
        The series is no CT volume: tilted, a slice missing; see :func:`atlas8k.dicom.inspect`.
    LabelValueError
        Values that are no organ's.
    EmptyVolumeError
        No organ has a voxel: an object without a segment is not allowed in DICOM.
    UnreadableVolumeError
        A file of the series cannot be read, or the converter failed.
    ValueError
        A description that DICOM cannot hold.
    """
    path = Path(path)
    _check_text(description)
    headers = _headers(series)
    target = _grid(headers, path)
    present = _present(array, grid, path)
    turned = _on_series(array, grid, target, path)
    organs = [organ for organ in ORGANS if organ.id in present]
    meta = {
        "ContentCreatorName": creator,
        "SeriesDescription": description,
        "SeriesNumber": str(series_number),
        "InstanceNumber": "1",
        "segmentAttributes": [[_segment(organ, kind, made, algorithm) for organ in organs]],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".atlas8k-seg-", dir=path.parent) as name:
        folder = Path(name)
        _lay_out(series, folder / "series")
        write_nrrd(folder / "label.nrrd", turned, target)
        (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        made_file = folder / "seg.dcm"
        _run_dcmqi(
            *("--inputImageList", str(folder / "label.nrrd")),
            *("--inputDICOMDirectory", str(folder / "series")),
            *("--inputMetadata", str(folder / "meta.json"), "--outputDICOM", str(made_file)),
            path=path,
            makes=made_file,
        )
        data = pydicom.dcmread(made_file, stop_before_pixels=True)
        publish(made_file, path)
    return WrittenSeg(
        path,
        tuple(organ.name for organ in organs),
        str(data.SeriesInstanceUID),
        str(data.SOPInstanceUID),
    )


def _run_dcmqi(*arguments: str, path: Path, makes: Path) -> None:
    """Run dcmqi's converter to DICOM SEG; `makes` is there when it succeeded."""
    spec = importlib.util.find_spec("dcmqi")
    if spec is None or spec.origin is None:
        raise UnreadableVolumeError(path, "writing DICOM SEG needs the package dcmqi; install it")
    command = [str(Path(spec.origin).parent / "bin" / "itkimage2segimage"), *arguments]
    try:
        run = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as err:
        raise UnreadableVolumeError(path, f"not converted within {_TIMEOUT_S} s") from err
    if run.returncode != 0 or not makes.is_file():
        text = (run.stderr or run.stdout).decode(errors="replace").strip()
        logger.info("%s: dcmqi ended with %d: %s", path, run.returncode, text[-2000:])
        last = text.splitlines()[-1][:200] if text else f"status {run.returncode}"
        raise UnreadableVolumeError(path, f"the DICOM SEG object cannot be converted ({last})")


def _check_text(description: str) -> None:
    if not 1 <= len(description) <= _LONGEST or not description.isprintable():
        raise ValueError(f"description: 1 to {_LONGEST} printable characters are needed")
    if "\\" in description:
        raise ValueError("description: DICOM reads a backslash as the end of a value")


def _headers(
    series: Sequence[str | os.PathLike[str] | pydicom.Dataset],
) -> list[pydicom.Dataset]:
    found: list[pydicom.Dataset] = []
    for item in series:
        if isinstance(item, pydicom.Dataset):
            found.append(item)
            continue
        try:
            found.append(pydicom.dcmread(item, stop_before_pixels=True))
        except Exception as err:  # pydicom raises what its many parsers raise
            raise UnreadableVolumeError(
                os.fspath(item), f"not a readable DICOM object ({err})"
            ) from err
    return found


def _grid(headers: Sequence[pydicom.Dataset], path: Path) -> Grid:
    found = inspect(headers)
    if len(found) != 1 or len(found[0].instances) != len(headers):
        raise GridMismatchError(path, f"{len(headers)} instances are not those of one series")
    return found[0].grid


def _present(array: npt.NDArray[np.uint8], grid: Grid, path: Path) -> set[int]:
    if tuple(array.shape) != grid.shape:
        raise GridMismatchError(path, f"array {array.shape} does not fit grid {grid.shape}")
    if array.dtype != np.uint8:
        raise LabelValueError(path, f"organ ids come as uint8, not {array.dtype}")
    counts = np.bincount(array.ravel(order="K"), minlength=N_ORGANS + 1)
    if counts[N_ORGANS + 1 :].any():
        wrong = np.flatnonzero(counts[N_ORGANS + 1 :]) + N_ORGANS + 1
        raise LabelValueError(path, f"values {wrong[:5].tolist()} are no organ's (1 to {N_ORGANS})")
    present = {int(value) for value in np.flatnonzero(counts)} - {0}
    if not present:
        raise EmptyVolumeError(
            path, "no organ has a voxel, and DICOM SEG cannot say so; keep it in another form"
        )
    return present


def _on_series(
    array: npt.NDArray[np.uint8], grid: Grid, target: Grid, path: Path
) -> npt.NDArray[np.uint8]:
    placement = find_placement(grid, target, path)
    if tuple(grid.shape[axis] for axis in placement.axes) != target.shape:
        raise GridMismatchError(
            path, f"shape {grid.shape} is a part of the series alone, which has {target.shape}"
        )
    return put(array, placement, target)


def _segment(organ: Organ, kind: Kind, made: Made, algorithm: str) -> dict[str, Any]:
    if kind == "organs":
        label, text = organ.name, organ.snomed_meaning
        category, code = _ANATOMY, (organ.snomed_code, "SCT", organ.snomed_meaning)
        color = organ.color
    else:
        label, text = f"attention_{organ.name}", f"Region to look at for {organ.snomed_meaning}"
        category, color = _RELATION, ATTENTION_COLOR
        code = (f"ATTENTION{organ.id}", ATTENTION_SCHEME, f"Attention: {organ.snomed_meaning}")
    entry = {
        "labelID": organ.id,
        "SegmentLabel": label,
        "SegmentDescription": text,
        "SegmentAlgorithmType": made,
        "SegmentedPropertyCategoryCodeSequence": _code(*category),
        "SegmentedPropertyTypeCodeSequence": _code(*code),
        "recommendedDisplayRGBValue": list(color),
    }
    return entry if made == "MANUAL" else {**entry, "SegmentAlgorithmName": algorithm}


def _code(value: str, scheme: str, meaning: str) -> Mapping[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}


def _lay_out(series: Sequence[str | os.PathLike[str] | pydicom.Dataset], folder: Path) -> None:
    """A folder of the series alone: a list of names may be longer than a command line."""
    folder.mkdir()
    for number, item in enumerate(series):
        place = folder / f"{number:05d}.dcm"
        if isinstance(item, pydicom.Dataset):
            _save_header(item, place)
        else:
            place.symlink_to(Path(item).resolve())


def _save_header(header: pydicom.Dataset, path: Path) -> None:
    copy = pydicom.Dataset({tag: header[tag] for tag in header.keys() if tag.group > 2})  # noqa: SIM118
    copy.PixelData = b"\0\0"  # the converter passes over objects without, and reads none
    copy["PixelData"].VR = "OW"
    copy.is_little_endian, copy.is_implicit_VR = True, False
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    copy.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    copy.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    copy.save_as(path, write_like_original=False)
