"""Bring a client's segmentation to one map of organ ids on the CT's grid, or refuse it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import (
    EmptyVolumeError,
    LabelNameError,
    LabelValueError,
    UnreadableVolumeError,
)
from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import Box, Start, find_placement, put
from atlas8k.core.label_mapping import MappedLabel, map_label
from atlas8k.core.structure_sets import normalise
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, ORGANS, find_organ, in_use
from atlas8k.core.volume import read_grid, read_label
from atlas8k.core.voxels import counts, joint_counts, renamed
from atlas8k.formats.dicom_seg import read_dicom_seg
from atlas8k.formats.nrrd import read_nrrd
from atlas8k.formats.segmentation import Segment, Segmentation

ReadBy = Literal["label_info", "segment names", "codes", "organ ids"]
_Terms = Sequence[tuple[Segment, MappedLabel]]
_Counts = Sequence[npt.NDArray[np.int64]]


@dataclass(frozen=True)
class SegmentOverlap:
    """Voxels that two organs' segments of one file share.

    ``kept`` is the organ that has them in the map, ``lost`` the other.
    """

    kept: str
    lost: str
    voxels: int


@dataclass(frozen=True, eq=False)
class Submitted:
    """A client's segmentation as organ ids on the CT's grid.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids 0 to 9, on the CT's own grid.
    grid
        The CT's own grid.
    named
        Organs the client named, with voxels or without; `array` has no voxels of others,
        which are not assessed. Without names (``read_by`` is ``organ ids``) these are the
        organs that have voxels.
    read_by
        What decided which voxels are which organ.
    voxels
        Voxels by organ, of the organs in `named`.
    overlaps
        Where segments of two organs overlapped; the organ with fewer voxels keeps them.
    ignored
        Names of empty segments that mean no organ.
    block
        The voxels of the CT that the file covers; ``None`` where it covers all.
    notes
        How it was brought to the CT's grid, unless it lies on it already, and how the file
        was read where it can be read in more than one way.
    """

    array: npt.NDArray[np.uint8]
    grid: Grid
    named: frozenset[str]
    read_by: ReadBy
    voxels: Mapping[str, int]
    overlaps: tuple[SegmentOverlap, ...] = ()
    ignored: tuple[str, ...] = ()
    block: Box | None = None
    notes: tuple[str, ...] = ()


def ingest(
    path: str | Path,
    grid: Grid,
    label_info: object = None,
    *,
    absent: Sequence[str] = (),
    may_be_empty: bool = False,
) -> Submitted:
    """Read a client's file and bring it to organ ids on the CT's grid.

    Parameters
    ----------
    path
        NIfTI, NRRD, ``.seg.nrrd`` or DICOM SEG.
    grid
        The CT's own grid.
    label_info
        ``[{"name": ..., "idx": ...}, ...]`` as 3D Slicer sends it, for files that name no
        segments themselves: the value of an entry is 1 + its *position* in the list, empty
        segments and a background entry included; ``idx`` is wrong after a skipped segment
        and is not looked at. Without it values are organ ids 1 to 9.
    absent
        Organs (name or alias) that the client marks absent; they count as named.
    may_be_empty
        Accept a file without a single organ voxel, although no organ is marked absent:
        for a CT whose draft label is empty too.

    Raises
    ------
    VolumeError
        The file cannot be read or does not lie on the CT's grid; see
        :func:`read_segmentation`.
    LabelNameError
        A segment with voxels that means no organ, two segments of one name, names that
        are no list of names, an organ marked absent that has voxels.
    LabelValueError
        A value that no name or organ id belongs to.
    EmptyVolumeError
        No organ voxel, unless `absent` or `may_be_empty` says that this is meant.
    """
    path = Path(path)
    absent_organs = organ_names(absent, "absent", path)
    # Check what needs no voxels before they are read.
    from_label_info = None if label_info is None else _label_info_segments(path, label_info)
    segmentation = read_segmentation(path, within=grid)
    segments = from_label_info if segmentation.segments is None else segmentation.segments
    voxel_counts = [counts(layer) for layer in segmentation.layers]
    if segments is None:
        read_by: ReadBy = "organ ids"
        terms = [(Segment(name, i), MappedLabel("organ", name)) for name, i in ORGAN_IDS.items()]
    else:
        terms = [(segment, map_label(segment.name, segment.codes)) for segment in segments]
        by_code = any(meant.by_code for _, meant in terms)
        by_name: ReadBy = "label_info" if segments is from_label_info else "segment names"
        read_by = "codes" if by_code else by_name
    _check_values(path, voxel_counts, terms, read_by)
    if segments is not None:
        _check_names(path, voxel_counts, terms)
    array, overlaps = _combined(segmentation.layers, voxel_counts, terms)
    placement = find_placement(segmentation.grid, grid, path, start=segmentation.start)
    array = put(array, placement, grid)
    organ_counts = counts(array)
    present = [organ for organ, i in ORGAN_IDS.items() if organ_counts[i]]
    if not present and not absent_organs and not may_be_empty:
        raise EmptyVolumeError(
            path, "the label map holds no organ; name organs that are not there in absent"
        )
    if contradicted := sorted(set(present) & set(absent_organs)):
        raise LabelNameError(path, f"absent: {', '.join(contradicted)} has voxels in the label map")
    named = {meant.organ for _, meant in terms if meant.kind == "organ" and meant.organ}
    if read_by == "organ ids":
        named = set(present)
    ignored = [s.name for s, meant in terms if meant.organ is None and meant.kind != "background"]
    return Submitted(
        array=array,
        grid=grid,
        named=frozenset(named | set(absent_organs)),
        read_by=read_by,
        voxels={
            organ: int(organ_counts[i])
            for organ, i in ORGAN_IDS.items()
            if organ in named | {*absent_organs}
        },
        overlaps=overlaps,
        ignored=tuple(ignored),
        block=None
        if np.prod(segmentation.grid.shape) == np.prod(grid.shape)
        else placement.block(segmentation.grid),
        notes=(
            *filter(None, [placement.note()]),
            *segmentation.notes,
            *_coded_otherwise(terms),
        ),
    )


def _coded_otherwise(terms: _Terms) -> list[str]:
    """Note the segments whose code means another organ than their name; the name counts.

    Nothing is noted where all have the same code: some servers write that.
    """
    if len({segment.codes for segment, _ in terms if segment.codes}) < 2:
        return []
    notes = []
    for segment, meant in terms:
        coded = None if segment.codes is None or meant.by_code else segment.codes.organ()
        if coded is not None and meant.organ is not None and coded[0] != meant.organ:
            notes.append(
                f"segment {segment.name[:80]!r} is coded as {coded[0]}; taken by its name as "
                f"{meant.organ}"
            )
    return notes


def read_segmentation(path: str | Path, within: Grid | None = None) -> Segmentation:
    """Read a segmentation file, its header first.

    The first bytes say which format it is, not the name. Voxels are read only where they lie
    on the CT, and not more of them than the header claims.

    Parameters
    ----------
    path
        NIfTI (``.nii``, ``.nii.gz``), NRRD (``.nrrd``, ``.seg.nrrd``) or DICOM SEG.
    within
        The CT's grid; a file that does not lie on it voxel for voxel, as a whole or a
        block of it, is refused before its voxels are read.

    Raises
    ------
    UnreadableVolumeError
        Missing, empty, truncated, of another format, a broken or too large header.
    NotThreeDimensionalError
        Not a volume (or layers of one).
    NotFiniteError
        NaN or infinity in voxels, affine or directions.
    LabelValueError
        Values that are negative, not whole, or above 255.
    LabelNameError
        Segments without a name, or two for the same voxels.
    GridMismatchError
        Not on `within`.
    """
    path = Path(path)

    def fits(grid: Grid, start: Start | None = None) -> None:
        if within is not None:
            find_placement(grid, within, path, start=start)

    start = _first_bytes(path)
    if start.startswith(b"NRRD"):
        return read_nrrd(path, fits)
    if start[128:132] == b"DICM":
        return read_dicom_seg(path, fits, within)
    fits(read_grid(path, block=True))
    label = read_label(path, block=True)
    return Segmentation(path, "nifti", label.grid, (label.array,))


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise UnreadableVolumeError(path, "no such file")
    try:
        with open(path, "rb") as stream:
            first = stream.read(132)
    except OSError as err:
        raise UnreadableVolumeError(path, f"cannot be read ({err})") from err
    if not first:
        raise UnreadableVolumeError(path, "the file is empty (0 bytes); send it again")
    return first


def organ_names(names: object, key: str, path: str | Path = "request") -> list[str]:
    """Return the organs of a client's list of names or aliases, sorted by name.

    Raises
    ------
    LabelNameError
        It is no list, or one is no organ.
    """
    if not isinstance(names, Sequence | Set) or isinstance(names, str | bytes):
        raise LabelNameError(path, f"{key} must be a list of organ names")
    organs = [find_organ(name) if isinstance(name, str) else None for name in names]
    if None in organs:
        raise LabelNameError(path, f"{key}: organs are {', '.join(ORGAN_NAMES)}")
    return sorted({organ.name for organ in organs if organ})


def _label_info_segments(path: Path, label_info: object) -> tuple[Segment, ...]:
    wrong = LabelNameError(path, 'label_info must be a list of {"name": ..., "idx": ...}')
    if not isinstance(label_info, Sequence) or isinstance(label_info, str | bytes):
        raise wrong
    names = [entry.get("name") if isinstance(entry, Mapping) else None for entry in label_info]
    if not all(isinstance(name, str) for name in names):
        raise wrong
    return tuple(Segment(str(name), i) for i, name in enumerate(names, start=1))


def _check_values(path: Path, voxel_counts: _Counts, terms: _Terms, read_by: ReadBy) -> None:
    """Refuse values that no name belongs to."""
    named = {(segment.layer, segment.value) for segment, _ in terms}
    unnamed = [
        int(value)
        for layer, voxels in enumerate(voxel_counts)
        for value in np.flatnonzero(voxels)
        if value and (layer, value) not in named
    ]
    if not unnamed:
        return
    values = f"label value{'s' if len(unnamed) > 1 else ''} {', '.join(map(str, unnamed))}"
    if read_by == "organ ids":
        ids = ", ".join(f"{i} {name}" for name, i in ORGAN_IDS.items())
        raise LabelValueError(path, f"{values}: no organ; without label_info, values are {ids}")
    raise LabelValueError(
        path, f"{values}: no name for it; {len(terms)} structures are named ({read_by})"
    )


def _check_names(path: Path, voxel_counts: _Counts, terms: _Terms) -> None:
    """Refuse two segments of one meaning, and voxels of what is no organ."""
    drawn = [(segment, meant) for segment, meant in terms if _voxels(voxel_counts, segment)]
    # Empty segments do not count: people empty one and draw it again under another name.
    twice = Counter(_identity(segment, meant) for segment, meant in drawn if meant.organ)
    if doubled := [key for key, n in twice.items() if n > 1]:
        same = [segment for segment, meant in drawn if _identity(segment, meant) in doubled]
        raise LabelNameError(
            path,
            f"segments {_listing(voxel_counts, same)} mean the same; if they are parts of one, add "
            "them up into one segment, else rename the one that is something else, and save again",
        )
    if regions := [segment for segment, meant in drawn if meant.kind == "attention"]:
        raise LabelNameError(
            path,
            f"{_listing(voxel_counts, regions)}: places to look at, not organs; move these "
            "segments into a segmentation of its own (model `attention` makes them anew), and save "
            "again",
        )
    if unknown := [(segment, meant) for segment, meant in drawn if meant.kind == "unknown"]:
        hints = [
            f"{segment.name[:80]!r} may be {' or '.join(meant.may_be)}"
            for segment, meant in unknown
            if meant.may_be
        ]
        raise LabelNameError(
            path,
            f"{_listing(voxel_counts, [segment for segment, _ in unknown])}: no organ by name or "
            "code. "
            f"{''.join(f'{hint}. ' for hint in hints)}Rename each to the organ it is, one of "
            f"{', '.join(ORGAN_NAMES)}; move what is none into a segmentation of its own, since "
            "in a merged map it has cut holes into organs; and save again",
        )
    named = {meant.organ for _, meant in terms if meant.kind == "organ"}
    for segment, meant in terms:
        part_alone = meant.kind == "part" and meant.organ not in named
        if part_alone and _voxels(voxel_counts, segment):
            raise LabelNameError(
                path,
                f"{segment.name[:80]!r} counts into {meant.organ}, but there is no segment "
                f"{meant.organ}: it would be all of it. Save both together",
            )


def _voxels(voxel_counts: _Counts, segment: Segment) -> int:
    """Return a segment's voxels; 0 where a list names more structures than a file has values."""
    return int(voxel_counts[segment.layer][segment.value]) if segment.value < 256 else 0


