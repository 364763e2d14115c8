"""Fine-tuning on labels that lack a third of the organs: are these forgotten?

Usage: ``python tests/benchmarks/fine_tuning_partial.py [--networks unet,nnunet,swin_unetr]``

The embedded networks are fine-tuned on six phantoms in which aorta, pancreas and stomach are
unlabeled, at the server's rates, twice: as this project does it (unknown organs are in no
loss), and with unknown counted as background, as a label map alone would have it. Then the
mean DSC of the three organs on eight other phantoms, beside what it was:
``change_unlabeled`` should be -0.01 or better, ``change_unlabeled_as_background`` shows what
the mask is for. The largest fall of a single organ and the labeled ones are printed too.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _quick import parse, report
from fine_tuning import MM, Phantom

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "apps" / "atlas8k" / "model" / "embedded"
UNLABELED = ("aorta", "pancreas", "stomach")
TRAINED, MEASURED = 45_000, 45_500
"""First seeds; no other training or benchmark paints these."""
PER_EPOCH = 20


@dataclass(frozen=True)
class AsBackground(Phantom):
    """A phantom whose unlabeled organs are claimed not to be there."""

    def load(self, preprocessing: Any) -> Any:
        """The label without them, and all organs known."""
        import torch

        made = super().load(preprocessing)
        return replace(made, known=torch.ones_like(made.known))


def labeled(kind: type[Phantom], count: int) -> list[Phantom]:
    """What is trained on."""
    from atlas8k.core.structures import ORGAN_NAMES

    known = tuple(organ for organ in ORGAN_NAMES if organ not in UNLABELED)
    return [kind(TRAINED + i, None, known) for i in range(count)]


def tuned(start: dict[str, Any], cases: list[Phantom], steps: int) -> dict[str, Any]:
    """Every network, fine-tuned."""
    from atlas8k.training.config import TrainingConfig
    from atlas8k.training.loop import train_network

    config = TrainingConfig.fine_tuning(
        epochs=max(1, steps // PER_EPOCH), steps_per_epoch=min(steps, PER_EPOCH), workers=0
    )
    return {name: train_network(one, cases, config) for name, one in start.items()}


def measured(networks: dict[str, Any], count: int) -> np.ndarray:
    """DSC of the ensemble, mean over the phantoms: ``(organs,)``."""
    from atlas8k.core.structures import ORGAN_NAMES
    from atlas8k.metrics.overlap import dsc
    from atlas8k.models.predict import Predictor

    predictor = Predictor(networks, overlap=0.25, grid_mm=MM)
    rows = []
    for seed in range(MEASURED, MEASURED + count):
        made = Phantom(seed, None, ORGAN_NAMES).paint()
        rows.append(dsc(predictor.predict(made.ct).label_on(made.ct.grid), made.label.array))
    return np.nanmean(rows, axis=0)


def main() -> None:
    """Run and print."""
    import torch

    from atlas8k.core.structures import ORGAN_NAMES
    from atlas8k.models.checkpoint import load_checkpoint

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="unet,nnunet,swin_unetr")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--trained", type=int, default=6, help="phantoms to train on")
    parser.add_argument("--measured", type=int, default=8, help="phantoms to measure on")
    options = parse(parser, {"networks": "unet", "steps": 1, "trained": 1, "measured": 1})
    torch.set_num_threads(1)
    start = {
        name: load_checkpoint(EMBEDDED / f"{name}.safetensors")
        for name in options.networks.split(",")
    }
    table = {
        "before": measured(start, options.measured),
        **{
            name: measured(
                tuned(start, labeled(kind, options.trained), options.steps), options.measured
            )
            for name, kind in (("masked", Phantom), ("background", AsBackground))
        },
    }
    print(f"{'DSC':24s}" + "".join(f"{name:>12s}" for name in table))
    for i, organ in enumerate(ORGAN_NAMES):
        name = f"{organ} (unlabeled)" if organ in UNLABELED else organ
        print(f"{name:24s}" + "".join(f"{column[i]:12.3f}" for column in table.values()))
    rows = [ORGAN_NAMES.index(organ) for organ in UNLABELED]
    others = [i for i in range(len(ORGAN_NAMES)) if i not in rows]
    figures = {
        "dsc_unlabeled_before": table["before"][rows].mean(),
        "change_unlabeled": (table["masked"] - table["before"])[rows].mean(),
        "change_unlabeled_worst": (table["masked"] - table["before"])[rows].min(),
        "change_unlabeled_as_background": (table["background"] - table["before"])[rows].mean(),
        "change_labeled": (table["masked"] - table["before"])[others].mean(),
    }
    figures = {name: round(float(value), 4) for name, value in figures.items()}
    report("fine_tuning_partial", figures, options)


if __name__ == "__main__":
    main()
