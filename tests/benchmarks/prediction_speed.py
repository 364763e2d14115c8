"""Three networks and attention, from a CT to a saved label, against MONAI Label's own way.

    python tests/benchmarks/prediction_speed.py [--models FOLDER] [--repeats 2] [--only speed]

Input: a phantom's patient over 259 x 259 x 283 voxels at 1.5 mm, the size of which
published speeds are told. Ours: the networks and the project's settings, from the NIfTI file
to the ensemble's label on the CT's grid, with attention's sizes and regions. Peer
(``_prediction_stock.py``): three MONAI Label inferers with the same networks in windows of
64 voxels with half overlap, whatever their checkpoints say, over the same file, each to a
written label, then the published attention steps in numpy and scipy. Each in a process of
its own that has loaded its networks and done a small CT before; every core for both.

- ``speedup_cpu``: seconds of the peer over ours, attention on both sides, and ``seconds``,
  ours. ``speedup_processor_time``: the same by processor time, which other work on the
  machine disturbs less.
- ``speedup_cpu_prediction_only``: without attention on either side.
- ``dsc_ours``, ``dsc_stock``: mean over organs against the truth, of our label and (mean of
  the three) of the peer's.
- ``older_...``: all of these for the networks shipped before there were any for whole
  volumes, from the history; left out, and said, where it does not reach back so far.
- ``cold_seconds``, ``cold_processor_seconds``: of one process of ``atlas8k predict``.
- ``dsc_to_reference_min``: the worst organ of all sample phantoms and the real CT and
  series, our label against a plain prediction by other code (``_prediction_reference.py``).
- ``peak_extra_gb``: the most memory that the whole of ``atlas8k predict`` with picture and
  statistics takes for 512 x 512 x 600 voxels of 0.8 x 0.8 x 1 mm, beyond the imports;
  ``peak_extra_1000_gb`` for 1,000 slices.
- ``gpu_us_per_mm3``, ``gpu_name``: where there is a GPU, full-size networks (SuPreM's U-Net,
  Swin UNETR of 48, nnU-Net of 32 to 320 channels, random weights, 96 voxels of 1.5 mm),
  load to saved label, time over the volume of the CT. ``gpu_scoring_us_per_mm3``: the same
  of ten CTs that are scored in a folder, where reading and keeping go on beside the
  networks; ``gpu_busy``: how much of that time the driver says that the GPU computes;
  ``gpu_same_as_cpu``: share of voxels with the label that a CPU gives; ``gpu_peak_gb``;
  ``gpu_tests_passed``: of the tests that use a GPU. ``--only gpu`` is the whole check of a machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report

WHAT = ("speed", "cold", "memory", "accuracy", "gpu")
ROOT = Path(__file__).parents[2]
EMBEDDED = Path("apps/atlas8k/model/embedded")
OLDER = "74f36f5363eb"
"""Commit of the last embedded networks that were trained on windows."""
PART = (slice(80, 180), slice(60, 180), slice(100, 180))
"""Voxels of the usual CT that the small one shows."""


def once(predictor: Any, ct: Path, out: Path) -> dict[str, float]:
    """Seconds of one CT from file to file; the label is written, attention told."""
    from atlas8k.attention import salient_regions
    from atlas8k.core.volume import read_ct, write_nifti

    begin = time.perf_counter()
    volume = read_ct(ct)
    prediction = predictor.predict(volume)
    write_nifti(out, prediction.label_on(volume.grid), volume.grid)
    labelled = time.perf_counter()
    salient_regions(prediction.probs, prediction.grid, name=ct.name)
    end = time.perf_counter()
    return {"prediction_s": labelled - begin, "attention_s": end - labelled}


def ours(folder: Path, models: Path, repeats: int) -> dict[str, float]:
    """Seconds of our part, the quickest of some runs, and how good its label is."""
    from tests.benchmarks._prediction_reference import checkpoints

    from atlas8k.models.predict import Predictor

    predictor = Predictor(checkpoints(models))
    out = folder / "ours.nii.gz"
    once(predictor, folder / "small.nii.gz", out)
    runs = []
    for _ in range(repeats):
        begin = time.process_time()
        run = once(predictor, folder / "usual.nii.gz", out)
        runs.append({**run, "processor_s": time.process_time() - begin})
    return {
        **min(runs, key=lambda run: run["prediction_s"] + run["attention_s"]),
        "dsc": mean_dsc(folder, out),
    }


def stock(folder: Path, models: Path, repeats: int) -> dict[str, float]:
    """Seconds of the peer's part, and how good its labels are."""
    from tests.benchmarks import _prediction_stock
    from tests.benchmarks._prediction_reference import checkpoints

    tasks = _prediction_stock.load(checkpoints(models))
    found = _prediction_stock.run(tasks, folder / "small.nii.gz", folder / "usual.nii.gz", repeats)
    labels = found.pop("labels")
    return {**found, "dsc": sum(mean_dsc(folder, label) for label in labels) / len(labels)}


