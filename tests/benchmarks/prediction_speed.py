"""Three networks and attention, from a CT to a saved label, against MONAI Label's own way.

    python tests/benchmarks/prediction_speed.py [--phantoms 12] [--repeats 2] [--only speed]

Input: a phantom's patient over 259 x 259 x 283 voxels at 1.5 mm, the size of which
published speeds are told. Ours: the embedded networks and the project's settings, from the
NIfTI file to the ensemble's label on the CT's grid, with attention's sizes and regions.
Peer (``_prediction_stock.py``): three MONAI Label inferers with the same networks, windows,
overlap and weights over the same file, each to a written label, then the published
attention steps in numpy and scipy. Each in a process of its own that has loaded its
networks and done a small CT before; every core for both.

- ``speedup_cpu``: seconds of the peer over ours, attention on both sides.
- ``speedup_cpu_prediction_only``: the same without attention on either side.
- ``dsc_to_reference_min``: the worst organ of all sample phantoms and the real CT and
  series, our label against a plain prediction that leaves nothing out
  (``_prediction_reference.py``).
- ``peak_extra_gb``: the most memory that the whole of ``atlas8k predict`` with picture and
  statistics takes for 512 x 512 x 600 voxels of 0.8 x 0.8 x 1 mm, beyond the imports;
  ``peak_extra_1000_gb`` for 1,000 slices.
- ``gpu_us_per_mm3``, ``gpu_name``: where there is a GPU, full-size networks (SuPreM's U-Net,
  Swin UNETR of 48, nnU-Net of 32 to 320 channels, random weights, 96 voxels of 1.5 mm),
  load to saved label, time over the volume of the CT.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report

WHAT = ("speed", "memory", "accuracy", "gpu")
PART = (slice(80, 180), slice(60, 180), slice(100, 180))
"""Voxels of the usual CT that the small one shows."""


def once(predictor: Any, ct: Path, out: Path, attention_on: str = "") -> dict[str, float]:
    """Seconds of one CT from file to file; the label is written, attention told."""
    from atlas8k.attention import salient_regions
    from atlas8k.volume import read_ct, write_nifti

    begin = time.perf_counter()
    volume = read_ct(ct)
    prediction = predictor.predict(volume)
    write_nifti(out, prediction.label_on(volume.grid), volume.grid)
    labelled = time.perf_counter()
    if attention_on:
        from atlas8k.models.attention import attention_sizes_on

        attention_sizes_on(attention_on, prediction.probs, prediction.grid.voxel_ml)
    else:
        salient_regions(prediction.probs, prediction.grid, name=ct.name)
    end = time.perf_counter()
    return {"prediction_s": labelled - begin, "attention_s": end - labelled}


def ours(folder: Path, repeats: int) -> dict[str, float]:
    """Seconds of our part, the quickest of some runs."""
    from tests.benchmarks._prediction_reference import embedded

    from atlas8k.models.predict import Predictor

    predictor = Predictor(embedded())
    once(predictor, folder / "small.nii.gz", folder / "ours.nii.gz")
    runs = [
        once(predictor, folder / "usual.nii.gz", folder / "ours.nii.gz") for _ in range(repeats)
    ]
    return min(runs, key=lambda run: sum(run.values()))


def stock(folder: Path, repeats: int) -> dict[str, float]:
    """Seconds of the peer's part."""
    from tests.benchmarks import _prediction_stock
    from tests.benchmarks._prediction_reference import embedded

    prediction, attention = _prediction_stock.run(
        embedded(), folder / "small.nii.gz", folder / "usual.nii.gz", repeats
    )
    return {"prediction_s": prediction, "attention_s": attention}


def peak(ct: Path) -> dict[str, float]:
    """Gigabytes that one `atlas8k predict` needs beyond its imports."""
    import scipy.ndimage  # noqa: F401 - what the command imports while it runs
    import SimpleITK  # noqa: F401
    from tests.benchmarks.attention_speed import peak_kb

    from atlas8k.cli.predict import predict
    from atlas8k.preview import draw_planes  # noqa: F401

    small = ct.with_name("small.nii.gz")
    out = ct.with_name("label.nii.gz")
    others = {"preview": ct.with_name("preview.png"), "statistics": ct.with_name("report.json")}
    predict(small, out, **others)
    before = resident_kb()
    Path("/proc/self/clear_refs").write_text("5")  # the most memory so far is that of now
    begin = time.perf_counter()
    predict(ct, out, **others)
    return {
        "gb": (peak_kb() - before) * 1024 / 1e9,
        "seconds": time.perf_counter() - begin,
    }


