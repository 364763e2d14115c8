"""Write a label map as a DICOM SEG object of its CT series.

Segments go by organ, never by position: each carries its own name, SNOMED CT code and
recommended colour, organs without voxels are left out, and those left are numbered from 1.
An attention map becomes an object of its own, whose names and codes mean no organ.

Sources: DICOM PS3.3 C.8.20, PS3.16 CID 7150.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pydicom
from highdicom import AlgorithmIdentificationSequence, PixelMeasuresSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.datadict import tag_for_keyword
from pydicom.uid import generate_uid
from skimage.color import rgb2lab

from atlas8k import __version__
from atlas8k.core.errors import EmptyVolumeError, GridMismatchError, LabelValueError
from atlas8k.core.files import publishing
from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import find_placement, put
from atlas8k.core.structure_sets import Organ
from atlas8k.core.structures import ORGANS, in_use, parts_of
from atlas8k.core.voxels import counts, mask_table, renamed
from atlas8k.formats.dicom import inspect

Kind = Literal["organs", "attention"]
Made = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]

ATTENTION_SCHEME = "99ATLAS8K"
"""Coding scheme of our own (PS3.16 8.2: private ones begin with 99); no organ is coded in it."""
ATTENTION_COLOR = (255, 0, 80)

_ANATOMY = ("123037004", "SCT", "Anatomical Structure")
_ALTERED = ("49755003", "SCT", "Morphologically Altered Structure")
_SIDES = {"left": ("7771000", "SCT", "Left"), "right": ("24028007", "SCT", "Right")}
_RELATION = ("309825002", "SCT", "Spatial and Relational Concept")
_NETWORKS = ("123110", "DCM", "Artificial Intelligence")
_NAME = "atlas8k"
_SERIES_NUMBER = 300
_LONGEST = 64  # characters of a long string (PS3.5, VR LO)
_NAMES = ("PatientName", "ReferringPhysicianName")
_MAY_LACK = (
    *("PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime"),
)
"""Elements that a CT's header ought to have (type 2), and does not always."""


