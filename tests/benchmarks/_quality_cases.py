"""Synthetic CTs predicted by the embedded networks, one after another, kept on disk.

A case is a phantom of :mod:`_mix`, painted as its scanner's slices look
after resampling to 4 mm, where the networks work; its truth is painted exactly, on voxels
of 1.5 x 1.5 x 3 mm, so that thick slices hide nothing. Or it is a CT painted on one of the
two held-out bodies, on its scanner's own grid, with the truth of that grid. The files of a
case are what the analysis needs: probabilities as bytes on the working grid, the ensemble's
label and the truth, and a row of sizes. A case whose row is there, of the same networks, is not
predicted again.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from _data import BODIES
from _mix import SHARES, mix_setting

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "apps" / "atlas8k" / "model" / "embedded"
CT_MM = 4.0
FINEST_MM = 1.5
"""Voxels of the painted CTs within a slice are no smaller."""
BODY_HU = -500.0
MARGIN = 4
"""Voxels around all organs, true and predicted, in which the truth is painted."""


@dataclass(frozen=True)
class Sample:
    """A set of CTs: cases 0 to ``count - 1``, seeds from ``first_seed`` on.

    ``bodies`` are the subjects that are painted in turn; phantoms where there are none.
    """

    name: str
    first_seed: int
    count: int
    bodies: tuple[str, ...] = ()

    def draw(self, number: int) -> Drawn:
        """The CT of a case."""
        if self.bodies:
            return _painted(self.first_seed + number, self.bodies[number % len(self.bodies)])
        return _phantom(self.first_seed + number, number)


TEST = Sample("test", 12_000, 400)
"""Judged once, with settings chosen before."""

TUNING = Sample("tuning", 13_000, 40)
"""For choosing settings."""

HELD_OUT = Sample("bodies", 11_000, 200, ("s0327", "s0009"))
"""Bodies that no network was trained on and nothing was chosen by."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A CT, what is known of it, and its truth.

    ``truth(grid, pseudo)`` is the truth on a grid, ``grid.shape`` uint8, of which ``pseudo``
    is the networks' label.
    """

    phantom: Any
    truth: Callable[[Any, np.ndarray], np.ndarray]
    share: float
    slice_mm: float


def predictor() -> Any:
    """The embedded networks, loaded, one thread."""
    import torch

    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.models.predict import Predictor

    torch.set_num_threads(1)
    files = sorted(EMBEDDED.glob("*.safetensors"))
    return Predictor({path.stem: load_checkpoint(path) for path in files})


def row_of(folder: Path, number: int) -> Path:
    """Where the sizes of a case are; written last."""
    return folder / f"case_{number:03d}.json"


def codes_of(folder: Path, number: int) -> Path:
    """Where the probabilities of a case are."""
    return folder / f"case_{number:03d}.codes"


def labels_of(folder: Path, number: int) -> Path:
    """Where the ensemble's label and the truth of a case are."""
    return folder / f"case_{number:03d}.labels"


def ct_of(folder: Path, number: int) -> Path:
    """Where the CT of a case is, on the thinned grid that places are found on."""
    return folder / f"case_{number:03d}.ct.npy"


@cache
def networks_hash() -> str:
    """Hash of the networks that predict: what is kept of others is not theirs."""
    from atlas8k.core.files import sha256_of

    files = sorted(EMBEDDED.glob("*.safetensors"))
    return sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()[:12]


