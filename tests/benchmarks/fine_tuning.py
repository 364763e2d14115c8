"""Does fine-tuning help, and do labels chosen by attention help as much as random ones?

Usage: ``python tests/benchmarks/fine_tuning.py [--work FOLDER] [--seeds 3] [--jobs 1]``

Steps 1 to 7 of the procedure on phantoms at 4 mm, with the three embedded architectures:

1. a weak start, weak for want of labels and not of time: random weights (seed 0), 1,600
   steps of one patch on six phantoms of the standard setting, each with a third of its
   organs unlabeled, until the learning rate has come down to nothing;
2. the three of them predict 60 phantoms of a mix of settings, standard to shifted, and the
   engine ranks these by attention size (``--ranking salient``: by salient volume);
3. the labels of the first 10, or of 10 drawn at random, are added to the six, and every
   network is trained on with the 16 for 200 steps, at the rates it began with (the server's
   fine-tuning rate is for networks that are good already). Three seeds, each of the random
   draw and of the training;
4. the control: as many steps at the same rates on the six phantoms of the start alone. What
   it gains comes of training on, not of labels: ``attention_minus_same`` and
   ``random_minus_same`` are what the labels were worth;
5. DSC of the ensemble on 30 other phantoms of the mix, before and after.

What was made lies in the work folder and is not made again, so that a run that was ended
goes on. Spreads: ``dsc_before_sd`` over the 30 phantoms, the others over the seeds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _mix import mix_setting
from _quick import parse, report

MM = 4.0
START, POOL, HELD_OUT = 41_000, 42_000, 43_000
"""First seeds; no other training or benchmark paints these."""
PER_EPOCH, BATCH = 20, 1
PREDICTING: dict[str, Any] = {"overlap": 0.25, "precision": "bfloat16"}
RANKINGS = ("eq4", "salient")


@dataclass(frozen=True)
class Scale:
    """How much of everything: as it is reported, or as the quick form has it."""

    mm: float = MM
    started_on: int = 6
    unlabeled: int = 60
    measured: int = 30
    chosen: int = 10
    networks: tuple[str, ...] = ("swin_unetr", "nnunet", "unet")
    weak_steps: int = 1600
    steps: int = 200
    window: int = 96
    """Holds most of these phantoms, and less is computed than in eight windows of 64."""


WHOLE = Scale()
QUICK = Scale(10.0, 3, 3, 1, 1, ("unet",), 1, 1, 32)


@dataclass(frozen=True)
class Phantom:
    """A phantom that is painted when it is needed, with the organs that are labeled."""

    seed: int
    number: int | None
    """In the mix of settings; the standard setting where there is none."""
    organs: tuple[str, ...]
    mm: float = MM

    @property
    def name(self) -> str:
        return f"phantom_{self.seed}"

    def paint(self) -> Any:
        """CT and truth on voxels of that many mm."""
        from abdomen_phantom import STANDARD, generate

        setting = STANDARD if self.number is None else mix_setting(self.number)
        return generate(self.seed, setting, grid_spacing_mm=self.mm)

    def load(self, preprocessing: Any) -> Any:
        """As a case to train on."""
        from atlas8k.training.data import prepare_case

        made = self.paint()
        return prepare_case(self.name, made.ct, made.label, self.organs, preprocessing)


def started_on(scale: Scale) -> list[Phantom]:
    """Each lacks a third of the organs, every organ is labeled in four of the six."""
    from atlas8k.core.structures import ORGAN_NAMES

    return [
        Phantom(
            START + i, None, tuple(o for j, o in enumerate(ORGAN_NAMES) if (i + j) % 3), scale.mm
        )
        for i in range(scale.started_on)
    ]


def mixed(first_seed: int, count: int, scale: Scale) -> list[Phantom]:
    """Wholly labeled phantoms of the mix."""
    from atlas8k.core.structures import ORGAN_NAMES

    return [Phantom(first_seed + i, i, ORGAN_NAMES, scale.mm) for i in range(count)]


# --- jobs: each makes one file, and nothing where it is there ----------------------------------


def train(
    work: Path, scale: Scale, folder: str, name: str, chosen: list[int] | None, seed: int
) -> None:
    """One network: from random weights where nothing is `chosen`, else on from the start."""
    import torch

    from atlas8k.models.checkpoint import load_checkpoint, save_checkpoint
    from atlas8k.training.config import TrainingConfig
    from atlas8k.training.loop import train_network
    from atlas8k.training.scratch import new_checkpoint

    path = work / folder / f"{name}.safetensors"
    if path.is_file():
        return
    torch.set_num_threads(1)
    begun = time.perf_counter()
    weak = chosen is None
    start = new_checkpoint(name, 0) if weak else load_checkpoint(work / "weak" / path.name)
    pool = mixed(POOL, scale.unlabeled, scale)
    steps = scale.weak_steps if weak else scale.steps
    config = TrainingConfig.from_scratch(
        epochs=max(1, steps // PER_EPOCH),
        steps_per_epoch=min(steps, PER_EPOCH),
        batch_size=BATCH,
        averaging=0.98,
        seed=seed,
        workers=0,
    )
    cases = [*started_on(scale), *(pool[i] for i in chosen or ())]
    made = train_network(start, cases, config, state_path=path.with_suffix(".state"))
    save_checkpoint(path, made, half=False)
    print(f"{folder}/{name}: {time.perf_counter() - begun:.0f} s", flush=True)


def rank(work: Path, scale: Scale) -> None:
    """Sizes of the unlabeled phantoms, by both rankings."""
    from atlas8k.attention import salient_regions

    file = work / "ranked.json"
    sizes = json.loads(file.read_text()) if file.is_file() else []
    predictor = predictor_of(work / "weak", scale)
    for phantom in mixed(POOL, scale.unlabeled, scale)[len(sizes) :]:
        prediction = predictor.predict(phantom.paint().ct)
        salient = salient_regions(prediction.probs, prediction.grid).salient_ml
        sizes.append([prediction.sizes().total_ml, float(sum(salient.values()))])
        publish(file, sizes)


def measure(work: Path, scale: Scale, folder: str) -> None:
    """DSC of an ensemble on the held-out phantoms: ``(phantoms, organs)``, NaN where absent."""
    from atlas8k.metrics.overlap import dsc

    file = work / f"dsc_{folder}.json"
    if file.is_file():
        return
    predictor = predictor_of(work / folder, scale, grid_mm=scale.mm)
    rows = []
    for phantom in mixed(HELD_OUT, scale.measured, scale):
        made = phantom.paint()
        label = predictor.predict(made.ct).label_on(made.ct.grid)
        rows.append([float(v) for v in dsc(label, made.label.array)])
    publish(file, rows)
    print(f"{folder}: DSC {overall(np.array(rows)):.3f}", flush=True)


def predictor_of(folder: Path, scale: Scale, **more: Any) -> Any:
    """The networks of a folder, to predict in large windows."""
    import torch

    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.models.predict import Predictor

    torch.set_num_threads(1)
    networks = {name: load_checkpoint(folder / f"{name}.safetensors") for name in scale.networks}
    wide = {
        name: replace(
            one, preprocessing=replace(one.preprocessing, window_size=(scale.window,) * 3)
        )
        for name, one in networks.items()
    }
    return Predictor(wide, **PREDICTING, **more)


def publish(file: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(file)


# --- stages ----------------------------------------------------------------------------------


def run(work: Path, scale: Scale, seeds: int, jobs: int, ranking: str) -> dict[str, float]:
    """All stages; the figures."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:

        def all_of(*calls: tuple[Any, ...]) -> None:
            made = [pool.submit(function, work, scale, *rest) for function, *rest in calls]
            for future in as_completed(made):
                if future.exception() is not None:  # what waits would only be thrown away
                    pool.shutdown(wait=False, cancel_futures=True)
                future.result()

        all_of(*((train, "weak", name, None, 0) for name in scale.networks))
        all_of((rank,), (measure, "weak"))
        sizes = np.array(json.loads((work / "ranked.json").read_text()))
        first = {n: np.argsort(-sizes[:, i], kind="stable") for i, n in enumerate(RANKINGS)}
        for name, order in first.items():
            print(
                f"first by {name}: {order[: scale.chosen].tolist()} of the {scale.unlabeled}",
                flush=True,
            )
        arms: dict[str, list[str]] = {"attention": [], "random": [], "same": []}
        trainings = []
        for seed in range(1, seeds + 1):
            draw = np.random.default_rng(seed).choice(scale.unlabeled, scale.chosen, replace=False)
            labels = {"attention": first[ranking][: scale.chosen], "random": draw, "same": ()}
            for arm, chosen in labels.items():
                folder = f"{ranking if arm == 'attention' else arm}_{seed}"
                arms[arm].append(folder)
                trainings += [
                    (train, folder, n, [int(i) for i in chosen], seed) for n in scale.networks
                ]
        all_of(*trainings)
        all_of(*((measure, folder) for folders in arms.values() for folder in folders))

    def of(folder: str) -> np.ndarray:
        return np.array(json.loads((work / f"dsc_{folder}.json").read_text()))

    return compared(of("weak"), {arm: [of(f) for f in folders] for arm, folders in arms.items()})


