"""Small phantoms for the tests that start a server: coarse, and not all of one orientation."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from abdomen_phantom import STANDARD, generate
from atlas8k.core.volume import Grid, Volume, write_nifti

SPACING_MM = 4.0
ORIENTATIONS = ("LPS", "RAS", "SRP", "LAI", "IPR")


def turned(volume: Volume, codes: str) -> Volume:
    """The same volume with its axes in another order and direction."""
    start = nib.orientations.io_orientation(volume.grid.affine)
    change = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes))
    array = nib.orientations.apply_orientation(volume.array, change)
    affine = volume.grid.affine @ nib.orientations.inv_ornt_aff(change, volume.array.shape)
    x, y, z = array.shape
    return Volume(np.ascontiguousarray(array), Grid((x, y, z), affine))


def write_phantoms(studies: Path, truth: Path, count: int, first_seed: int = 9000) -> list[str]:
    """Write CTs to `studies` and their truth to `truth`; returns the ids."""
    studies.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(count):
        phantom = generate(first_seed + number, STANDARD, grid_spacing_mm=SPACING_MM)
        codes = ORIENTATIONS[number % len(ORIENTATIONS)]
        name = f"phantom_{first_seed + number}"
        for volume, folder in ((phantom.ct, studies), (phantom.label, truth)):
            other = turned(volume, codes)
            write_nifti(folder / f"{name}.nii.gz", other.array, other.grid)
        names.append(name)
    return names
