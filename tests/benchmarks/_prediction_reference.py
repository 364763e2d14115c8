"""The plain prediction that a fast one is held against, and the CTs it is made on.

Nothing is left out and nothing is clever here: every window of the whole volume in
float32 by MONAI's own sliding window, resampling by scipy and SimpleITK, float32 until
the cut. Only what a label means is the project's: the working grid, the box around the
patient that networks trained on whole volumes are shown, mean above one half, largest
piece, the nearest voxel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers import sliding_window_inference
from scipy import ndimage

from atlas8k.core.grid import Grid, Volume
from atlas8k.core.grid_alignment import box_on
from atlas8k.core.resample import resample
from atlas8k.core.structures import ORGAN_IDS, ORGANS
from atlas8k.models.body import body_box, whole
from atlas8k.models.checkpoint import Checkpoint, load_checkpoint, network

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ATLAS8K_DATA", ROOT.parent / "shared" / "data"))
REAL_CT = DATA / "totalsegmentator-example" / "ct.nii.gz"
REAL_SERIES = DATA / "cptac-pda-dicom"
GRID_MM = 1.5
MIDDLE = 16
"""Voxels along an axis, of the middle of a phantom."""
WHOLE_PIECES = np.ones((3, 3, 3))
"""Voxels that touch at a corner are one piece."""


def cases(phantoms: int, grid_mm: float | None = None) -> dict[str, Callable[[], Volume]]:
    """The first of the sample phantoms, and the real CT and series where there are any.

    With `grid_mm` the middle of phantoms alone, on a grid of that spacing.
    """
    from abdomen_phantom import generate
    from atlas8k.core.volume import read_ct
    from atlas8k.formats.dicom import read_volume

    def phantom(seed: int) -> Volume:
        ct = generate(seed, grid_spacing_mm=grid_mm).ct
        if grid_mm is None:
            return ct
        box = tuple(slice(n // 2 - MIDDLE // 2, n // 2 + MIDDLE // 2) for n in ct.array.shape)
        return Volume(ct.array[box], ct.grid.crop(box))

    found: dict[str, Callable[[], Volume]] = {
        f"phantom_{seed:04d}": partial(phantom, seed) for seed in range(phantoms)
    }
    if grid_mm is not None:
        return found
    if REAL_CT.is_file():
        found["real_ct"] = lambda: read_ct(REAL_CT)
    if REAL_SERIES.is_dir():
        found["real_series"] = lambda: read_volume(REAL_SERIES)
    return found


def embedded() -> dict[str, Checkpoint]:
    """The three networks that come with the project."""
    return checkpoints(ROOT / "apps" / "atlas8k" / "model" / "embedded")


def checkpoints(folder: Path) -> dict[str, Checkpoint]:
    """The networks of a folder by name."""
    return {path.stem: load_checkpoint(path) for path in sorted(folder.glob("*.safetensors"))}


def plain_label(ct: Volume, checkpoints: Mapping[str, Checkpoint]) -> npt.NDArray[np.uint8]:
    """Label map of the ensemble on the CT's grid, ``(X, Y, Z)`` uint8."""
    grid = ct.grid.working(GRID_MM)
    total = np.zeros((len(ORGANS), *grid.shape), dtype=np.float32)
    known = np.zeros(len(ORGANS), dtype=int)
    for checkpoint in checkpoints.values():
        probs, source = plain_probabilities(ct, checkpoint)
        for organ, one in zip(checkpoint.organs, probs, strict=True):
            row = ORGAN_IDS[organ] - 1
            total[row] += resample(one, source, grid, linear=True)
            known[row] += 1
    mean = total / np.maximum(known, 1)[:, None, None, None]
    for row, one in enumerate(mean):
        mean[row] = np.where(largest_piece(one > 0.5), one, 0)
    best = mean.argmax(axis=0)
    label = np.where(mean.max(axis=0) > 0.5, best + 1, 0).astype(np.uint8)
    return nearest_voxel(label, grid, ct.grid)


def plain_probabilities(ct: Volume, checkpoint: Checkpoint) -> tuple[npt.NDArray[np.float32], Grid]:
    """Of one network, ``(organs, X, Y, Z)`` on its own working grid over the whole CT."""
    wants = checkpoint.preprocessing
    low, high = wants.hu_window
    grid = ct.grid.working(wants.spacing_mm)
    clipped = np.clip(ct.array.astype(np.float32), low, high)
    there = np.linalg.solve(ct.grid.affine, grid.affine)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij")).reshape(3, -1)
    at = there[:3, :3] @ index + there[:3, 3:]
    image = ndimage.map_coordinates(clipped, at, order=1, mode="nearest").reshape(grid.shape)
    image = ((image - low) / (high - low)).astype(np.float32)
    box = whole(grid.shape) if wants.whole is None else box_on(body_box(ct), ct.grid, grid)
    part = image[box]
    with torch.no_grad():
        logits = sliding_window_inference(
            torch.from_numpy(part)[None, None],
            wants.window_for(part.shape),
            4,
            network(checkpoint),
            overlap=wants.overlap,
            mode="gaussian",
            cval=wants.fill,
        )[0]
    found = logits.softmax(dim=0)[1:] if checkpoint.activation == "softmax" else logits.sigmoid()
    probs = np.zeros((len(found), *grid.shape), dtype=np.float32)
    probs[:, *box] = found.numpy()
    return probs, grid


def largest_piece(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Of ``(X, Y, Z)``; nothing stays nothing."""
    pieces, count = ndimage.label(mask, WHOLE_PIECES)
    if count == 0:
        return mask
    return pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()


def nearest_voxel(
    label: npt.NDArray[np.uint8], source: Grid, target: Grid
) -> npt.NDArray[np.uint8]:
    """The label at the voxel centres of another grid; 0 outside, halfway is the next one up."""
    there = np.linalg.solve(source.affine, target.affine)
    out = np.zeros(target.shape, dtype=np.uint8)
    y, z = np.meshgrid(*map(np.arange, target.shape[1:]), indexing="ij")
    for x in range(target.shape[0]):
        index = np.stack([np.full(y.size, x), y.ravel(), z.ravel()])
        at = np.floor(there[:3, :3] @ index + there[:3, 3:] + 0.5 + 1e-6).astype(int)
        inside = ((at >= 0) & (at < np.array(source.shape)[:, None])).all(axis=0)
        out[x].reshape(-1)[inside] = label[tuple(at[:, inside])]
    return out


def dsc(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Of every organ that is in either label."""
    found = {}
    for organ in ORGANS:
        first, second = one == organ.id, other == organ.id
        both = int(first.sum()) + int(second.sum())
        if both:
            found[organ.name] = 2 * int((first & second).sum()) / both
    return found