def compared(before: np.ndarray, after: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """Print organs by arms; the figures."""
    from atlas8k.core.structures import ORGAN_NAMES

    columns = {"before": [before], **after}
    print(f"\n{'DSC':14s}" + "".join(f"{name:>20s}" for name in columns))
    for organ, name in enumerate(ORGAN_NAMES):
        cells = [
            f"{np.mean(v):.3f} (SD {_sd(v):.3f})"
            for v in ([np.nanmean(one[:, organ]) for one in runs] for runs in columns.values())
        ]
        print(f"{name:14s}" + "".join(f"{cell:>20s}" for cell in cells))
    means = {name: [overall(one) for one in runs] for name, runs in columns.items()}
    print(
        f"{'mean':14s}" + "".join(f"{np.mean(v):12.3f} (SD {_sd(v):.3f})" for v in means.values())
    )
    print("SD over the seeds")
    figures = {
        "dsc_before": means["before"][0],
        "dsc_before_sd": float(np.nanstd(np.nanmean(before, axis=1), ddof=1)),
    }
    for name in after:
        figures |= {f"dsc_{name}": float(np.mean(means[name])), f"dsc_{name}_sd": _sd(means[name])}
        figures[f"gain_{name}"] = float(np.mean(means[name]) - means["before"][0])
    for name, other in (("attention", "random"), ("attention", "same"), ("random", "same")):
        difference = np.subtract(means[name], means[other])
        figures[f"{name}_minus_{other}"] = float(difference.mean())
        figures[f"{name}_minus_{other}_sd"] = _sd(difference.tolist())
    return {name: round(value, 4) for name, value in figures.items()}


def overall(dsc: np.ndarray) -> float:
    """Mean over the phantoms of each organ, then over organs."""
    return float(np.mean(np.nanmean(dsc, axis=0)))


def _sd(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder that keeps what was made")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument("--ranking", choices=RANKINGS, default="eq4")
    options = parse(parser, {"seeds": 1})
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        scale = QUICK if options.quick else WHOLE
        figures = run(work, scale, options.seeds, options.jobs, options.ranking)
    report("fine_tuning", figures, options)


if __name__ == "__main__":
    main()