def mean_dsc(folder: Path, label: Path) -> float:
    """Mean DSC of the organs that the patient shows."""
    from tests.benchmarks._prediction_reference import dsc

    from atlas8k.core.structures import ORGANS
    from atlas8k.core.volume import read_label

    truth = read_label(folder / "truth.nii.gz").array
    found = dsc(read_label(label).array, truth)
    shown = [organ.name for organ in ORGANS if (truth == organ.id).any()]
    return sum(found[name] for name in shown) / len(shown)


def speed(folder: Path, models: Path, repeats: int) -> dict[str, float]:
    """Ours and the peer with the same networks."""
    mine = alone("--ours", folder, models, repeats)
    peer = alone("--stock", folder, models, repeats)
    mine_s, peer_s = (side["prediction_s"] + side["attention_s"] for side in (mine, peer))
    return {
        **{f"{name}_ours": value for name, value in mine.items()},
        **{f"{name}_stock": value for name, value in peer.items()},
        "seconds": mine_s,
        "speedup_cpu": peer_s / mine_s,
        "speedup_cpu_prediction_only": peer["prediction_s"] / mine["prediction_s"],
        "speedup_processor_time": peer["processor_s"] / mine["processor_s"],
    }


def older_networks(folder: Path) -> bool:
    """Write the networks shipped before into `folder`; whether the history has them."""
    folder.mkdir()
    for name in ("nnunet", "swin_unetr", "unet"):
        file = f"{name}.safetensors"
        done = subprocess.run(
            ["git", "-C", str(ROOT), "show", f"{OLDER}:{EMBEDDED / file}"],
            check=False,
            capture_output=True,
        )
        if done.returncode:
            print(f"no older networks to compare with: git show {OLDER}: {done.stderr.decode()}")
            return False
        (folder / file).write_bytes(done.stdout)
    return True


def cold(folder: Path, models: Path, repeats: int) -> dict[str, float]:
    """Seconds of a process that predicts one CT and ends, the quickest of some."""
    shutil.copytree(models, folder / "store" / "embedded")
    command = [sys.executable, "-m", "atlas8k", "predict", str(folder / "usual.nii.gz")]
    command += [str(folder / "cold.nii.gz"), "--models", str(folder / "store")]
    runs = []
    for _ in range(repeats):
        begin, used = time.perf_counter(), children_s()
        subprocess.run(command, check=True, stdout=sys.stderr)
        runs.append((time.perf_counter() - begin, children_s() - used))
    wall, processor = min(runs)
    return {"cold_seconds": wall, "cold_processor_seconds": processor}


def children_s() -> float:
    """Processor time of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak(ct: Path) -> dict[str, float]:
    """Gigabytes that one `atlas8k predict` needs beyond its imports."""
    import scipy.ndimage  # noqa: F401 - what the command imports while it runs
    import SimpleITK  # noqa: F401
    from tests.benchmarks.attention_speed import peak_kb

    from atlas8k.cli.predict import predict
    from atlas8k.reports.preview import draw_planes  # noqa: F401

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


def worst_agreement(phantoms: int, quick: bool, models: Path) -> float:
    """The lowest DSC of any organ of any CT with a plain prediction."""
    from tests.benchmarks._prediction_reference import cases, checkpoints, dsc, plain_label

    from atlas8k.models.predict import Predictor

    networks = checkpoints(models)
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
    """Full-size networks on the first GPU."""
    from tests.benchmarks._prediction_full_size import full_size
    from tests.benchmarks._prediction_gpu import on_gpu

    return on_gpu(full_size(), folder, repeats, once)


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
    hu, truth = volumes.patient(usual)
    volumes.write(folder / "usual.nii.gz", hu, usual, usual)
    volumes.write(folder / "truth.nii.gz", truth, usual, usual)
    shown = hu if options.quick else hu[PART]
    volumes.write(folder / "small.nii.gz", shown, small, usual)
    figures: dict[str, Any] = {}
    if "speed" in options.only:
        figures |= speed(folder, options.models, options.repeats)
        if older_networks(folder / "older"):
            found = speed(folder, folder / "older", options.repeats)
            figures |= {f"older_{name}": value for name, value in found.items()}
    if "cold" in options.only:
        figures |= cold(folder, options.models, options.repeats)
    if "accuracy" in options.only:
        figures["dsc_to_reference_min"] = worst_agreement(
            options.phantoms, options.quick, options.models
        )
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
    parser.add_argument(
        "--models", type=Path, default=ROOT / EMBEDDED, help="folder of checkpoints"
    )
    parser.add_argument("--phantoms", type=int, default=12, help="of the samples, for accuracy")
    parser.add_argument("--repeats", type=int, default=2, help="the quickest counts, on both sides")
    parser.add_argument("--only", nargs="+", choices=WHAT, default=WHAT)
    for role in ("--ours", "--stock", "--peak", "--gpu"):
        parser.add_argument(role, nargs="+", help=argparse.SUPPRESS)
    options = parse(parser, {"phantoms": 1, "repeats": 1})
    if given := options.ours:
        print(json.dumps(ours(Path(given[0]), Path(given[1]), int(given[2]))))
        return
    if given := options.stock:
        print(json.dumps(stock(Path(given[0]), Path(given[1]), int(given[2]))))
        return
    if given := options.gpu:
        print(json.dumps(gpu(Path(given[0]), int(given[1]))))
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
