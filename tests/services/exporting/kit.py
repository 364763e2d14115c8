"""A small campaign with every way an organ can come to be known, and what it exports to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.services.exporting.export import Exported, ExportSettings, export
from atlas8k.services.exporting.selection import select
from atlas8k.services.labels.service import LabelService, Receipt
from atlas8k.store import Holder, OrganSource, VolumeEntry

SHAPE = (14, 10, 9)
# Oblique, anisotropic, left-handed.
TURN = np.array([[-0.96, -0.28, 0, 0], [-0.28, 0.96, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
GRID = Grid(SHAPE, TURN @ np.diag([2.0, 2.0, 3.0, 1.0]))
INFO = [{"name": name, "idx": i} for name, i in ORGAN_IDS.items()]
ANNA, BEN = (Holder.identify(user=name) for name in ("anna", "ben"))
RIGHT = {"volume_is_right": list(ORGAN_NAMES)}


def columns(*organs: str, start: int = 0) -> npt.NDArray[np.uint8]:
    """Each organ as a slab along the first axis, some voxels from `start` on along the second."""
    array = np.zeros(SHAPE, np.uint8)
    for organ in organs:
        array[ORGAN_IDS[organ], start : start + 5, 2:6] = ORGAN_IDS[organ]
    return array


def write_ct(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(-100, 200, SHAPE).astype(np.int16)
    return write_nifti(path, voxels, GRID)


class Campaign:
    """A studies folder with its label service, opened where it is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.studies = folder, folder / "studies"
        self.service = LabelService.open(self.studies)

    @classmethod
    def begun(cls, folder: Path, *volumes: str) -> Campaign:
        """Make one with such CTs in it."""
        (folder / "studies").mkdir()
        for seed, volume in enumerate(volumes):
            write_ct(folder / "studies" / f"{volume}.nii.gz", seed)
        made = cls(folder)
        made.service.ledger.register_model_version("m0", {"networks": "embedded"})
        made.service.ledger.add_volumes([VolumeEntry(volume, "BTCV") for volume in volumes])
        return made

    def pseudo(self, volume: str, *organs: str) -> None:
        self.service.keep_pseudo(volume, columns(*organs), GRID, {"model_version": "m0"})

    def public(self, volume: str, **states: str) -> None:
        there = [organ for organ, state in states.items() if state == "present"]
        organs = {organ: OrganSource("public", state, "BTCV") for organ, state in states.items()}
        self.service.keep_public(volume, columns(*there), GRID, organs)

    def submit(
        self, volume: str, array: npt.NDArray[np.uint8], who: Holder = ANNA, **said: Any
    ) -> Receipt:
        sent = write_nifti(self.folder / "sent.nii.gz", array, GRID)
        params = {"label_info": INFO, **RIGHT, **said}
        return self.service.submit(volume, sent, who, params)

    def export(self, name: str = "out", progress: Any = iter, **settings: Any) -> Exported:
        said = ExportSettings(**settings)
        chosen = select(self.service.folder, said.require, said.organs, said.rename, said.purpose)
        return export(self.service.folder, self.folder / name, said, chosen, progress=progress)


def mixed(folder: Path) -> Campaign:
    """``whole``: every organ known; ``part``: some only; ``seen``, ``new``: predicted."""
    made = Campaign.begun(folder, "new", "part", "seen", "whole")
    rest = [organ for organ in ORGAN_NAMES if organ not in ("liver", "spleen", "stomach")]
    for volume in ("new", "part", "seen", "whole"):
        made.pseudo(volume, *(o for o in ORGAN_NAMES if o != "gall_bladder"))
    made.public("whole", liver="present", spleen="absent")
    array = columns(*(o for o in rest if o != "gall_bladder")) | columns("stomach", start=2)
    array |= columns("liver")
    made.submit("whole", array, looked_at=rest, absent=["gall_bladder"])
    made.public("part", liver="present")
    made.submit("seen", columns(*(o for o in ORGAN_NAMES if o != "gall_bladder")))
    return made


def manifest(out: Path) -> dict[str, Any]:
    """The manifest, its volumes by name."""
    said = json.loads((out / "manifest.json").read_text())
    return {**said, "volumes": {one["name"]: one for one in said["volumes"]}}


def files(out: Path) -> dict[str, bytes]:
    """Every file below a folder by its path."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