def write_segmentation(
    array: npt.NDArray[np.uint8],
    grid: Grid,
    series: Sequence[pydicom.Dataset],
    path: str | Path,
    *,
    description: str,
    kind: Kind = "organs",
    made: Made = "SEMIAUTOMATIC",
) -> Path:
    """Write a label map as a DICOM SEG object; complete or not at all.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids 0 to 9 on `grid`; of an attention map the id of the
        organ in doubt.
    grid
        Where the voxels are, any axes: they are turned to the series' own, never resampled.
    series
        Headers of the CT series: all instances, in any order.
    path
        File to write.
    description
        Series description of the new object, at most 64 characters; name no patient in it.
    kind
        ``"organs"``, or ``"attention"`` for an object that can be taken for no organs.
    made
        Value of DICOM's SegmentAlgorithmType.

    Raises
    ------
    GridMismatchError
        The label is not on the series, voxel for voxel and as a whole; or the instances are
        not those of one series.
    VolumeError
        The series is no CT volume: tilted, a slice missing; see
        :func:`atlas8k.formats.dicom.inspect`.
    LabelValueError
        Values that are no organ's.
    EmptyVolumeError
        No organ has a voxel: an object without a segment is not allowed in DICOM.
    ValueError
        A description that DICOM cannot hold.
    """
    path = Path(path)
    _check_text(description)
    headers, target = _stacked(series, path)
    organs = _present(array, grid, path, kind)
    numbers = np.zeros(256, dtype=np.uint8)
    numbers[[organ.id for organ in organs]] = np.arange(1, len(organs) + 1)
    turned = _on_series(array, grid, target, path)
    outer = [organ for organ in organs if kind == "organs" and organ.id in in_use().parts]
    frames = renamed(turned, numbers).transpose(2, 1, 0)
    if outer:  # a segment each: a tumour's voxels are its organ's, too
        masks = [renamed(turned, mask_table(organ.id)) for organ in organs]
        frames = np.stack([mask.transpose(2, 1, 0) for mask in masks], axis=-1)
    across, down, step = target.spacing
    data = Segmentation(
        [_completed(header) for header in headers],
        frames,
        "BINARY",
        [_segment(number, organ, kind, made) for number, organ in enumerate(organs, start=1)],
        series_instance_uid=generate_uid(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=_NAME,
        manufacturer_model_name=_NAME,
        software_versions=__version__,
        device_serial_number="1",
        series_description=description,
        pixel_measures=PixelMeasuresSequence([down, across], step, step),
    )
    data.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    # Set last: highdicom quotes names that it finds odd in warnings.
    data.PatientName, data.ContentCreatorName = headers[0].get("PatientName"), _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with publishing(path) as temporary:
        data.save_as(temporary)
    return path


def _check_text(description: str) -> None:
    if not 1 <= len(description) <= _LONGEST or not description.isprintable():
        raise ValueError(f"description: 1 to {_LONGEST} printable characters are needed")
    if "\\" in description:
        raise ValueError("description: DICOM reads a backslash as the end of a value")


def _stacked(series: Sequence[pydicom.Dataset], path: Path) -> tuple[list[pydicom.Dataset], Grid]:
    """Return the headers in the order of their planes, and the series' grid."""
    series_found = inspect(series)
    if len(series_found) != 1 or len(series_found[0].instances) != len(series):
        raise GridMismatchError(path, f"{len(series)} instances are not those of one series")
    grid = series_found[0].grid
    by_uid = {str(header.SOPInstanceUID): header for header in series}
    return [by_uid[instance.uid] for instance in series_found[0].instances], grid


def _completed(header: pydicom.Dataset) -> pydicom.Dataset:
    """Return a header without names, and with empty values for missing elements."""
    named = {tag_for_keyword(keyword) for keyword in _NAMES}
    whole = pydicom.Dataset({tag: header[tag] for tag in header.keys() if tag not in named})  # noqa: SIM118
    for keyword in (*_NAMES, *_MAY_LACK):
        whole.setdefault(keyword, None)
    if not whole.get("FrameOfReferenceUID"):  # without one, planes would get no place
        frame = ["frame", str(header.StudyInstanceUID)]
        whole.FrameOfReferenceUID = generate_uid(entropy_srcs=frame)
    return whole


def _present(array: npt.NDArray[np.uint8], grid: Grid, path: Path, kind: Kind) -> list[Organ]:
    if tuple(array.shape) != grid.shape:
        raise GridMismatchError(path, f"array {array.shape} does not fit grid {grid.shape}")
    if array.dtype != np.uint8:
        raise LabelValueError(path, f"organ ids come as uint8, not {array.dtype}")
    values = set(np.flatnonzero(counts(array)).tolist()) - {0}
    if wrong := sorted(values - {organ.id for organ in ORGANS}):
        raise LabelValueError(path, f"values {wrong[:5]} are no organ's (1 to {len(ORGANS)})")
    if not values:
        raise EmptyVolumeError(
            path, "no organ has a voxel, and DICOM SEG cannot say so; keep it in another form"
        )
    if kind == "attention":
        return [organ for organ in ORGANS if organ.id in values]
    return [organ for organ in ORGANS if values.intersection(parts_of(organ.id))]


def _on_series(
    array: npt.NDArray[np.uint8], grid: Grid, target: Grid, path: Path
) -> npt.NDArray[np.uint8]:
    placement = find_placement(grid, target, path)
    if tuple(grid.shape[axis] for axis in placement.axes) != target.shape:
        raise GridMismatchError(
            path, f"shape {grid.shape} is a part of the series alone, which has {target.shape}"
        )
    return put(array, placement, target)


def _segment(number: int, organ: Organ, kind: Kind, made: Made) -> SegmentDescription:
    if kind == "organs":
        label, text, color = organ.name, organ.snomed_meaning, organ.color
        category = _ALTERED if organ.category == "lesion" else _ANATOMY
        code = (organ.snomed_code, "SCT", organ.snomed_meaning)
    else:
        label, text = f"attention_{organ.name}", f"Region to look at for {organ.snomed_meaning}"
        category, color = _RELATION, ATTENTION_COLOR
        code = (f"ATTENTION{organ.id}", ATTENTION_SCHEME, f"Attention: {organ.snomed_meaning}")
    networks = AlgorithmIdentificationSequence(_NAME, CodedConcept(*_NETWORKS), __version__)
    item = SegmentDescription(
        number,
        label,
        CodedConcept(*category),
        CodedConcept(*code),
        made,
        algorithm_identification=None if made == "MANUAL" else networks,
    )
    item.SegmentDescription = text
    if kind == "organs" and organ.side and organ.side not in organ.snomed_meaning.casefold():
        modifier = CodedConcept(*_SIDES[organ.side])
        item.SegmentedPropertyTypeCodeSequence[
            0
        ].SegmentedPropertyTypeModifierCodeSequence = pydicom.Sequence([modifier])
    lab = rgb2lab(np.array(color) / 255)
    item.RecommendedDisplayCIELabValue = list(CIELabColor(*lab).value)
    return item
