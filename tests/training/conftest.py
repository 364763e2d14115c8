"""Small cases with a truth a tiny network can learn."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.models.checkpoint import Checkpoint, Preprocessing
from atlas8k.models.networks import build
from atlas8k.training.data import TrainingCase

ARCHITECTURES = {
    "unet": {
        "name": "unet",
        "out_channels": 9,
        "channels": [8, 16],
        "strides": [2],
        "num_res_units": 1,
    },
    "nnunet": {
        "name": "dynunet",
        "out_channels": 10,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [8, 16, 16],
    },
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(name: str, seed: int = 0) -> Checkpoint:
    torch.manual_seed(seed)
    return Checkpoint(
        name=name,
        architecture=ARCHITECTURES[name],
        activation="softmax" if name == "nnunet" else "sigmoid",
        preprocessing=Preprocessing(spacing_mm=(4.0,) * 3, window_size=(16, 16, 16)),
        state=build(ARCHITECTURES[name]).state_dict(),
    )


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., TrainingCase]:
    """Makes a CT of 24 x 20 x 16 voxels of 4 mm with a bright liver and a dark spleen."""

    def make(
        name: str, seed: int = 0, known: tuple[str, ...] = ORGAN_NAMES, flip: bool = False
    ) -> TrainingCase:
        rng = np.random.default_rng(seed)
        hu = rng.normal(20, 5, (24, 20, 16)).astype(np.float32)
        ids = np.zeros(hu.shape, dtype=np.uint8)
        shift = int(rng.integers(0, 3))
        ids[14 + shift : 21, 5:15, 4:12] = 5
        ids[3 : 9 + shift, 5:15, 4:12] = 8
        hu[ids == 5] += 150
        hu[ids == 8] -= 150
        affine = np.diag([4.0, 4.0, 4.0, 1.0])
        if flip:  # the same patient in a file whose first axis runs to the left
            hu, ids = hu[::-1], ids[::-1]
            affine[0] = [-4.0, 0, 0, 4.0 * 23]
        grid = Grid((24, 20, 16), affine)
        ct, label = tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_label.nii.gz"
        write_nifti(ct, hu, grid)
        write_nifti(label, np.where(np.isin(ids, _ids(known)), ids, 0).astype(np.uint8), grid)
        return TrainingCase(name, ct, label, known)

    return make


def _ids(known: tuple[str, ...]) -> list[int]:
    return [ORGAN_NAMES.index(name) + 1 for name in known]