def _identity(segment: Segment, meant: MappedLabel) -> str:
    return meant.organ if meant.kind == "organ" and meant.organ else normalise(segment.name)


def _listing(voxel_counts: _Counts, segments: Sequence[Segment]) -> str:
    return ", ".join(
        f"{segment.name[:80]!r} ({_voxels(voxel_counts, segment):,} voxels)" for segment in segments
    )


def _combined(
    layers: Sequence[npt.NDArray[np.uint8]], voxel_counts: _Counts, terms: _Terms
) -> tuple[npt.NDArray[np.uint8], tuple[SegmentOverlap, ...]]:
    """Return all layers as one map of organ ids, on the file's own grid."""
    tables = np.zeros((len(layers), 256), dtype=np.uint8)
    for segment, meant in terms:
        if meant.organ and segment.layer < len(layers) and segment.value < 256:
            tables[segment.layer, segment.value] = ORGAN_IDS[meant.organ]
    if len(layers) == 1:
        values = np.flatnonzero(voxel_counts[0])
        as_it_is = np.array_equal(tables[0][values], values)
        return layers[0] if as_it_is else renamed(layers[0], tables[0]), ()
    return _flattened(layers, voxel_counts, tables)


def _flattened(
    layers: Sequence[npt.NDArray[np.uint8]],
    voxel_counts: _Counts,
    tables: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.uint8], tuple[SegmentOverlap, ...]]:
    """Merge layers into one map, by the organ id of each of their values.

    Of two organs that overlap, the one with fewer voxels keeps the shared ones: it would
    lose the larger part of itself; what the structure set has within another lies on top of it,
    and is no overlap. The order of the segments does not matter. One layer at a
    time is held anew.
    """
    voxels = np.zeros(256, dtype=np.int64)
    for table, found in zip(tables, voxel_counts, strict=True):
        np.add.at(voxels, table, found)
    parts, depths = in_use().parts, in_use().depths
    largest_first = sorted(ORGAN_IDS.values(), key=lambda i: (depths[i], -voxels[i], i))
    rank, organ_of_rank = np.zeros(256, dtype=np.uint8), np.zeros(256, dtype=np.uint8)
    for place, number in enumerate(largest_first, start=1):
        rank[number], organ_of_rank[place] = place, number
    top = renamed(layers[0], rank[tables[0]])
    shared = np.zeros((256, 256), dtype=np.int64)
    for table, layer in zip(tables[1:], layers[1:], strict=True):
        ranked = renamed(layer, rank[table])
        pairs = joint_counts(top, ranked)
        shared += pairs + pairs.T
        np.maximum(top, ranked, out=top)
    overlaps = tuple(
        SegmentOverlap(
            ORGAN_NAMES[organ_of_rank[i] - 1], ORGAN_NAMES[organ_of_rank[j] - 1], int(shared[i, j])
        )
        for i in range(1, len(ORGANS) + 1)
        for j in range(1, i)
        if shared[i, j] and organ_of_rank[i] not in parts.get(int(organ_of_rank[j]), ())
    )
    return renamed(top, organ_of_rank), overlaps
