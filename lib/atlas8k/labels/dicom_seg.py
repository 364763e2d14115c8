"""DICOM SEG, read by dcmqi's converter in a process of its own.

Its header is looked through first. What the converter makes of the voxels are NRRD files,
one for each group of segments that do not overlap, with a JSON of names and codes.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.uid import SegmentationStorage

from atlas8k.errors import UnreadableVolumeError
from atlas8k.grid import Grid
from atlas8k.labels.nrrd_file import read_header, read_layers

logger = logging.getLogger(__name__)

_TIMEOUT_S = 120
_MAX_EXTENT_MM = 4000.0  # longer than any patient: positions that are a slip of the pen
_MIN_SPACING_MM = 0.05


@dataclass(frozen=True)
class CodedSegment:
    """A segment of a DICOM SEG object: label, code, and where its voxels are."""

    name: str
    code: str | None
    layer: int
    value: int


def read_dicom_seg(
    path: Path, fits: Callable[[Grid], object]
) -> tuple[Grid, list[npt.NDArray[Any]], list[CodedSegment]]:
    """Read a DICOM SEG object.

    Parameters
    ----------
    fits
        Called with the grid before voxels are read; raises where they are not wanted.

    Raises
    ------
    UnreadableVolumeError
        No DICOM SEG object, or one that the converter cannot read.
    """
    _check_header(path)
    with tempfile.TemporaryDirectory(prefix="atlas8k-seg-") as name:
        folder = Path(name)
        _convert(path, folder)
        groups = _groups(path, folder)
        layers: list[npt.NDArray[Any]] = []
        segments: list[CodedSegment] = []
        grid: Grid | None = None
        for layer, entries in enumerate(groups):
            header = read_header(folder / f"seg-{layer + 1}.nrrd")
            if grid is None:
                grid = header.grid
                fits(grid)
            layers += read_layers(folder / f"seg-{layer + 1}.nrrd", header)
            segments += [_segment(entry, layer) for entry in entries]
    if grid is None:
        raise UnreadableVolumeError(path, "the DICOM SEG object has no segment")
    return grid, layers, segments


def _check_header(path: Path) -> None:
    try:
        data = pydicom.dcmread(path, stop_before_pixels=True)
        kind = data.SOPClassUID
        if kind == SegmentationStorage:
            _check_extent(path, data)
    except UnreadableVolumeError:
        raise
    except Exception as err:  # pydicom raises what its many parsers raise
        raise UnreadableVolumeError(path, f"not a readable DICOM object ({err})") from err
    if kind != SegmentationStorage:
        raise UnreadableVolumeError(path, f"a DICOM object, but no segmentation: {kind.name}")


def _check_extent(path: Path, data: pydicom.Dataset) -> None:
    """Positions far apart, or slices without thickness, would make a volume of any size."""
    positions = [
        frame.PlanePositionSequence[0].ImagePositionPatient
        for frame in data.PerFrameFunctionalGroupsSequence
    ]
    extent = np.ptp(np.asarray(positions, dtype=np.float64), axis=0)
    measures = [
        group.PixelMeasuresSequence[0]
        for group in (*data.get("SharedFunctionalGroupsSequence", ()),)
        if "PixelMeasuresSequence" in group
    ]
    spacings = [
        float(value)
        for item in measures
        for value in (
            *item.PixelSpacing,
            item.get("SpacingBetweenSlices", item.get("SliceThickness", 1)),
        )
    ]
    if not np.isfinite(extent).all() or extent.max() > _MAX_EXTENT_MM:
        raise UnreadableVolumeError(path, f"its slices lie {extent.max():g} mm apart")
    if spacings and not min(spacings) >= _MIN_SPACING_MM:
        raise UnreadableVolumeError(path, f"its voxels are {min(spacings):g} mm thick")


def _convert(path: Path, folder: Path) -> None:
    run_dcmqi(
        "segimage2itkimage",
        *("--inputDICOM", str(path.resolve()), "--outputDirectory", str(folder)),
        *("--prefix", "seg", "--outputType", "nrrd", "--mergeSegments"),
        path=path,
        makes=folder / "seg-meta.json",
    )


def run_dcmqi(program: str, *arguments: str, path: Path, makes: Path) -> None:
    """Run one of dcmqi's converters.

    Parameters
    ----------
    path
        The DICOM SEG object that messages are about.
    makes
        A file that is there when it succeeded.

    Raises
    ------
    UnreadableVolumeError
        It is not installed, failed, or took too long.
    """
    spec = importlib.util.find_spec("dcmqi")
    if spec is None or spec.origin is None:
        raise UnreadableVolumeError(path, "DICOM SEG needs the package dcmqi; install it")
    command = [str(Path(spec.origin).parent / "bin" / program), *arguments]
    try:
        run = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as err:
        raise UnreadableVolumeError(path, f"not converted within {_TIMEOUT_S} s") from err
    if run.returncode != 0 or not makes.is_file():
        text = (run.stderr or run.stdout).decode(errors="replace").strip()
        logger.info("%s: dcmqi ended with %d: %s", path, run.returncode, text[-2000:])
        last = text.splitlines()[-1][:200] if text else f"status {run.returncode}"
        raise UnreadableVolumeError(path, f"the DICOM SEG object cannot be converted ({last})")


def _groups(path: Path, folder: Path) -> list[list[Mapping[str, Any]]]:
    try:
        meta = json.loads((folder / "seg-meta.json").read_bytes())
        return [list(group) for group in meta["segmentAttributes"]]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise UnreadableVolumeError(path, f"its segments cannot be read ({err})") from err


def _segment(entry: Mapping[str, Any], layer: int) -> CodedSegment:
    kind = entry.get("SegmentedPropertyTypeCodeSequence") or {}
    side = entry.get("SegmentedPropertyTypeModifierCodeSequence") or {}
    codes = [str(part["CodeValue"]) for part in (kind, side) if part.get("CodeValue")]
    name = entry.get("SegmentLabel") or entry.get("SegmentDescription") or kind.get("CodeMeaning")
    return CodedSegment(str(name or ""), "+".join(codes) or None, layer, int(entry["labelID"]))
