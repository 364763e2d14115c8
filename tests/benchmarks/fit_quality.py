"""Fit ``predicted_quality.json`` of the embedded networks on synthetic CTs they have not seen.

Usage: ``python tests/benchmarks/fit_quality.py --out apps/atlas8k/model/embedded``

Phantoms of the mix (``_mix``), seeds from 13,000, and CTs painted on the four bodies with an
abdomen that the networks were trained on, seeds from 15,000; the CTs that ``attention_quality.py``
judges by have other seeds and other bodies. A case takes some eight seconds and a core, the fit a
minute or two; what is made of a case is kept in the work folder, and a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _data import BODIES
from _quality_cases import Sample, codes_of, ct_of, labels_of, make, predictor, row_kept
from _quality_examples import example_of
from _quick import parse, report

TRAINED_BODIES = ("s0001", "s0004", "s0006", "s0328")
PHANTOMS = Sample("tuning", 13_000, 200)
PAINTED = Sample("train_bodies", 15_000, 200, TRAINED_BODIES)


def example(folder: Path, number: int) -> Any:
    """What a kept case teaches."""
    from atlas8k.attention.packed import unpack, unpack_codes
    from atlas8k.attention.thinned import thinned
    from atlas8k.core.volume import Grid

    probs, _ = unpack_codes(codes_of(folder, number).read_bytes(), f"case {number}")
    (pseudo, truth), meta = unpack(labels_of(folder, number).read_bytes(), f"case {number}")
    grid = Grid(pseudo.shape, np.array(meta["affine"]))
    volume = thinned(probs, pseudo, grid, np.load(ct_of(folder, number)).astype(np.float32))
    return example_of(volume, pseudo, truth, grid, number)


def main() -> None:
    """Make the cases, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=47)
    parser.add_argument("--bodies", type=int, default=46, help="painted CTs")
    parser.add_argument("--work", type=Path, help="folder of what is kept between runs")
    parser.add_argument("--out", type=Path, help="folder of the networks; nothing is written else")
    options = parse(parser, {"phantoms": 6, "bodies": 0})
    with tempfile.TemporaryDirectory() as folder:
        run(options, Path(folder) if options.quick or not options.work else options.work)


def run(options: argparse.Namespace, work: Path) -> None:
    """Everything that is asked for."""
    from tqdm import tqdm

    from atlas8k.attention.quality_fit import fit
    from atlas8k.attention.quality_model import QUALITY_FILE
    from atlas8k.core.files import write_json

    if options.bodies and not BODIES.is_dir():
        raise SystemExit(
            f"no CTs painted on bodies: {BODIES} is not there; --bodies 0 goes without"
        )
    tasks = [(PHANTOMS, number) for number in range(options.phantoms)]
    tasks += [(PAINTED, number) for number in range(options.bodies)]
    networks, examples = None, []
    for sample, number in tqdm(tasks, unit="CT"):
        folder = work / sample.name
        folder.mkdir(parents=True, exist_ok=True)
        if row_kept(folder, number) is None or not ct_of(folder, number).exists():
            networks = networks or predictor()
            make(networks, sample, number, folder)
        examples.append(example(folder, number))
    made_of = (
        f"{options.phantoms} phantoms (seeds from 13,000) and {options.bodies} CTs painted on "
        f"{', '.join(TRAINED_BODIES[:-1])} and {TRAINED_BODIES[-1]} (seeds from 15,000)"
    )
    model = fit(examples, made_of)
    if options.out:
        write_json(options.out / QUALITY_FILE, model.as_dict())
        print(f"{options.out / QUALITY_FILE} written: {made_of}")
    errors = np.concatenate([one.error for one in examples])
    report(
        "fit_quality",
        {"cases": len(examples), "voxels": len(errors), "in_errors": float(errors.mean())},
        options,
    )


if __name__ == "__main__":
    main()
