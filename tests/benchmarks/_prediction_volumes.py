"""CTs of realistic size: a phantom's patient over any field of view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from abdomen_phantom import STANDARD
from abdomen_phantom.anatomy import paint
from abdomen_phantom.generate import PhantomPainter
from abdomen_phantom.scanner import add_noise
from atlas8k.core.grid import Grid
from atlas8k.core.volume import write_nifti

SEED = 3
Size = tuple[tuple[int, int, int], tuple[float, float, float]]
"""Voxels and their mm."""
USUAL: Size = (259, 259, 283), (1.5, 1.5, 1.5)
"""The size of which published speeds are told."""
LARGE: Size = (512, 512, 600), (0.8, 0.8, 1.0)
LONGEST: Size = (512, 512, 1000), (0.8, 0.8, 1.0)
SMALL: Size = (60, 60, 50), (3.0, 3.0, 3.0)


QUICK: Size = (40, 40, 36), (4.0, 4.0, 4.0)
"""In place of the usual one where only whether it runs is asked."""


def patient(size: Size = USUAL) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """HU of a patient in that field of view, noise and all, and the organs' ids; axes RAS."""
    shape, spacing = size
    drawn = PhantomPainter(SEED, STANDARD, coarse=False)
    scan = drawn.scan
    centre = (scan.low + scan.high) / 2
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = centre - (np.array(shape) - 1) / 2 * spacing[0]
    grid = Grid(shape, affine)
    hu, label = paint(drawn.anatomy, grid, 2.0, spacing[2])
    add_noise(hu, drawn.dice, scan, spacing[0])
    whole = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return whole.transpose(1, 2, 0), label.transpose(1, 2, 0)


def write(path: Path, hu: npt.NDArray[Any], size: Size, painted: Size = USUAL) -> None:
    """The patient, HU or labels, on another grid than painted on, as a scanner writes it (LPS).

    Mirrored beyond its ends.
    """
    shape, spacing = size
    picks = []
    for n, mm, have in zip(shape, spacing, hu.shape, strict=True):
        at = (np.arange(n) * mm / painted[1][0]).astype(int) % (2 * have)
        picks.append(np.minimum(at, 2 * have - 1 - at))
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    write_nifti(path, hu[np.ix_(*picks)][::-1, ::-1], Grid(shape, affine))
