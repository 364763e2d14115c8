"""Fit ``strokes.json``, the judge of strokes, to simulated annotators on synthetic CTs.

Usage: ``python tests/benchmarks/fit_strokes.py --work FOLDER --out lib/atlas8k/refine``

Wide phantoms, seeds from 14,000, and CTs painted on s0004 and s0328, seeds from 14,500: none of
those that ``strokes.py`` judges by. In the first round strokes are answered by a brush; in those
after it by what was fitted until then, so that it learns from labels that it has made itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from _quick import parse, report
from _stroke_cases import TUNING, TUNING_BODIES, predictor, stored
from _stroke_play import LEAST_ML, ORGANS, about, by_brush, by_model, play, scene_of

VOXELS = 1500
"""Voxels of a step that are learnt from."""
HIDDEN = (48, 24)


class Watched:
    """A model that remembers the features that it judged by last: they are what takes time."""

    def __init__(self, model) -> None:
        self.model, self.last = model, {}

    def __call__(self, scene, where):
        from atlas8k.refine.features import features_of, table
        from atlas8k.refine.model import WITH_OPINIONS

        self.last = features_of(scene)
        return self.model.predicted(table(self.last, where, WITH_OPINIONS))[:, 0]


def examples(whole, watched, rng, strokes: int, voxels: int):
    """Inputs with and without opinions, and what is true, of all steps on a case."""
    from scipy import ndimage

    from atlas8k.refine.decide import REACH_MM
    from atlas8k.refine.features import FEATURES, features_of, table
    from atlas8k.refine.model import WITH_OPINIONS

    found = []
    answer = by_brush() if watched is None else by_model(watched)
    for organ in ORGANS:
        case = about(whole, organ)
        for played in play(case, organ, answer, strokes, rng):
            if played.number == 0:
                if played.wrong_ml < LEAST_ML:
                    break
                continue
            scene, box = scene_of(case, organ, played.step)
            if scene is None:
                continue
            away = ndimage.distance_transform_edt(
                ~(scene.new_inside | scene.new_outside), sampling=scene.spacing
            )
            chosen = np.zeros(scene.ct.shape, dtype=bool)
            for radius in (12.0, REACH_MM):
                within = np.flatnonzero((away <= radius) & ~scene.other)
                some = rng.choice(within, min(voxels // 2, len(within)), replace=False)
                chosen.ravel()[some] = True
            features = watched.last if watched is not None else features_of(scene)
            found.append((
                table(features, chosen, WITH_OPINIONS),
                table(features, chosen, FEATURES),
                (case.truth == organ)[box][chosen],
            ))  # fmt: skip
    return tuple(np.concatenate(part) for part in zip(*found, strict=True)) if found else None


def fitted(inputs: np.ndarray, truth: np.ndarray, seed: int, epochs: int):
    """A perceptron of logits."""
    from sklearn.neural_network import MLPClassifier

    from atlas8k.attention.perceptron import Perceptron

    mean, scale = np.nanmean(inputs, axis=0), np.nanstd(inputs, axis=0) + 1e-3
    standard = np.nan_to_num((inputs - mean) / scale)
    net = MLPClassifier(
        HIDDEN, batch_size=2048, learning_rate_init=2e-3, alpha=1e-4, max_iter=epochs,
        random_state=seed, early_stopping=False, tol=0, n_iter_no_change=epochs,
    )  # fmt: skip
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(standard.astype(np.float32), truth)
    as_float = [np.asarray(w, dtype=np.float32) for w in net.coefs_]
    biases = [np.asarray(b, dtype=np.float32) for b in net.intercepts_]
    return Perceptron(
        mean.astype(np.float32), scale.astype(np.float32), tuple(as_float), tuple(biases)
    ), float(net.loss_)


def main() -> None:
    """Play, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=7)
    parser.add_argument("--bodies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--strokes", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--work", type=Path, help="folder of what is stored between runs")
    parser.add_argument("--out", type=Path, help="folder of strokes.json; nothing is written else")
    options = parse(parser, {"phantoms": 1, "bodies": 0, "rounds": 2, "strokes": 1, "epochs": 1})
    with tempfile.TemporaryDirectory() as folder:
        run(options, options.work or Path(folder))


def run(options: argparse.Namespace, work: Path) -> None:
    """Everything that is asked for."""
    from atlas8k.refine.model import StrokeModel

    networks = cache(predictor)
    tasks = [(TUNING, n) for n in range(options.phantoms)]
    tasks += [(TUNING_BODIES, n) for n in range(options.bodies)]
    rows, model, figures = [], None, {}
    made_of = (
        f"{options.phantoms} wide phantoms (seeds from 14,000) and {options.bodies} CTs painted on "
        "s0004 and s0328 (seeds from 14,500)"
    )
    for number in range(options.rounds):
        watched = None if model is None else Watched(model)
        rng = np.random.default_rng(number)
        for group, index in tasks:
            case = stored(work, group, index, networks)
            found = examples(case, watched, rng, options.strokes, VOXELS)
            if found is not None:
                rows.append(found)
        both, alone, truth = (np.concatenate(part) for part in zip(*rows, strict=True))
        (one, loss), (two, loss_alone) = (
            fitted(inputs, truth, number, options.epochs) for inputs in (both, alone)
        )
        model = StrokeModel(one, two, made_of)
        figures = {
            "voxels": len(truth), "loss": round(loss, 4), "loss_alone": round(loss_alone, 4)
        }  # fmt: skip
        print(json.dumps({"round": number, **figures}), flush=True)
        if options.out is not None:
            model.save(options.out / "strokes.json")
    report("fit_strokes", figures, options)


if __name__ == "__main__":
    main()
