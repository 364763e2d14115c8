"""What `atlas8k plan` says of 8,448 volumes, and of a run that is then made."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.server.tiny import write_ct

from atlas8k.core.volume import Grid, read_ct, read_grid, resample, write_nifti
from atlas8k.services.cluster.schedule import PAPERS, abdomenatlas_slices
from atlas8k.store import Ledger, locate

MEASURED = 20
"""Volumes that a plan rests on, and as many that it is checked by."""
DEATHS_AN_HOUR = 0.02
"""Of a worker: one in two days."""


def write_cts(folder: Path, names: list[str], phantoms: list[Path], seed: int) -> None:
    """Write phantoms on 512 x 512 voxels a slice, with as many slices as the paper's CTs have."""
    rng = np.random.default_rng(seed)
    sizes = abdomenatlas_slices(len(names), rng)
    folder.mkdir(exist_ok=True)
    for number, (name, slices) in enumerate(zip(names, sizes, strict=True)):
        ct = read_ct(phantoms[number % len(phantoms)])
        shape = (512, 512, int(slices))
        steps = (np.array(ct.grid.shape) - 1) / (np.array(shape) - 1)
        affine = ct.grid.affine @ np.diag([*steps, 1.0])
        fine = Grid(shape, affine)
        hu = resample(ct.array, ct.grid, fine, linear=True)
        write_nifti(folder / f"{name}.nii.gz", hu.astype(np.int16), fine)


def schedule(
    folder: Path,
    models: Path,
    phantoms: list[Path],
    command: Callable[..., subprocess.CompletedProcess[str]],
    write_s: float,
) -> dict[str, Any]:
    """Score some volumes, plan the rest and the paper's number, score the rest.

    Parameters
    ----------
    phantoms
        Files; none: tiny CTs, as for ``--quick``.
    command
        Runs a command of atlas8k to its end.
    write_s
        What the writer takes for a result.

    Returns
    -------
    dict
        ``hours_1``, ``hours_8``, ``hours_64``, ``writer_busy_64``, ``planned_s`` and ``run_s``
        of the rest on two workers, by their sizes, ``plan_error``, ``peak_mb``.
    """
    studies = folder / "planned"
    names = [[f"{part}_{n:02d}" for n in range(MEASURED)] for part in ("measured", "rest")]
    found: dict[str, Any] = {}
    for part, some in enumerate(names):
        if phantoms:
            write_cts(studies, some, phantoms, part)
        else:
            for number, name in enumerate(some if part == 0 else some[:2]):
                write_ct(studies / f"{name}.nii.gz", number)
        asked = ("plan", "--studies", str(studies), "--json")
        if part == 1:
            grids = [read_grid(path).shape for path in studies.glob("rest_*.nii.gz")]
            sizes = folder / "sizes.txt"
            sizes.write_text("\n".join("{} {} {}".format(*shape) for shape in grids))
            planned = command(*asked, "--sizes", str(sizes), "--workers", "2")
            found["plan_error"] = json.loads(planned.stdout)["fit"]["median_error"]
            found["planned_s"] = json.loads(planned.stdout)["schedules"][0]["hours"] * 3600
        more = ("--cluster", "local", "--workers", "2")
        command("score", str(studies), "--models", str(models), *more)
    found["run_s"] = seconds_of_run(studies, "rest_")
    losses = ("--deaths-an-hour", str(DEATHS_AN_HOUR), "--write-seconds", str(write_s))
    papers = ("--volumes", str(PAPERS), *(("--sizes", "abdomenatlas") if phantoms else ()))
    told = json.loads(command(*asked, *papers, *losses).stdout)
    for one in told["schedules"]:
        found[f"hours_{one['workers']}"] = round(one["hours"], 2)
        found[f"writer_busy_{one['workers']}"] = round(one["writer_busy"], 3)
    return {
        **found,
        "planned_s": round(found["planned_s"], 1),
        "run_s": round(found["run_s"], 1),
        "seconds_a_ct": told["seconds_a_volume"],
        "read_gb": told["read_gb"],
        "peak_mb": round(told["peak_mb_a_worker"].get("memory", 0.0)),
    }


def seconds_of_run(studies: Path, start: str) -> float:
    """Seconds from the first volume of that name being handed out to the last one's entry."""
    ledger = Ledger(locate(str(studies)))
    try:
        with ledger.read() as tx:
            rows = tx.run(
                "SELECT r.at, r.seconds FROM result r JOIN volume v ON v.id = r.volume"
                " WHERE v.name LIKE ?",
                f"{start}%",
            ).fetchall()
    finally:
        ledger.close()
    return max(at for at, _ in rows) - min(at - seconds for at, seconds in rows)
