"""Memory of a training on ten CTs of 512 x 512 x 400, data loading and gate included.

Usage: ``python tests/benchmarks/training_memory.py [--work FOLDER] [--volumes 10]``

Resident memory of the process and of all its children, looked at every 50 ms, in three
processes of their own:

* ``peak_gb_served``: the three embedded networks (4 mm) fine-tuned as the server does it;
* ``peak_gb_fine``: the embedded U-Net's architecture at 1.5 mm in windows of 96, so that
  every volume is prepared with 20 million voxels, with two workers;
* ``peak_gb_gate``: served and new networks, six in all, side by side on a held-out volume.

``peak_gb`` is the largest of them. The volumes are a phantom of 410 x 410 x 400 mm under ten
names, int16 in .nii.gz: memory does not depend on what they show. What a network's own size
costs is not measured here; a paper-size Swin UNETR is for a GPU.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _quick import parse, report

SHAPE = (512, 512, 400)
QUICK = (96, 96, 64)
SPACING = (0.8, 0.8, 1.0)
ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "apps" / "atlas8k" / "model" / "embedded"
STEPS = 4
MEASURED = 1
PARTS = ("served", "fine", "gate")
GB = 1e9


def write_volumes(work: Path, count: int, shape: tuple[int, int, int]) -> None:
    """One CT and its label, under several names."""
    from scipy.ndimage import zoom

    from abdomen_phantom import STANDARD, generate
    from atlas8k.core.volume import Grid, write_nifti

    work.mkdir(parents=True, exist_ok=True)
    if not (work / "ct_0.nii.gz").is_file():
        made = generate(44_000, STANDARD, grid_spacing_mm=4.0)
        factors = [n / m for n, m in zip(shape, made.ct.grid.shape, strict=True)]
        grid = Grid(shape, np.diag([*SPACING, 1.0]))
        ct = zoom(made.ct.array.astype(np.float32), factors, order=1, output=np.int16)
        write_nifti(work / "label_0.nii.gz", zoom(made.label.array, factors, order=0), grid)
        write_nifti(work / "ct_0.nii.gz", ct, grid)
    for i in range(1, count):
        for kind in ("ct", "label"):
            if not (work / f"{kind}_{i}.nii.gz").is_file():
                shutil.copy(work / f"{kind}_0.nii.gz", work / f"{kind}_{i}.nii.gz")


def cases(work: Path, count: int) -> list[Any]:
    """The volumes as training cases."""
    from atlas8k.training.data import TrainingCase

    return [
        TrainingCase(f"v{i}", work / f"ct_{i}.nii.gz", work / f"label_{i}.nii.gz")
        for i in range(count)
    ]


def child(part: str, work: Path, count: int, steps: int) -> None:
    """What is measured, in a process of its own."""
    import torch

    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.training.config import TrainingConfig
    from atlas8k.training.finetune import fine_tune
    from atlas8k.training.measuring import measure_both

    torch.set_num_threads(1)
    served = {path.stem: load_checkpoint(path) for path in sorted(EMBEDDED.glob("*.safetensors"))}
    volumes = cases(work, count)
    if part == "gate":
        measure_both(volumes[:MEASURED], served, served)
        return
    config = TrainingConfig.fine_tuning(epochs=2, steps_per_epoch=steps)
    if part == "fine":
        unet = served["unet"]
        finer = replace(unet.preprocessing, spacing_mm=(1.5,) * 3, window_size=(96,) * 3)
        served = {"unet": replace(unet, preprocessing=finer)}
        config = config.model_copy(update={"workers": 2})
    fine_tune(served, volumes, config, state_folder=work / f"state_{part}")
    shutil.rmtree(work / f"state_{part}", ignore_errors=True)


def peak(part: str, work: Path, count: int, steps: int) -> float:
    """Highest resident memory of the process tree, GB."""
    import psutil

    arguments = ["--part", part, "--work", str(work), "--volumes", str(count)]
    arguments += ["--steps", str(steps)]
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, *arguments])
    highest = 0
    try:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            total = 0
            for one in [tree, *tree.children(recursive=True)]:
                try:
                    total += one.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            highest = max(highest, total)
            time.sleep(0.05)
    except psutil.NoSuchProcess:
        pass
    finally:
        process.kill()
    if process.wait() != 0:
        raise SystemExit(f"{part}: ended with {process.returncode}")
    seconds = time.perf_counter() - begun
    print(f"{part:8s} {highest / GB:6.2f} GB  {seconds:5.0f} s", flush=True)
    return highest / GB


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder that keeps the volumes")
    parser.add_argument("--volumes", type=int, default=10)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=STEPS, help="of an epoch")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, help="of the volumes")
    options = parse(parser, {"volumes": 2, "steps": 1, "shape": QUICK})
    if options.part:
        child(options.part, options.work, options.volumes, options.steps)
        return
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        write_volumes(work, options.volumes, tuple(options.shape))
        found = {
            f"peak_gb_{part}": peak(part, work, options.volumes, options.steps) for part in PARTS
        }
    figures = {"peak_gb": max(found.values()), **found}
    figures = {name: round(value, 3) for name, value in figures.items()}
    report("training_memory", figures, options)


if __name__ == "__main__":
    main()
