"""Copies found among CTs: 300 volumes, 50 altered copies, 10 of another phase, twins of one body.

Copies are resampled, cropped by 20 % on each axis, stored in another orientation, windowed and
noised, ten of each. Twins are CTs painted on one real body, bent and resized differently; without
that data they are left out. No peer: the dataset papers name a perceptual hash and no program.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report
from tests.content.kit import BODIES

from abdomen_phantom import generate
from abdomen_phantom.bodies import paint_body, read_bodies
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


def volumes(count: int, twins: int) -> list[Fingerprint]:
    """CTs of different people; the last ones are twins."""
    made = [fingerprint(generate(n, WIDE, grid_spacing_mm=SPACING_MM).ct) for n in range(count)]
    if (BODIES / "s0004_structures.nii.gz").is_file():
        bodies = read_bodies(BODIES, ["s0004"])
        made += [
            fingerprint(paint_body(bodies, n, grid_spacing_mm=SPACING_MM).ct) for n in range(twins)
        ]
    return made


def main() -> None:
    """Print what was found, and what was found wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=300)
    parser.add_argument("--twins", type=int, default=30)
    parser.add_argument("--copies", type=int, default=10, help="of each kind")
    options = parse(parser, {"volumes": 8, "twins": 3, "copies": 1})
    rng = np.random.default_rng(0)
    base = volumes(options.volumes - options.twins, options.twins)
    figures: dict[str, float] = {"volumes": len(base)}
    people = options.volumes - options.twins
    right = 0
    for number, kind in enumerate(KINDS):
        found = []
        for n in range(options.copies):
            seed = (number * options.copies + n) % people
            ct = generate(seed, WIDE, grid_spacing_mm=SPACING_MM).ct
            found.append(compare(base[seed], fingerprint(altered(ct, kind, rng))))
        figures[f"copies_{kind}"] = sum(one is not None and one.kind == "copy" for one in found)
        right += int(figures[f"copies_{kind}"])
        print(kind, [one and (one.kind, one.shape, one.brightness) for one in found], flush=True)
    other_phase = []
    for n in range(options.copies):
        seed = people - 1 - n
        own = generate(seed, WIDE, grid_spacing_mm=SPACING_MM).case.phase
        phase = "portal" if own != "portal" else "arterial"
        ct = generate(seed, replace(WIDE, phases={phase: 1.0}), grid_spacing_mm=SPACING_MM).ct
        other_phase.append(compare(base[seed], fingerprint(ct)))
    print("other phase", other_phase, flush=True)
    started = time.perf_counter()
    wrong = [
        (i, j, one)
        for (i, a), (j, b) in itertools.combinations(enumerate(base), 2)
        if (one := compare(a, b)) is not None
    ]
    print("wrong", wrong[:10], flush=True)
    figures |= {
        "copies": right,
        "of_copies": len(KINDS) * options.copies,
        "same_patient": sum(one is not None and one.kind == "same_patient" for one in other_phase),
        "of_same_patient": options.copies,
        "wrong_pairs": len(wrong),
        "ms_a_pair": 1e3 * (time.perf_counter() - started) / (len(base) * (len(base) - 1) / 2),
    }
    full = Volume(
        np.asfortranarray(rng.normal(0, 300, (512, 512, 300)).astype(np.float32)),
        Grid((512, 512, 300), np.diag([0.8, 0.8, 1.5, 1.0])),
    )
    started = time.perf_counter()
    fingerprint(full)
    figures["seconds_full_size"] = round(time.perf_counter() - started, 2)
    report("duplicates", figures, options)


if __name__ == "__main__":
    main()
