"""Architectures with random weights, and phantoms as cases.

Three architectures that fail differently: attention over windows, residual convolutions,
plain convolutions at full resolution. Small at 4 mm, so that a CT takes seconds on a
processor, as the embedded networks are; or of the paper's size at 1.5 mm, for a GPU.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from atlas8k.errors import TrainingError
from atlas8k.models.checkpoint import Checkpoint, Preprocessing
from atlas8k.models.networks import build
from atlas8k.organs import N_ORGANS, ORGAN_NAMES
from atlas8k.phantom import STANDARD, generate
from atlas8k.training.data import Prepared, prepare_case
from atlas8k.volume import Grid, Volume, publish

SPACING_MM = 4.0

EMBEDDED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "swin_unetr": {
            "name": "swin_unetr",
            "out_channels": N_ORGANS,
            "feature_size": 12,
            "num_heads": [1, 2, 4, 8],
            "window_size": 4,
            "downsample": "mergingv2",
        },
        "unet": {
            "name": "unet",
            "out_channels": N_ORGANS,
            "channels": [32, 64, 96, 128],
            "strides": [2, 2, 2],
            "num_res_units": 2,
        },
        "nnunet": {
            "name": "dynunet",
            "out_channels": N_ORGANS + 1,
            "kernel_size": [3, 3, 3, 3, 3],
            "strides": [1, 2, 2, 2, 2],
            "upsample_kernel_size": [2, 2, 2, 2],
            "filters": [8, 32, 48, 64, 64],
        },
    }
)

PAPER: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "swin_unetr": {
            "name": "swin_unetr",
            "out_channels": N_ORGANS,
            "feature_size": 48,
            "downsample": "mergingv2",
        },
        "unet": {"name": "suprem_unet", "out_channels": N_ORGANS},
        "nnunet": {
            "name": "dynunet",
            "out_channels": N_ORGANS + 1,
            "kernel_size": [3, 3, 3, 3, 3, 3],
            "strides": [1, 2, 2, 2, 2, 2],
            "upsample_kernel_size": [2, 2, 2, 2, 2],
            "filters": [32, 64, 128, 256, 320, 320],
            "deep_supervision": True,
            "deep_supr_num": 3,
        },
    }
)
"""Swin UNETR and U-Net as SuPreM's, nnU-Net as it plans a CT of 1.5 mm in windows of 96."""


@dataclass(frozen=True)
class Size:
    """Architectures, voxel size and window that go together."""

    architectures: Mapping[str, Mapping[str, Any]]
    spacing_mm: float
    window: int


SIZES: Mapping[str, Size] = MappingProxyType(
    {"small": Size(EMBEDDED, SPACING_MM, 64), "paper": Size(PAPER, 1.5, 96)}
)


def new_checkpoint(name: str, seed: int, size: str = "small") -> Checkpoint:
    """An architecture with random weights, the same ones for the same seed.

    Parameters
    ----------
    name
        Key of :data:`EMBEDDED`.
    size
        Key of :data:`SIZES`.

    Raises
    ------
    TrainingError
        Unknown name or size.
    """
    if name not in EMBEDDED:
        raise TrainingError(f"network {name!r} is unknown; known are {', '.join(EMBEDDED)}")
    if size not in SIZES:
        raise TrainingError(f"size {size!r} is unknown; known are {', '.join(SIZES)}")
    chosen = SIZES[size]
    architecture = chosen.architectures[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + zlib.crc32(name.encode()))
        state = build(architecture).state_dict()
    return Checkpoint(
        name=name,
        architecture=architecture,
        activation="softmax" if name == "nnunet" else "sigmoid",
        preprocessing=Preprocessing(
            spacing_mm=(chosen.spacing_mm,) * 3, window_size=(chosen.window,) * 3
        ),
        origin={"random_weights": seed},
        state=state,
    )


@dataclass(frozen=True)
class PhantomTrainingCase:
    """A phantom of the standard setting at the embedded networks' spacing, kept as a file."""

    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f"phantom_{self.seed:06d}"

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}_v{STANDARD.version}_{SPACING_MM:g}mm.npz"

    def load(self, preprocessing: Preprocessing) -> Prepared:
        """Prepared for a network; made first if its file is missing or damaged."""
        try:
            with np.load(self.path) as stored:
                ct, label, affine = stored["ct"], stored["label"], stored["affine"]
        except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile):
            ct, label, affine = self.make()
        grid = Grid(ct.shape, affine)
        return prepare_case(
            self.name, Volume(ct, grid), Volume(label, grid), ORGAN_NAMES, preprocessing
        )

    def make(self) -> tuple[Any, Any, Any]:
        """Generate and store; ``ct`` int16, ``label`` uint8, ``affine``."""
        phantom = generate(self.seed, STANDARD, grid_spacing_mm=SPACING_MM)
        arrays = phantom.ct.array, phantom.label.array, phantom.ct.grid.affine
        handle, name = tempfile.mkstemp(prefix=".", suffix=".npz.part", dir=self.folder)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez_compressed(stream, ct=arrays[0], label=arrays[1], affine=arrays[2])
            publish(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)
        return arrays


def phantom_cases(
    count: int,
    first_seed: int,
    folder: Path,
    processes: int = 1,
    on_case: Callable[[str], None] | None = None,
) -> list[PhantomTrainingCase]:
    """Phantoms as training cases; those that are not in the folder yet are made.

    Parameters
    ----------
    count, first_seed
        Seeds ``first_seed`` to ``first_seed + count - 1``.
    folder
        Where they are kept, about 1 MB each.
    processes
        That make them.
    on_case
        Called with the name of every phantom that is ready.
    """
    if count < 1:
        raise TrainingError(f"{count} phantoms; give at least 1")
    folder.mkdir(parents=True, exist_ok=True)
    cases = [PhantomTrainingCase(seed, folder) for seed in range(first_seed, first_seed + count)]
    for name in _made(cases, processes):
        if on_case is not None:
            on_case(name)
    return cases


def _made(cases: list[PhantomTrainingCase], processes: int) -> Iterator[str]:
    missing = [case for case in cases if not case.path.is_file()]
    yield from (case.name for case in cases if case not in missing)
    processes = min(processes, len(missing))
    if processes <= 1:
        yield from map(_make, missing)
        return
    # Forked processes inherit torch's thread pools in a state they cannot use.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make, missing, chunksize=2)


def _make(case: PhantomTrainingCase) -> str:
    case.make()
    return case.name
