"""CTs, truth and first networks of ``extend_structures``: painted on bodies, or tiny."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tests.benchmarks import extend_structures as run
from tests.server.tiny import GRID, write_ct, write_networks

from atlas8k.core.volume import write_nifti


def painted(work: Path) -> tuple[list[Any], list[Any]]:
    """Ten CTs to learn on, in the studies folder, and those that are judged, beside it."""
    first_networks(work)
    learnt = []
    for place, (subject, count) in enumerate(run.LEARNT_ON):
        for number in range(count):
            seed = run.FIRST_SEED + 100 * place + number
            learnt.append(_paint(work, "studies", subject, seed))
    first = run.FIRST_SEED + 1000
    judged = [_paint(work, "held_out", run.HELD_OUT, first + n) for n in range(run.JUDGED)]
    return learnt, judged


_bodies: dict[str, Any] = {}


def _paint(work: Path, folder: str, subject: str, seed: int) -> Any:
    """Paint a CT where its file is missing; the CT is written last."""
    name = f"{subject}_{seed}"
    ct = run.Ct(name, work / folder / f"{name}.nii.gz", work / "truth" / f"{name}.nii.gz")
    if ct.path.exists():
        return ct
    from abdomen_phantom.bodies import paint_body, read_bodies

    if subject not in _bodies:
        _bodies[subject] = read_bodies(run.BODIES, [subject])
    body = _bodies[subject]
    if missing := set(run.SET.names) - {*body[0].known(run.SET)} - {*run.UNKNOWN}:
        raise SystemExit(f"{subject}: no map of {', '.join(sorted(missing))}")
    made = paint_body(body, seed, grid_spacing_mm=run.CT_MM, structures=run.SET, whole=True)
    for path, volume in ((ct.truth, made.label), (ct.path, made.ct)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, volume.array, volume.grid)
    print(f"painted {name}: {made.ct.array.shape}", flush=True)
    return ct


def first_networks(work: Path) -> None:
    """The embedded U-Net and nnU-Net at 6 mm, as the networks of the app."""
    import sys

    sys.path.insert(0, str(Path(__file__).parent))
    from _tuning_place import Place, Scale

    place = Place(work, Scale(learnt_from=0))
    place.start()
    embedded = work / "app" / "model" / "embedded"
    if not embedded.is_dir():
        embedded.parent.mkdir(parents=True, exist_ok=True)
        partial = embedded.with_name("embedded.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name in place.scale.networks:
            shutil.copy(place.first_networks / f"{name}.safetensors", partial)
        partial.rename(embedded)


def tiny(work: Path) -> tuple[list[Any], list[Any]]:
    """Two CTs of noise with boxes as structures, one of which is judged."""
    write_networks(work / "app" / "model")
    truth = np.zeros(GRID.shape, np.uint8)
    for place, name in enumerate(("liver", "spleen", "duodenum", "bladder")):
        truth[4 + 3 * place : 7 + 3 * place, 5:12, 4:12] = run.SET.ids[name]
    out = []
    for number, folder in enumerate(("studies", "held_out")):
        ct = run.Ct(
            f"ct_{number}", work / folder / f"ct_{number}.nii.gz", work / f"t{number}.nii.gz"
        )
        ct.path.parent.mkdir(parents=True)
        write_ct(ct.path, number)
        write_nifti(ct.truth, truth, GRID)
        out.append(ct)
    return out[:1], out[1:]
