"""The fitted judge of strokes: is a voxel of the organ, given the strokes about it?

Two small networks, one for CTs that were predicted and one from intensities alone. They were
fitted to simulated annotators by ``tests/benchmarks/fit_strokes.py`` and are plain numbers in
``strokes.json`` beside this module.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from atlas8k.attention.perceptron import Perceptron
from atlas8k.core.errors import AttentionError
from atlas8k.refine.features import FEATURES, OPINIONS, Floats, Mask, Scene, features_of, table

FILE = Path(__file__).with_name("strokes.json")
WITH_OPINIONS = (*FEATURES, *OPINIONS)


@dataclass(frozen=True, eq=False)
class StrokeModel:
    """Two networks of one output, a logit.

    Attributes
    ----------
    predicted, alone
        With the networks' probabilities, and from intensities alone.
    made_of
        What they were fitted to, a line.
    """

    predicted: Perceptron
    alone: Perceptron
    made_of: str

    def __call__(self, scene: Scene, where: Mask) -> Floats:
        """Return the logit of "this voxel is of the organ", float32, one a voxel of `where`."""
        features = features_of(scene)
        known = scene.probs is not None
        names, judge = (WITH_OPINIONS, self.predicted) if known else (FEATURES, self.alone)
        return np.asarray(judge(table(features, where, names))[:, 0])

    def save(self, path: Path) -> None:
        """Write the file that :func:`read_model` reads."""
        fields = {
            "made_of": self.made_of,
            "predicted": self.predicted.as_dict(),
            "alone": self.alone.as_dict(),
        }
        path.write_text(json.dumps(fields), encoding="utf-8")


def read_model(path: Path = FILE) -> StrokeModel:
    """Return the fitted networks of a file.

    Raises
    ------
    AttentionError
        It is no such file.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        predicted, alone, made_of = (fields[key] for key in ("predicted", "alone", "made_of"))
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise AttentionError(path.name, f"no fitted judge of strokes ({err})") from err
    return StrokeModel(
        Perceptron.from_dict(predicted, len(WITH_OPINIONS), path.name),
        Perceptron.from_dict(alone, len(FEATURES), path.name),
        str(made_of),
    )


@cache
def embedded_model() -> StrokeModel:
    """Return the fitted networks that come with the project."""
    return read_model()