def row_kept(folder: Path, number: int) -> dict[str, Any] | None:
    """The row of a case, ``None`` where there is none, or one of other networks."""
    try:
        row: dict[str, Any] = json.loads(row_of(folder, number).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return row if row.get("networks") == networks_hash() else None


def make(networks: Any, sample: Sample, number: int, folder: Path) -> dict[str, Any]:
    """Paint, predict and keep one case.

    Returns
    -------
    dict
        What the case is, and its sizes; ml where nothing else is said.
    """
    from atlas8k.attention import SalientSettings
    from atlas8k.attention.packed import pack, pack_codes
    from atlas8k.attention.slabs import quantise
    from atlas8k.attention.thinned import thinned_ct
    from atlas8k.core.rankings import RANKINGS
    from atlas8k.services.prediction.answers import Answers

    begun = time.perf_counter()
    drawn = sample.draw(number)
    phantom = drawn.phantom
    prediction = networks.predict(phantom.ct)
    grid = prediction.grid
    pseudo = prediction.label()
    truth = drawn.truth(grid, pseudo)
    ct = phantom.ct
    answers = Answers.of(prediction, SalientSettings(), f"case {number}", ct)
    salient = answers.salient
    # What the app would keep of this CT, and rank by.
    kept = answers.organ_scores()
    wrong = pseudo != truth
    by_organ = [
        float(np.count_nonzero((pseudo == organ) ^ (truth == organ)) * grid.voxel_ml)
        for organ in range(1, 10)
    ]
    row = {
        "case": number,
        "seed": sample.first_seed + number,
        "share": drawn.share,
        "slice_mm": drawn.slice_mm,
        "phase": phantom.case.phase,
        "hard_cases": phantom.case.hard_cases,
        "spacing_mm": grid.spacing,
        "field_of_view_ml": float(np.prod(ct.grid.shape) * ct.grid.voxel_ml),
        "body_ml": float(np.count_nonzero(ct.array > BODY_HU) * ct.grid.voxel_ml),
        "organ_ml": float(np.count_nonzero(pseudo) * grid.voxel_ml),
        "true_organ_ml": float(np.count_nonzero(truth) * grid.voxel_ml),
        "wrong_ml": float(np.count_nonzero(wrong) * grid.voxel_ml),
        "wrong_organ_ml": by_organ,
        "figures": {
            ranking: {organ: score.figure(ranking) for organ, score in kept.items()}
            for ranking in RANKINGS
            if ranking != "expected_error"  # by what was learnt of errors, which may change
        },
        "traits": answers.traits(),
        "sizes": asdict(salient.sizes),
        "networks": networks_hash(),
    }
    publish(codes_of(folder, number), pack_codes(quantise(prediction.probs), grid))
    publish(ct_of(folder, number), as_npy(thinned_ct(grid, ct).astype(np.int16)))
    affine = grid.affine.tolist()
    publish(labels_of(folder, number), pack(np.stack([pseudo, truth]), {"affine": affine}))
    row["seconds"] = round(time.perf_counter() - begun, 2)
    publish(row_of(folder, number), json.dumps(row).encode())
    return row


def _phantom(seed: int, number: int) -> Drawn:
    """A phantom of the mix."""
    from abdomen_phantom import generate
    from abdomen_phantom.generate import PhantomPainter
    from atlas8k.models.regrid import nearest

    setting = mix_setting(number)
    made = generate(seed, setting, grid_spacing_mm=CT_MM)

    def truth(grid: Any, pseudo: np.ndarray) -> np.ndarray:
        coarse = nearest(made.label.array, made.label.grid, grid)
        return painted_truth(seed, setting, grid, pseudo, coarse)

    slice_mm = PhantomPainter(seed, setting, coarse=False).scan.thickness_mm
    return Drawn(made, truth, SHARES[number % len(SHARES)], slice_mm)


def _painted(seed: int, subject: str) -> Drawn:
    """A CT painted on a body."""
    from abdomen_phantom.bodies import paint_body
    from atlas8k.models.regrid import nearest

    made = paint_body(_body(subject), seed, finest_mm=FINEST_MM)

    def truth(grid: Any, _: np.ndarray) -> np.ndarray:
        return nearest(made.label.array, made.label.grid, grid)

    return Drawn(made, truth, 0.0, max(made.ct.grid.spacing))


@cache
def _body(subject: str) -> Any:
    from abdomen_phantom.bodies import read_bodies

    return read_bodies(BODIES, [subject])


def painted_truth(
    seed: int, setting: Any, grid: Any, pseudo: np.ndarray, coarse: np.ndarray
) -> np.ndarray:
    """The truth on the working grid, two slices at a time: ``grid.shape`` uint8.

    ``coarse``, the truth of the 4 mm CT, says where organs are at all.
    """
    from abdomen_phantom import exact_label
    from atlas8k.attention.regions import bounding_box
    from atlas8k.core.volume import Grid

    out = np.zeros(grid.shape, dtype=np.uint8)
    outer = bounding_box(coarse + pseudo)
    if outer is None:
        return out
    box = tuple(
        slice(max(0, s.start - MARGIN), min(n, s.stop + MARGIN))
        for s, n in zip(outer, grid.shape, strict=True)
    )
    part = grid.crop(box)
    pairs = -(-part.shape[2] // 2)
    affine = part.affine.copy()
    affine[2, 2] *= 2
    affine[2, 3] += part.affine[2, 2] / 2
    label = exact_label(seed, setting, Grid((*part.shape[:2], pairs), affine))
    out[box] = np.repeat(label, 2, axis=2)[:, :, : part.shape[2]]
    return out


def as_npy(array: np.ndarray) -> bytes:
    """An array as a file of numpy's holds it."""
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def publish(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_suffix(".part")
    temporary.write_bytes(data)
    os.replace(temporary, path)
