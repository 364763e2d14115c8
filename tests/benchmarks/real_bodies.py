"""DSC of networks on CTs of real anatomy: painted on two held-out bodies, phantoms, real CTs.

Usage: ``python tests/benchmarks/real_bodies.py [--models FOLDER] [--quick]``

(a) Synthetic CTs painted on the label maps of s0327 and s0009, as a scanner writes them. The
two bodies are never trained on, mixed into others or used for any choice; it is two bodies.
(b) Phantoms, so many of each phase. (c) Real CTs: TotalSegmentator's example against the
labels that go with it (made by a network), and s0009 against its map; and what is found in a
head and a neck, s0002 and s0003, where none of the nine organs is. Seeds from 10,000 on are
kept for benchmarks. Networks are not chosen by (a) or (c).

DSC is the mean over the CTs of an organ, then over organs. Organs that a CT shows less than
1 ml of are left out there. Needs ``$ATLAS8K_DATA``, or ``../shared/data`` beside the project,
for (a) and (c); they are left out, and it is said, where it is not there.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType

import numpy as np
from _data import BODIES, EXAMPLE, ROOT

FIRST_SEED = 10_000
HELD_OUT = ("s0327", "s0009")
NEGATIVES = ("s0002", "s0003")
PHASES = ("portal", "arterial", "pre", "delayed")
LEAST_ML = 1.0
FINEST_MM = 1.5
"""Voxels of the painted CTs within a slice are no smaller: a CT takes seconds then."""
MODELS = ROOT / "apps" / "atlas8k" / "model" / "embedded"
ENSEMBLE = "ensemble"
WHOLE, MOST = 32, 128


@dataclass(frozen=True)
class Task:
    """A CT to judge networks on."""

    group: str
    seed: int = 0
    what: str = ""


@dataclass(frozen=True)
class Result:
    """A CT's figures by network.

    ``dsc`` is ``(organs,)``, NaN where the organ is not there; ``ml`` is of organs found that
    are not there.
    """

    task: Task
    dsc: dict[str, np.ndarray]
    ml: dict[str, float]


_predictor = None


def start(models: Path, way: str) -> None:
    """Load the networks once in each process."""
    import torch

    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.models.predict import Predictor

    global _predictor  # noqa: PLW0603 - one a process
    torch.set_num_threads(1)
    loaded = {path.stem: load_checkpoint(path) for path in sorted(models.glob("*.safetensors"))}
    if not loaded:
        raise SystemExit(f"{models}: no checkpoints (*.safetensors) in it")
    changes: dict[str, object] = {}
    if way == "whole":
        changes = {"whole": WHOLE, "window_size": (MOST,) * 3}
    elif way == "windows":
        changes = {"whole": None, "window_size": (64, 64, 64), "overlap": 0.5}
    for name, checkpoint in loaded.items():
        preprocessing = replace(checkpoint.preprocessing, **changes)
        loaded[name] = replace(checkpoint, preprocessing=preprocessing)
    _predictor = Predictor(loaded)


@cache
def body(name: str):
    """A held-out body."""
    from abdomen_phantom.bodies import read_bodies

    return read_bodies(BODIES, [name])


def ct_and_truth(task: Task):
    """The CT of a task, and its label on the same grid."""
    from abdomen_phantom import generate
    from abdomen_phantom.bodies import paint_body, read_organs
    from atlas8k.core.volume import read_ct, read_label

    if task.group == "real_bodies":
        made = paint_body(body(task.what), task.seed, finest_mm=FINEST_MM)
        return made.ct, made.label
    if task.group == "phantoms":
        setting = replace(phantom_setting(), phases=MappingProxyType({task.what: 1.0}))
        made = generate(task.seed, setting)
        return made.ct, made.label
    if task.group == "example":
        return read_ct(EXAMPLE / "ct.nii.gz"), read_label(EXAMPLE / "labels_model_v2.nii.gz")
    truth = read_organs(BODIES / f"{task.what}_structures.nii.gz")
    return read_ct(BODIES / f"{task.what}_ct.nii.gz"), truth


def phantom_setting():
    """The widest distribution of phantoms."""
    import abdomen_phantom as phantom

    return getattr(phantom, "WIDE", phantom.STANDARD)


def judge(task: Task) -> Result:
    """Predict a CT, and compare on its own grid."""
    from atlas8k.metrics.overlap import counts

    ct, truth = ct_and_truth(task)
    if not truth.grid.same_as(ct.grid, tolerance_voxels=0.1):
        raise SystemExit(f"{truth.path}: not on the grid of its CT")
    prediction = _predictor.predict(ct)
    labels = {name: prediction.label_on(ct.grid, name) for name in prediction.names}
    labels[ENSEMBLE] = prediction.label_on(ct.grid)
    dsc, ml = {}, {}
    for name, label in labels.items():
        found = counts(label, truth.array)
        there = found.truth * ct.grid.voxel_ml >= LEAST_ML
        dsc[name] = np.where(there, found.dsc, np.nan)
        ml[name] = float(found.spurious.sum() * ct.grid.voxel_ml)
    return Result(task, dsc, ml)


def tasks(synthetic: int, phantoms: int) -> list[Task]:
    """All CTs, those of real patients first."""
    out: list[Task] = []
    if BODIES.is_dir():
        out += [Task("example")] if (EXAMPLE / "ct.nii.gz").is_file() else []
        out.append(Task("s0009", what="s0009"))
        out += [Task("negatives", what=name) for name in NEGATIVES]
        out += [
            Task("real_bodies", FIRST_SEED + i, HELD_OUT[i % len(HELD_OUT)])
            for i in range(synthetic)
        ]
    else:
        print(f"{BODIES} is not there: phantoms only")
    out += [Task("phantoms", FIRST_SEED + i, PHASES[i % len(PHASES)]) for i in range(phantoms)]
    return out


def results(todo: list[Task], models: Path, way: str, processes: int) -> Iterator[Result]:
    """Each CT's, as they are done."""
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=start, initargs=(models, way)) as pool:
        yield from pool.map(judge, todo)


