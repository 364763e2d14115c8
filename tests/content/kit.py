"""Bodies to look at: CTs painted on real anatomy, and what exports do to their values."""

from __future__ import annotations

import csv
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from atlas8k.core.grid import Grid, Volume
from atlas8k.core.volume import read_ct, read_label
from atlas8k.formats.dicom import read_volume

DATA = Path(os.environ.get("ATLAS8K_DATA", Path(__file__).parents[3] / "shared" / "data"))
BODIES = DATA / "totalsegmentator-bodies"
ABDOMENS = ("totalsegmentator-example/ct.nii.gz", "totalsegmentator-bodies/s0009_ct.nii.gz")
NO_ABDOMENS = ("totalsegmentator-bodies/s0002_ct.nii.gz", "totalsegmentator-bodies/s0003_ct.nii.gz")

_HU = {
    "lung": -850.0,
    "trachea": -990.0,
    "vertebrae": 280.0,
    "rib": 450.0,
    "hip": 350.0,
    "femur": 450.0,
    "humerus": 450.0,
    "scapula": 350.0,
    "clavicula": 400.0,
    "sternum": 250.0,
    "sacrum": 280.0,
    "skull": 700.0,
    "costal": 120.0,
    "aorta": 150.0,
    "stomach": 20.0,
    "colon": -100.0,
    "urinary": 5.0,
}


def real(name: str) -> Volume:
    """A CT of the shared data; the test is skipped where it is not there."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return read_volume(path) if path.is_dir() else read_ct(path)


@functools.cache
def painted(subject: str, seed: int = 0) -> Volume:
    """A CT in HU painted on the structures of a real body, 3 mm voxels, with fat around them."""
    path = BODIES / f"{subject}_structures.nii.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    label = _halved(read_label(path))
    with open(BODIES / "structures.csv", encoding="utf-8") as stream:
        names = {int(row["value"]): row["structure"] for row in csv.DictReader(stream)}
    hu = np.full(256, 55.0, np.float32)
    for value, name in names.items():
        hu[value] = next((v for start, v in _HU.items() if name.startswith(start)), 55.0)
    # A slice's outline, in voxels of 3 mm: what structures enclose, and 12 mm of fat.
    array = np.full(label.array.shape, -1000.0, np.float32)
    for k in range(array.shape[2]):
        inside = np.pad(label.array[..., k] > 0, 15)
        if inside.any():
            away = ndimage.distance_transform_edt(~inside)
            shut = ndimage.distance_transform_edt(away < 13) > 26
            body = ndimage.distance_transform_edt(~(shut | inside)) < 4
            array[..., k][body[15:-15, 15:-15]] = -100.0
    there = label.array > 0
    array[there] = hu[label.array[there]]
    noise = np.random.default_rng(seed).normal(0, 15, array.shape)
    return Volume(np.clip(np.rint(array + noise), -1024, 3071).astype(np.float32), label.grid)


def _halved(label: Volume) -> Volume:
    """Every other voxel along each axis."""
    affine = label.grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    array = label.array[::2, ::2, ::2]
    return Volume(array, Grid(array.shape, affine))


def heights(volume: Volume, low: float, high: float) -> Volume:
    """The part of a volume between two shares of its height; the third axis must be S."""
    n = volume.grid.shape[2]
    x, y = volume.grid.shape[:2]
    box = (slice(0, x), slice(0, y), slice(round(low * n), round(high * n)))
    return Volume(volume.array[box], volume.grid.crop(box))


def still_hu(array: npt.NDArray[np.float32]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Ways of the same CT in HU: clipped, padded, noisy."""
    for low, high in ((-1024, 1023), (-1000, 1000), (-175, 250), (-200, 300)):
        yield f"clipped to {low}..{high}", np.clip(array, low, high)
    x, y = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in array.shape[:2])]
    outside = (x * x + y * y > 1)[..., None]
    for fill in (-3024, -2000, -32768):
        yield f"padding of {fill}", np.where(outside, fill, array).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 40, array.shape)
    yield "noise of 40 HU", np.clip(array + noise, -1024, None).astype(np.float32)


def not_hu(array: npt.NDArray[np.float32]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """The same CT on other scales, as exports leave it."""
    for shift in (1024, 1000, -1024, -1000, 32768):
        yield f"shifted by {shift}", array + shift
    yield "shifted and cut off at 0", np.clip(array + 1024, 0, 4095)
    yield "0..1", np.clip((array + 175) / 425, 0, 1)
    yield "-1..1", np.clip((array + 175) / 425, 0, 1) * 2 - 1
    for low, high in ((-175, 250), (-160, 240), (-1000, 1000)):
        yield f"bytes of {low}..{high}", np.rint(np.clip((array - low) / (high - low), 0, 1) * 255)
    yield "standard deviations", (array - array.mean()) / array.std()
    yield "twice", array * 2
    yield "magnitude", np.abs(array)
    yield "12 bit in 10", np.rint((np.clip(array, -1024, 3071) + 1024) / 4)
