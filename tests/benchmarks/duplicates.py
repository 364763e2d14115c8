"""Copies found among CTs: 300 volumes, 50 altered copies, 10 of another phase, twins of one body.

Copies are resampled, cropped by 20 % on each axis, stored in another orientation, windowed and
noised, ten of each. The bounds of :mod:`atlas8k.content.likeness` were chosen on seeds from 0 and
from 30,000 on; the default seeds are others. Twins are CTs painted on one real body, bent and
resized differently; without that data they are left out. No peer: the dataset papers name a
perceptual hash and no program.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report
from tests.content.kit import BODIES

from abdomen_phantom import generate
from abdomen_phantom.bodies import Body, paint_body, read_bodies
from abdomen_phantom.setting import WIDE
from atlas8k.content.likeness import Fingerprint, compare, fingerprint
from atlas8k.core.grid import Grid, Volume

KINDS = ("resampled", "cropped", "turned", "windowed", "noised")
SPACING_MM = 4.0


def altered(ct: Volume, kind: str, rng: np.random.Generator) -> Volume:
    """A copy of a CT that is altered in one way."""
    array, affine = ct.array.astype(np.float32), ct.grid.affine
    if kind == "windowed":
        return Volume(np.clip(array, -175, 250), ct.grid)
    if kind == "noised":
        return Volume(array + rng.normal(0, 25, array.shape).astype(np.float32), ct.grid)
    step, start = np.eye(3), np.zeros(3)
    if kind == "resampled":
        step = np.diag(rng.uniform(0.8, 1.3, 3))
        shape = tuple(int(n / k) for n, k in zip(array.shape, np.diag(step), strict=True))
        array = ndimage.affine_transform(array, step, output_shape=shape, order=1)
    elif kind == "cropped":
        lost = [int(0.2 * n) for n in array.shape]
        start = np.array([rng.integers(0, n + 1) for n in lost])
        box = tuple(slice(s, s + n - k) for s, n, k in zip(start, array.shape, lost, strict=True))
        array = array[box]
    elif kind == "turned":
        old = array.shape
        array = np.flip(array.transpose(2, 0, 1), (0, 2))
        step = np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]], float)
        start = np.array([0, old[1] - 1, old[2] - 1])
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = step, start
    x, y, z = array.shape
    return Volume(array, Grid((x, y, z), affine @ move))


class Job(NamedTuple):
    """A CT to make: of a person, a twin painted on one body, altered, or in another phase."""

    seed: int
    kind: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind or 'person'}_{self.seed}"

    def ct(self) -> Volume:
        if self.kind == "twin":
            return paint_body(_body(), self.seed, grid_spacing_mm=SPACING_MM).ct
        if self.kind == "phase":
            own = generate(self.seed, WIDE, grid_spacing_mm=SPACING_MM).case.phase
            phase = "portal" if own != "portal" else "arterial"
            setting = replace(WIDE, phases={phase: 1.0})
            return generate(self.seed, setting, grid_spacing_mm=SPACING_MM).ct
        ct = generate(self.seed, WIDE, grid_spacing_mm=SPACING_MM).ct
        if not self.kind:
            return ct
        rng = np.random.default_rng([self.seed, KINDS.index(self.kind)])
        return altered(ct, self.kind, rng)


@functools.cache
def _body() -> list[Body]:
    return read_bodies(BODIES, ["s0004"])


def made(job: Job, work: Path | None) -> Fingerprint:
    """The fingerprint of a CT; where it is kept from an earlier run, that one."""
    path = work and work / f"{job.key}.bin"
    if path is not None and path.is_file():
        return Fingerprint.from_bytes(path.read_bytes())
    found = fingerprint(job.ct())
    if path is not None:
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(found.to_bytes())
        unfinished.replace(path)
    return found


def all_made(jobs: list[Job], work: Path | None, processes: int) -> dict[Job, Fingerprint]:
    """Every fingerprint, some processes at work."""
    if processes < 2:
        return {job: made(job, work) for job in jobs}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        found = pool.map(made, jobs, itertools.repeat(work), chunksize=4)
        return dict(zip(jobs, found, strict=True))


def main() -> None:
    """Print what was found, and what was found wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=300)
    parser.add_argument("--twins", type=int, default=30)
    parser.add_argument("--copies", type=int, default=10, help="of each kind")
    parser.add_argument("--first-seed", type=int, default=50_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--work", type=Path, help="keep fingerprints here, and go on with them")
    options = parse(parser, {"volumes": 8, "twins": 3, "copies": 1})
    first, count = options.first_seed, options.volumes - options.twins
    people = [Job(first + n) for n in range(count)]
    there = (BODIES / "s0004_structures.nii.gz").is_file()
    twins = [Job(first + n, "twin") for n in range(options.twins)] if there else []
    copies = [
        Job(first + (number * options.copies + n) % count, kind)
        for number, kind in enumerate(KINDS)
        for n in range(options.copies)
    ]
    phases = [Job(first + count - 1 - n, "phase") for n in range(options.copies)]
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
    prints = all_made([*people, *twins, *copies, *phases], options.work, options.processes)
    base = [*people, *twins]
    figures: dict[str, float] = {"volumes": len(base)}
    for kind in KINDS:
        pairs = {
            job.seed: compare(prints[Job(job.seed)], prints[job])
            for job in copies
            if job.kind == kind
        }
        figures[f"copies_{kind}"] = sum(
            one is not None and one.kind == "copy" for one in pairs.values()
        )
        print(kind, pairs, flush=True)
    other_phase = [compare(prints[Job(job.seed)], prints[job]) for job in phases]
    print("other phase", other_phase, flush=True)
    altered = [*copies, *phases]
    others = [
        *itertools.combinations(base, 2),
        *(
            (one, two)
            for one, two in itertools.product(altered, [*base, *altered])
            if one.seed != two.seed or two.kind == "twin"
        ),
    ]
    started = time.perf_counter()
    wrong = [
        (one.key, two.key, found)
        for one, two in others
        if (found := compare(prints[one], prints[two])) is not None
    ]
    took = time.perf_counter() - started
    print("wrong", wrong[:10], flush=True)
    figures |= {
        "copies": sum(figures[f"copies_{kind}"] for kind in KINDS),
        "of_copies": len(copies),
        "same_patient": sum(one is not None and one.kind == "same_patient" for one in other_phase),
        "of_same_patient": options.copies,
        "other_pairs": len(others),
        "wrong_pairs": len(wrong),
        "ms_a_pair": 1e3 * took / len(others),
    }
    full = Volume(
        np.asfortranarray(
            np.random.default_rng(0).normal(0, 300, (512, 512, 300)).astype(np.float32)
        ),
        Grid((512, 512, 300), np.diag([0.8, 0.8, 1.5, 1.0])),
    )
    started = time.perf_counter()
    fingerprint(full)
    figures["seconds_full_size"] = round(time.perf_counter() - started, 2)
    report("duplicates", figures, options)


if __name__ == "__main__":
    main()
