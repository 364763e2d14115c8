"""CTs on which strokes are judged: painted, predicted by the embedded networks, and stored.

A case lies on a grid of 2 mm, on which the networks meet here, cut to its organs, true or
predicted, and 30 mm around: HU, byte codes of the probabilities, the ensemble's label and the
truth. One that is stored, of the same networks, is not predicted again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _data import BODIES, EXAMPLE
from _quality_cases import EMBEDDED, _body, networks_hash, publish

MARGIN_MM = 30.0
GRID_MM = 2.0


@dataclass(frozen=True)
class Group:
    """CTs of one kind: cases 0 to ``count - 1``, seeds from ``first_seed`` on."""

    name: str
    first_seed: int
    count: int
    bodies: tuple[str, ...] = ()

    def draw(self, number: int) -> tuple[Any, Any]:
        """Return a CT and its true label, two volumes."""
        from abdomen_phantom import WIDE, generate
        from abdomen_phantom.bodies import paint_body, read_organs
        from atlas8k.core.volume import read_ct, read_label

        seed = self.first_seed + number
        if self.name == "real":
            if number == 0:
                return read_ct(EXAMPLE / "ct.nii.gz"), read_label(
                    EXAMPLE / "labels_model_v2.nii.gz"
                )
            return read_ct(BODIES / "s0009_ct.nii.gz"), read_organs(
                BODIES / "s0009_structures.nii.gz"
            )
        if self.bodies:
            subject = self.bodies[number % len(self.bodies)]
            made = paint_body(_body(subject), seed, grid_spacing_mm=GRID_MM)
        else:
            made = generate(seed, WIDE, grid_spacing_mm=GRID_MM)
        return made.ct, made.label


PHANTOMS = Group("phantoms", 15_000, 60)
HELD_OUT = Group("bodies", 16_000, 30, ("s0327", "s0009"))
REAL = Group("real", 0, 2)
TUNING = Group("tuning", 14_000, 20)
TUNING_BODIES = Group("tuning_bodies", 14_500, 6, ("s0004", "s0328"))
"""For choosing settings; these bodies have been trained on, other ones are for tests only."""
GROUPS = {one.name: one for one in (PHANTOMS, HELD_OUT, REAL, TUNING, TUNING_BODIES)}


@dataclass(frozen=True, eq=False)
class Stored:
    """A case.

    Attributes
    ----------
    ct
        ``(X, Y, Z)`` int16 HU.
    probs
        ``(networks, organs, X, Y, Z)`` float32.
    pseudo, truth
        ``(X, Y, Z)`` uint8.
    affine
        Of all of them, RAS+ mm.
    """

    name: str
    ct: np.ndarray
    probs: np.ndarray
    pseudo: np.ndarray
    truth: np.ndarray
    affine: np.ndarray


def predictor() -> Any:
    """Return the embedded networks, loaded, one thread, their probabilities on a grid of 2 mm."""
    import torch

    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.models.predict import Predictor

    torch.set_num_threads(1)
    files = sorted(EMBEDDED.glob("*.safetensors"))
    return Predictor({path.stem: load_checkpoint(path) for path in files}, grid_mm=GRID_MM)


def stored(folder: Path, group: Group, number: int, networks: Any) -> Stored:
    """Return a case; it is painted and predicted where it is not stored.

    Parameters
    ----------
    networks
        Function that loads the networks, called where a case has to be predicted.
    """
    from atlas8k.attention.probabilities import LEVELS

    path = folder / f"{group.name}_{number:03d}.npz"
    if not path.is_file() or _of(path) != networks_hash():
        _make(path, group, number, networks())
    with np.load(path) as found:
        probs = LEVELS.astype(np.float32)[found["codes"]]
        return Stored(
            path.stem, found["ct"], probs, found["pseudo"], found["truth"], found["affine"]
        )


def _of(path: Path) -> str:
    with np.load(path) as found:
        return str(found["networks"])


def _make(path: Path, group: Group, number: int, networks: Any) -> None:
    import io

    from atlas8k.attention.regions import bounding_box
    from atlas8k.attention.slabs import quantise
    from atlas8k.core.volume import resample

    begun = time.perf_counter()
    ct, label = group.draw(number)
    prediction = networks.predict(ct)
    grid = prediction.grid
    pseudo = prediction.label()
    truth = resample(label.array, label.grid, grid, linear=False).astype(np.uint8)
    box = bounding_box(pseudo + truth)
    if box is None:
        raise SystemExit(f"{path.name}: no organ, true or predicted")
    margins = [round(MARGIN_MM / mm) for mm in grid.spacing]
    box = tuple(
        slice(max(0, s.start - m), min(n, s.stop + m))
        for s, m, n in zip(box, margins, grid.shape, strict=True)
    )
    part = grid.crop(box)
    hu = resample(ct.array.astype(np.float32), ct.grid, part, linear=True, fill=-1000)
    data = io.BytesIO()
    np.savez_compressed(
        data,
        ct=np.rint(hu).astype(np.int16),
        codes=quantise(prediction.probs[(slice(None), slice(None), *box)]).codes,
        pseudo=pseudo[box],
        truth=truth[box],
        affine=part.affine,
        networks=np.array(networks_hash()),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, data.getvalue())
    seconds = round(time.perf_counter() - begun, 1)
    print(json.dumps({"case": path.stem, "shape": part.shape, "seconds": seconds}), flush=True)