def mean_dsc(cases: list[Result], name: str) -> np.ndarray:
    """Mean over CTs by organ, ``(organs,)``; NaN where no CT has it."""
    values = np.array([case.dsc[name] for case in cases])
    n = np.isfinite(values).sum(axis=0)
    return np.where(n > 0, np.nansum(values, axis=0) / np.maximum(n, 1), np.nan)


def table(title: str, cases: list[Result]) -> dict[str, np.ndarray]:
    """Print organs by networks; mean DSC of every organ, by network."""
    from atlas8k.core.structures import ORGAN_NAMES

    names = list(cases[0].dsc)
    means = {name: mean_dsc(cases, name) for name in names}
    print(f"\n{title}: {len(cases)} CTs")
    print(f"{'DSC':14s}" + "".join(f"{name:>12s}" for name in names))
    for row, organ in enumerate(ORGAN_NAMES):
        print(f"{organ:14s}" + "".join(f"{means[name][row]:12.3f}" for name in names))
    print(f"{'mean':14s}" + "".join(f"{np.nanmean(means[name]):12.3f}" for name in names))
    print(f"{'false, ml':14s}" + "".join(f"{_ml(cases, name):12.1f}" for name in names))
    return means


def _ml(cases: list[Result], name: str) -> float:
    return float(np.mean([case.ml[name] for case in cases]))


def figures_of(group: str, means: dict[str, np.ndarray]) -> dict[str, float]:
    """Named figures of a group: the ensemble's mean, and each by network and organ."""
    from atlas8k.core.structures import ORGAN_NAMES

    out = {f"dsc_{group}": round(float(np.nanmean(means[ENSEMBLE])), 4)}
    for name, values in means.items():
        if name != ENSEMBLE:
            out[f"dsc_{group}_{name}"] = round(float(np.nanmean(values)), 4)
        for organ, value in zip(ORGAN_NAMES, values, strict=True):
            if np.isfinite(value):
                out[f"dsc_{group}_{name}_{organ}"] = round(float(value), 4)
    return out


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of checkpoints")
    parser.add_argument(
        "--way",
        choices=("stored", "whole", "windows"),
        default="stored",
        help="as the checkpoints say, all in one pass, or all in windows of 64 voxels",
    )
    parser.add_argument("--synthetic", type=int, default=40)
    parser.add_argument("--phantoms", type=int, default=60)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="a few CTs of each kind")
    options = parser.parse_args()
    if options.quick:
        options.synthetic, options.phantoms = min(1, options.synthetic), min(1, options.phantoms)
    groups: dict[str, list[Result]] = defaultdict(list)
    todo = tasks(options.synthetic, options.phantoms)
    if options.quick:  # the other real CTs take a minute
        todo = [task for task in todo if task.group not in ("s0009", "negatives")]
    for result in results(todo, options.models, options.way, options.processes):
        task = result.task
        groups[task.group].append(result)
        if task.group == "phantoms":
            groups[f"phantoms_{task.what}"].append(result)
        elif task.group == "real_bodies":
            groups[f"real_bodies_{task.what}"].append(result)
    figures: dict[str, float] = {}
    titles = {
        "real_bodies": f"Painted on {' and '.join(HELD_OUT)}",
        "phantoms": f"Phantoms, {phantom_setting().name}",
        "example": "TotalSegmentator's example, against its v2 labels",
        "s0009": "s0009, real CT",
        "negatives": "Head and neck",
    }
    for group, cases in sorted(groups.items()):
        means = table(titles.get(group, group), cases)
        if group == "negatives":
            figures |= {
                "negatives_ml" if name == ENSEMBLE else f"negatives_ml_{name}": round(
                    sum(case.ml[name] for case in cases), 1
                )
                for name in means
            }
        else:
            figures |= figures_of(group, means)
    quick = {"quick": True} if options.quick else {}
    print(json.dumps({"benchmark": "real_bodies", **quick, "figures": figures}))


if __name__ == "__main__":
    main()
