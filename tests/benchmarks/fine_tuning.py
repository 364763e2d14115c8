"""Does fine-tuning help, and do labels chosen by attention help as much as random ones?

Usage: ``python tests/benchmarks/fine_tuning.py [--work FOLDER] [--seeds 3]``

Steps 1 to 7 of the procedure on phantoms at 4 mm, with the three embedded architectures:

1. a weak start: random weights (seed 0), 400 to 480 steps of one patch on six phantoms of
   the standard setting, each with a third of its organs unlabeled;
2. the three of them predict 60 phantoms of a mix of settings, standard to shifted, and the
   engine ranks these by attention size (``--ranking salient``: by salient volume);
3. the labels of the first 10, or of 10 drawn at random, are added to the six, and every
   network is trained on with the 16 for 200 steps, at the rates it began with (the server's
   fine-tuning rate is for networks that are good already). Three seeds, each of the random
   draw and of the training;
4. DSC of the ensemble on 30 other phantoms of the mix, before and after.

With ``--control``, ``dsc_same``: as many steps on the six phantoms of the start alone. What
was made lies in the work folder and is not made again, so that a run that was ended goes on.
Spreads: ``_sd`` of before and of gains over the 30 phantoms or the seeds, as printed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

MM = 4.0
START, POOL, HELD_OUT = 41_000, 42_000, 43_000
"""First seeds; no other training or benchmark paints these."""
STARTED_ON, UNLABELED, MEASURED = 6, 60, 30
CHOSEN = 10
WEAK_STEPS = {"unet": 480, "nnunet": 480, "swin_unetr": 400}
STEPS, PER_EPOCH, BATCH = 200, 20, 1
PREDICTING: dict[str, Any] = {"overlap": 0.25, "precision": "bfloat16"}
WINDOW = (96, 96, 96)
"""Holds most of these phantoms, and less is computed than in eight windows of 64."""


@dataclass(frozen=True)
class Phantom:
    """A phantom that is painted when it is needed, with the organs that are labeled."""

    seed: int
    number: int | None
    """In the mix of settings; the standard setting where there is none."""
    organs: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"phantom_{self.seed}"

    def paint(self) -> Any:
        """CT and truth on voxels of 4 mm."""
        from atlas8k.phantom import STANDARD, generate, mix_setting

        setting = STANDARD if self.number is None else mix_setting(self.number)
        return generate(self.seed, setting, grid_spacing_mm=MM)

    def load(self, preprocessing: Any) -> Any:
        """As a case to train on."""
        from atlas8k.training.data import prepare_case

        made = self.paint()
        return prepare_case(self.name, made.ct, made.label, self.organs, preprocessing)


def started_on() -> list[Phantom]:
    """Each lacks a third of the organs, every organ is labeled in four of the six."""
    from atlas8k.organs import ORGAN_NAMES

    return [
        Phantom(START + i, None, tuple(o for j, o in enumerate(ORGAN_NAMES) if (i + j) % 3))
        for i in range(STARTED_ON)
    ]


def mixed(first_seed: int, count: int) -> list[Phantom]:
    """Wholly labeled phantoms of the mix."""
    from atlas8k.organs import ORGAN_NAMES

    return [Phantom(first_seed + i, i, ORGAN_NAMES) for i in range(count)]


def weak(work: Path) -> dict[str, Any]:
    """The networks of the start."""
    from atlas8k.training.config import TrainingConfig
    from atlas8k.training.scratch import new_checkpoint

    found = {}
    for name, steps in WEAK_STEPS.items():
        config = TrainingConfig.from_scratch(
            epochs=steps // 40,
            steps_per_epoch=40,
            batch_size=BATCH,
            averaging=0.98,
            workers=0,
        )
        start = replace(new_checkpoint(name, 0), name=name)
        found[name] = trained(work / "weak", start, started_on(), config)
    return found


def trained(folder: Path, start: Any, cases: list[Phantom], config: Any) -> Any:
    """One network, trained unless it is there already."""
    from atlas8k.models.checkpoint import load_checkpoint, save_checkpoint
    from atlas8k.training.loop import train_network

    path = folder / f"{start.name}.safetensors"
    if not path.is_file():
        begun = time.perf_counter()
        made = train_network(start, cases, config, state_path=folder / f"{start.name}.state")
        save_checkpoint(path, made, half=False)
        print(f"{path.relative_to(folder.parent)}: {time.perf_counter() - begun:.0f} s", flush=True)
    return load_checkpoint(path)


def ranked(work: Path, networks: dict[str, Any], ranking: str) -> list[int]:
    """Numbers of the unlabeled phantoms, most attention first."""
    from atlas8k.attention import salient_regions

    file = work / f"{ranking}.json"
    sizes = json.loads(file.read_text()) if file.is_file() else []
    pool = mixed(POOL, UNLABELED)
    if len(sizes) < len(pool):
        predictor = predictor_of(networks)
        for phantom in pool[len(sizes) :]:
            prediction = predictor.predict(phantom.paint().ct)
            if ranking == "eq4":
                sizes.append(prediction.sizes().total_ml)
            else:
                found = salient_regions(prediction.probs, prediction.grid)
                sizes.append(float(sum(found.salient_ml.values())))
            publish(file, sizes)
    return [int(i) for i in np.argsort(-np.array(sizes), kind="stable")]


def predictor_of(networks: dict[str, Any], **more: Any) -> Any:
    """The networks, to predict in large windows."""
    from atlas8k.models.predict import Predictor

    wide = {
        name: replace(one, preprocessing=replace(one.preprocessing, window_size=WINDOW))
        for name, one in networks.items()
    }
    return Predictor(wide, **PREDICTING, **more)


def measured(file: Path, networks: dict[str, Any]) -> np.ndarray:
    """DSC of the ensemble on the held-out phantoms: ``(phantoms, organs)``, NaN where absent."""
    from atlas8k.evaluation.overlap import dsc

    if not file.is_file():
        predictor = predictor_of(networks, grid_mm=MM)
        rows = []
        for phantom in mixed(HELD_OUT, MEASURED):
            made = phantom.paint()
            label = predictor.predict(made.ct).label_on(made.ct.grid)
            rows.append([float(v) for v in dsc(label, made.label.array)])
        publish(file, rows)
        print(f"{file.name}: DSC {np.nanmean(rows):.3f}", flush=True)
    return np.array(json.loads(file.read_text()))


def arm(work: Path, name: str, start: dict[str, Any], chosen: list[int], seed: int) -> np.ndarray:
    """DSC after fine-tuning with the labels of some of the unlabeled phantoms."""
    from atlas8k.training.config import TrainingConfig

    pool = mixed(POOL, UNLABELED)
    cases = [*started_on(), *(pool[i] for i in chosen)]
    config = TrainingConfig.from_scratch(
        epochs=STEPS // PER_EPOCH,
        steps_per_epoch=PER_EPOCH,
        batch_size=BATCH,
        averaging=0.97,
        seed=seed,
        workers=0,
    )
    folder = work / f"{name}_{seed}"
    networks = {n: trained(folder, one, cases, config) for n, one in start.items()}
    return measured(work / f"dsc_{name}_{seed}.json", networks)


def publish(file: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(file)


def run(work: Path, seeds: int, control: bool, ranking: str) -> dict[str, float]:
    """All stages; the figures."""
    start = weak(work)
    before = measured(work / "dsc_before.json", start)
    order = ranked(work, start, ranking)
    print(f"most attention: {order[:CHOSEN]} of the {UNLABELED}", flush=True)
    after: dict[str, list[np.ndarray]] = {"attention": [], "random": []}
    for seed in range(1, seeds + 1):
        draw = np.random.default_rng(seed).choice(UNLABELED, CHOSEN, replace=False)
        after["attention"].append(arm(work, ranking, start, order[:CHOSEN], seed))
        after["random"].append(arm(work, "random", start, [int(i) for i in draw], seed))
    if control:
        after["same"] = [arm(work, "same", start, [], 1)]
    return report(before, after)


def report(before: np.ndarray, after: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """Print organs by arms; the figures."""
    from atlas8k.organs import ORGAN_NAMES

    columns = {"before": [before], **after}
    print(f"\n{'DSC':14s}" + "".join(f"{name:>20s}" for name in columns))
    for organ, name in enumerate(ORGAN_NAMES):
        cells = [
            f"{np.mean(v):.3f} (SD {np.std(v):.3f})"
            for v in ([np.nanmean(one[:, organ]) for one in runs] for runs in columns.values())
        ]
        print(f"{name:14s}" + "".join(f"{cell:>20s}" for cell in cells))
    means = {name: [overall(one) for one in runs] for name, runs in columns.items()}
    print(
        f"{'mean':14s}" + "".join(f"{np.mean(v):12.3f} (SD {_sd(v):.3f})" for v in means.values())
    )
    print("SD over the seeds; _sd of before: over the phantoms")
    figures = {
        "dsc_before": means["before"][0],
        "dsc_before_sd": float(np.nanstd(np.nanmean(before, axis=1), ddof=1)),
        "gain": float(np.mean(means["attention"]) - means["before"][0]),
        "gain_random": float(np.mean(means["random"]) - means["before"][0]),
    }
    for name, values in means.items():
        if name != "before":
            figures |= {f"dsc_{name}": float(np.mean(values)), f"dsc_{name}_sd": _sd(values)}
    difference = np.subtract(means["attention"], means["random"])
    figures["attention_minus_random"] = float(difference.mean())
    figures["attention_minus_random_sd"] = _sd(difference.tolist())
    return {name: round(value, 4) for name, value in figures.items()}


def overall(dsc: np.ndarray) -> float:
    """Mean over the phantoms of each organ, then over organs."""
    return float(np.mean(np.nanmean(dsc, axis=0)))


def _sd(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def main() -> None:
    """Run and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder that keeps what was made")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ranking", choices=("eq4", "salient"), default="eq4")
    parser.add_argument("--control", action="store_true", help="also the start's labels alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        figures = run(
            options.work or Path(temporary), options.seeds, options.control, options.ranking
        )
    print(json.dumps({"benchmark": "fine_tuning", "figures": figures}))


if __name__ == "__main__":
    main()
