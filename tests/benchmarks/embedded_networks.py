"""DSC of the embedded networks and their ensemble on CTs none of them was trained on.

Usage: ``python tests/benchmarks/embedded_networks.py [--phantoms 40] [--shifted 20]``

The way of a user's CT: phantoms as a scanner writes them (any spacing and orientation),
predicted by :class:`atlas8k.models.predict.Predictor`, labels on the CT's own grid,
compared there with the exact truth. Phantoms: seeds 10,000 to 10,999 are kept for this
(training takes those from 19,994 on, samples and tests those from 0). The shifted setting
has never been trained on. The real CT is TotalSegmentator's example, if its folder is
beside the repository (or ``$ATLAS8K_DATA``), against the labels that go with it (organ
ids as here), which a network made too.

DSC is the mean over cases of an organ, then over organs. An organ that a case does not
have is left out there, whatever was predicted; false alarms are counted beside.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from _data import DATA, ROOT
from _quick import parse, report

FIRST_SEED = 10_000
MODELS = ROOT / "apps" / "atlas8k" / "model"
REAL = "totalsegmentator-example"
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Result:
    """One case: ``dsc[name]`` is ``(organs,)``, NaN where the organ is absent."""

    setting: str
    dsc: dict[str, np.ndarray]
    false_alarms: dict[str, int]
    seconds: float


_predictor = None


def start(threads: int) -> None:
    """Load the networks once in each process."""
    import torch

    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.models.predict import Predictor

    global _predictor  # noqa: PLW0603 - one a process
    torch.set_num_threads(threads)
    files = sorted((MODELS / "embedded").glob("*.safetensors"))
    _predictor = Predictor({path.stem: load_checkpoint(path) for path in files})


def phantom(task: tuple[str, int, float | None]) -> Result:
    """Predict the phantom of a setting and seed, as its scanner writes it or on a grid."""
    from abdomen_phantom import SHIFTED, STANDARD, generate

    setting, seed, grid_mm = task
    settings = {"standard": STANDARD, "shifted": SHIFTED}
    made = generate(seed, settings[setting], grid_spacing_mm=grid_mm)
    return judge(setting, made.ct, made.label.array)


def real(data: Path) -> Result:
    """Predict the real CT."""
    from atlas8k.core.volume import read_ct, read_label

    ct = read_ct(data / REAL / "ct.nii.gz")
    label = read_label(data / REAL / "labels_model_v2.nii.gz")
    if not label.grid.same_as(ct.grid):
        raise SystemExit(f"{label.path}: not on the grid of its CT")
    return judge("real", ct, label.array)


def judge(setting: str, ct, truth: np.ndarray) -> Result:
    """DSC of each network and the ensemble on the CT's grid."""
    from atlas8k.metrics.overlap import counts

    begun = time.perf_counter()
    prediction = _predictor.predict(ct)
    found = {name: prediction.label_on(ct.grid, name) for name in prediction.names}
    found[ENSEMBLE] = prediction.label_on(ct.grid)
    seconds = time.perf_counter() - begun
    dsc, alarms = {}, {}
    for name, label in found.items():
        compared = counts(label, truth)
        dsc[name] = compared.dsc
        alarms[name] = int((compared.spurious > 0).sum())
    return Result(setting, dsc, alarms, seconds)


def results(
    phantoms: int, shifted: int, processes: int, grid_mm: float | None, data: Path
) -> Iterator[Result]:
    """All cases, as they are done."""
    tasks = [("standard", FIRST_SEED + i, grid_mm) for i in range(phantoms)]
    tasks += [("shifted", FIRST_SEED + i, grid_mm) for i in range(shifted)]
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=start, initargs=(1,)) as pool:
        # First, since it is the longest.
        extra = [pool.submit(real, data)] if (data / REAL / "ct.nii.gz").is_file() else []
        yield from pool.map(phantom, tasks)
        yield from (future.result() for future in extra)


def table(title: str, cases: list[Result]) -> dict[str, np.ndarray]:
    """Print organs by networks; mean DSC of every organ, by network."""
    from atlas8k.core.structures import ORGAN_NAMES

    names = list(cases[0].dsc)
    # nanmean of each organ over cases; an organ that no case has stays NaN.
    stacked = {name: np.array([case.dsc[name] for case in cases]) for name in names}
    means = {}
    for name, values in stacked.items():
        n = np.isfinite(values).sum(axis=0)
        means[name] = np.where(n > 0, np.nansum(values, axis=0) / np.maximum(n, 1), np.nan)
    seconds = np.mean([case.seconds for case in cases])
    print(f"\n{title}: {len(cases)} CTs, {seconds:.1f} s a CT (one thread, three networks)")
    print(f"{'DSC':14s}" + "".join(f"{name:>12s}" for name in names) + f"{'worst case':>12s}")
    for row, organ in enumerate(ORGAN_NAMES):
        worst = stacked[ENSEMBLE][:, row]
        worst = np.nanmin(worst) if np.isfinite(worst).any() else np.nan
        values = "".join(f"{means[name][row]:12.3f}" for name in names)
        print(f"{organ:14s}{values}{worst:12.3f}")
    print(f"{'mean':14s}" + "".join(f"{np.nanmean(means[name]):12.3f}" for name in names))
    alarms = "".join(f"{sum(c.false_alarms[name] for c in cases):12d}" for name in names)
    print(f"{'false alarms':14s}{alarms}")
    return means


def main() -> None:
    """Run and print."""
    from atlas8k.core.structures import ORGAN_NAMES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=40)
    parser.add_argument("--shifted", type=int, default=20)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--grid-mm", type=float, help="phantoms on this grid; as scanned by default"
    )
    parser.add_argument("--data", type=Path, default=DATA, help="where the real CT's folder is")
    nowhere = Path(__file__).parent
    tiny = {"phantoms": 1, "shifted": 1, "processes": 1, "grid_mm": 8.0, "data": nowhere}
    options = parse(parser, tiny)
    files = sorted((MODELS / "embedded").glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{', '.join(path.stem for path in files)}: {size:.1f} MB together")
    done = list(
        results(options.phantoms, options.shifted, options.processes, options.grid_mm, options.data)
    )

    figures: dict[str, float] = {"embedded_mb": round(size, 2)}
    for setting, title in (
        ("standard", "Phantoms"),
        ("shifted", "Phantoms of a setting never trained on"),
        ("real", "TotalSegmentator's example, against its v2 labels"),
    ):
        cases = [case for case in done if case.setting == setting]
        if not cases:
            continue
        means = table(title, cases)
        overall = {name: round(float(np.nanmean(values)), 4) for name, values in means.items()}
        if setting == "standard":
            figures |= {f"dsc_{name}": value for name, value in overall.items()}
            for organ, value in zip(ORGAN_NAMES, means[ENSEMBLE], strict=True):
                figures[f"dsc_ensemble_{organ}"] = round(float(value), 4)
        else:
            figures[f"dsc_ensemble_{setting}"] = overall[ENSEMBLE]
    report("embedded_networks", figures, options)


if __name__ == "__main__":
    main()
