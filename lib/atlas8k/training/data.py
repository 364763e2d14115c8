"""Prepare a CT and its label: tensors on a network's grid, and which organs are labeled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from atlas8k.core.errors import TrainingError
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, ORGANS, in_use
from atlas8k.core.volume import Volume, read_ct, read_label, resample
from atlas8k.models.checkpoint import Preprocessing
from atlas8k.models.preprocess import prepare
from atlas8k.reports.folders import on_one_extent, read_oriented

POINTS_PER_ORGAN = 512

IGNORED = 255
"""Label of a voxel that could be any organ: it is in no loss and in no measurement."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """One case on a network's grid.

    Attributes
    ----------
    image
        ``(X, Y, Z)`` float16, 0 to 1, axes nearest RAS.
    label
        ``(X, Y, Z)`` uint8, organ ids; unknown organs are 0, and voxels that could be any
        organ :data:`IGNORED`.
    known
        ``(organs,)`` bool, organ id order: labeled in this case, if only as absent.
    pseudo
        ``(organs,)`` bool: labeled by networks; none of these is in `known`.
    points
        By organ id, ``(n, 3)`` voxel indices drawn from the organ; of organs with voxels.
    """

    image: torch.Tensor
    label: torch.Tensor
    known: torch.Tensor
    pseudo: torch.Tensor
    points: Mapping[int, npt.NDArray[np.int64]]

    @property
    def nbytes(self) -> int:
        return self.image.numel() * 2 + self.label.numel()


class Loadable(Protocol):
    """A case that can be loaded, prepared for a network."""

    @property
    def name(self) -> str: ...

    def load(self, preprocessing: Preprocessing) -> Prepared: ...


class Case(Loadable, Protocol):
    """A case with its labeled organs and its patient; see :class:`TrainingCase`."""

    @property
    def known_organs(self) -> tuple[str, ...]: ...

    @property
    def pseudo_organs(self) -> tuple[str, ...]: ...

    @property
    def patient(self) -> str: ...


@dataclass(frozen=True)
class TrainingCase:
    """A CT with a label map on its grid.

    Parameters
    ----------
    name
        Of the volume.
    ct_path, label_path
        NIfTI files.
    known_organs
        Names of the organs somebody labeled. One of these without voxels is absent; all
        others are unknown and do not enter the loss.
    ignore_path
        NIfTI file on the same grid, not 0 where a voxel could be any organ; those without
        a known organ are not learned from at all.
    pseudo_organs
        Names of organs that the label map holds as networks predicted them.
    content
        A key of the label's content, where one is known: as long as it stays the same, there
        is nothing new to learn, whatever else was written into the file. Empty: the file
        itself decides.
    patient
        The patient whose CT it is; decides whether it is trained or measured on
        (:mod:`atlas8k.training.split`). Empty: a patient of its own.
    orientation
        Direction of the axes of files whose headers lack it, such as ``RAS``.
    """

    name: str
    ct_path: Path
    label_path: Path
    known_organs: tuple[str, ...] = field(default_factory=lambda: tuple(ORGAN_NAMES))
    ignore_path: Path | None = None
    pseudo_organs: tuple[str, ...] = ()
    content: str = ""
    patient: str = ""
    orientation: str | None = None

    def load(self, preprocessing: Preprocessing) -> Prepared:
        """Read the files and prepare them; see :func:`prepare_case`.

        Raises
        ------
        VolumeError
            A file cannot be used.
        TrainingError
            As :func:`prepare_case`.
        """
        ct, label = on_one_extent(
            read_oriented(read_ct, self.ct_path, self.orientation),
            read_oriented(read_label, self.label_path, self.orientation),
        )
        return prepare_case(
            self.name,
            ct,
            label,
            self.known_organs,
            preprocessing,
            None if self.ignore_path is None else read_label(self.ignore_path),
            self.pseudo_organs,
        )


def prepare_case(
    name: str,
    ct: Volume,
    label: Volume,
    known_organs: tuple[str, ...],
    preprocessing: Preprocessing,
    ignore: Volume | None = None,
    pseudo_organs: tuple[str, ...] = (),
) -> Prepared:
    """Bring a CT and its label onto a network's grid.

    Parameters
    ----------
    ct, label
        ``(X, Y, Z)`` HU and organ ids, on one grid of any orientation and spacing.
    ignore
        ``(X, Y, Z)`` on that grid, not 0 where a voxel could be any organ.
    pseudo_organs
        Organs of the label that nobody vouches for; one that is known too counts as known.

    Raises
    ------
    TrainingError
        A label is on another grid, holds values that are no organ, or no organ is
        known or an unknown name is given.
    """
    organs = (*known_organs, *pseudo_organs)
    unknown = [organ for organ in organs if organ not in ORGAN_IDS]
    if unknown or not organs:
        raise TrainingError(
            f"{name}: known organs {list(organs)}; give at least one of "
            f"{', '.join(ORGAN_NAMES)} and no other"
        )
    source = label.path or f"the label of {name}"
    _check_grid(label, ct, source)
    if label.array.max() > len(ORGANS):
        raise TrainingError(
            f"{source}: value {label.array.max()} is no organ id (1 to {len(ORGANS)})"
        )
    image, grid = prepare(ct, preprocessing)
    ids = resample(label.array, ct.grid, grid, linear=False)
    known = _mask(known_organs)
    pseudo = _mask(pseudo_organs) & ~known
    there = np.concatenate([[True], known | pseudo])
    for outer, parts in in_use().parts.items():  # what nobody labeled in an organ is the organ
        if there[outer]:
            ids[np.isin(ids, [value for value in parts if not there[value]])] = outer
    ids[~there[ids]] = 0
    points = _points(ids)
    if ignore is not None:
        _check_grid(ignore, ct, ignore.path or f"the open voxels of {name}")
        mask = (ignore.array != 0).astype(np.uint8)
        ids[(resample(mask, ct.grid, grid, linear=False) != 0) & (ids == 0)] = IGNORED
    return Prepared(
        image=torch.from_numpy(image.astype(np.float16)),
        label=torch.from_numpy(np.ascontiguousarray(ids)),
        known=torch.from_numpy(known),
        pseudo=torch.from_numpy(pseudo),
        points=points,
    )


def _mask(organs: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(len(ORGANS), dtype=bool)
    mask[[ORGAN_IDS[organ] - 1 for organ in organs]] = True
    return mask


def _check_grid(label: Volume, ct: Volume, source: object) -> None:
    if not label.grid.same_as(ct.grid, tolerance_voxels=0.1):
        raise TrainingError(
            f"{source}: it is not on the grid of its CT ({label.grid.shape} voxels of "
            f"{np.round(label.grid.spacing, 3)} mm instead of {ct.grid.shape} of "
            f"{np.round(ct.grid.spacing, 3)} mm); export it again"
        )


def _points(ids: npt.NDArray[np.uint8]) -> dict[int, npt.NDArray[np.int64]]:
    """Draw voxels of every organ of the label, up to the same number; the same every time."""
    flat = ids.ravel()
    inside = np.flatnonzero(flat)
    points = {}
    for organ in np.unique(flat[inside]):
        index = inside[flat[inside] == organ]
        if len(index) > POINTS_PER_ORGAN:
            index = np.random.default_rng(0).choice(index, POINTS_PER_ORGAN, replace=False)
        points[int(organ)] = np.stack(np.unravel_index(index, ids.shape), axis=1)
    return points