def resident_kb() -> int:
    """Memory this process has now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def worst_agreement(phantoms: int, quick: bool) -> float:
    """The lowest DSC of any organ of any CT with a plain prediction."""
    from tests.benchmarks._prediction_reference import cases, dsc, embedded, plain_label

    from atlas8k.models.predict import Predictor

    networks = embedded()
    predictor = Predictor(networks)
    worst = 1.0
    for name, load in cases(phantoms, 8.0 if quick else None).items():
        ct = load()
        agreement = dsc(predictor.predict(ct).label_on(ct.grid), plain_label(ct, networks))
        lowest = min(agreement, key=agreement.__getitem__)
        print(f"{name:14s}{lowest:14s}{agreement[lowest]:.5f}")
        worst = min(worst, agreement[lowest])
    return worst


def gpu(folder: Path, repeats: int) -> dict[str, Any]:
    """Time per volume of full-size networks on the first GPU."""
    import torch
    from tests.benchmarks._prediction_full_size import full_size

    from atlas8k.models.predict import Predictor
    from atlas8k.volume import read_grid

    predictor = Predictor(full_size(), device="cuda")
    out = folder / "gpu.nii.gz"
    for _ in range(2):
        once(predictor, folder / "usual.nii.gz", out, "cuda")
    runs = [once(predictor, folder / "usual.nii.gz", out, "cuda") for _ in range(repeats)]
    seconds = min(sum(run.values()) for run in runs)
    grid = read_grid(folder / "usual.nii.gz")
    mm3 = grid.voxel_ml * 1000 * grid.shape[0] * grid.shape[1] * grid.shape[2]
    return {
        "gpu_us_per_mm3": seconds * 1e6 / mm3,
        "gpu_name": torch.cuda.get_device_name(),
        "gpu_peak_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def alone(role: str, *arguments: object) -> dict[str, Any]:
    """What this file prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, role, *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures asked for."""
    from tests.benchmarks import _prediction_volumes as volumes

    usual, small, large, longest = (
        volumes.USUAL,
        volumes.SMALL,
        volumes.LARGE,
        volumes.LONGEST,
    )
    if options.quick:
        usual = small = large = longest = volumes.QUICK
    hu = volumes.patient(usual)
    volumes.write(folder / "usual.nii.gz", hu, usual, usual)
    shown = hu if options.quick else hu[PART]
    volumes.write(folder / "small.nii.gz", shown, small, usual)
    figures: dict[str, Any] = {}
    if "speed" in options.only:
        mine = alone("--ours", folder, options.repeats)
        peer = alone("--stock", folder, options.repeats)
        figures |= {f"ours_{name}": value for name, value in mine.items()}
        figures |= {f"stock_{name}": value for name, value in peer.items()}
        figures["speedup_cpu"] = sum(peer.values()) / sum(mine.values())
        figures["speedup_cpu_prediction_only"] = peer["prediction_s"] / mine["prediction_s"]
    if "accuracy" in options.only:
        figures["dsc_to_reference_min"] = worst_agreement(options.phantoms, options.quick)
    if "memory" in options.only:
        for name, size in (("peak_extra_gb", large), ("peak_extra_1000_gb", longest)):
            volumes.write(folder / "large.nii.gz", hu, size, usual)
            found = alone("--peak", folder / "large.nii.gz")
            figures[name] = found["gb"]
            figures[name.replace("gb", "seconds")] = found["seconds"]
    if "gpu" in options.only:
        import torch

        if torch.cuda.is_available():
            figures |= alone("--gpu", folder, options.repeats)
        else:
            print("no GPU: gpu_us_per_mm3 is not measured")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--phantoms", type=int, default=12, help="of the samples, for accuracy")
    parser.add_argument("--repeats", type=int, default=2, help="the quickest counts, on both sides")
    parser.add_argument("--only", nargs="+", choices=WHAT, default=WHAT)
    for role in ("--ours", "--stock", "--peak", "--gpu"):
        parser.add_argument(role, nargs="+", help=argparse.SUPPRESS)
    options = parse(parser, {"phantoms": 1, "repeats": 1})
    for role, work in (("ours", ours), ("stock", stock), ("gpu", gpu)):
        if given := getattr(options, role):
            print(json.dumps(work(Path(given[0]), int(given[1]))))
            return
    if options.peak:
        print(json.dumps(peak(Path(options.peak[0]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
    for name, value in figures.items():
        print(f"{name:28s}{value if isinstance(value, str) else format(value, '12.3f')}")
    report("prediction_speed", figures, options)


if __name__ == "__main__":
    main()
