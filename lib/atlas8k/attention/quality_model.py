"""Predict how good a label is: Dice and wrong ml by organ, and the chance of error by voxel.

Two small networks (:class:`~atlas8k.attention.perceptron.Perceptron`), fitted on CTs whose truth is
known and stored beside the segmentation networks whose errors they have learnt. Intervals are
conformal: the residuals of CTs that the fit had not seen say how far off it may be (Vovk et al.,
*Algorithmic Learning in a Random World*; scaled by a predicted spread as in Lei et al., JASA 2018).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from atlas8k.attention.organ_features import FEATURES
from atlas8k.attention.perceptron import Perceptron
from atlas8k.attention.voxel_features import INPUTS, LEARNT, VOXEL_FEATURES
from atlas8k.core.errors import AttentionError
from atlas8k.core.structures import ORGAN_NAMES

QUALITY_FILE = "predicted_quality.json"
QUALITY_FORMAT = "atlas8k-predicted-quality/1"
COVERAGE = 0.9
"""Share of organs whose Dice is to lie in the interval."""
FEWEST = 20
"""Of fewer residuals no interval is made."""
LEAST_SPREAD = 0.005
UNKNOWN = "unknown: nothing was learnt of the errors of these networks"
"""What predicted quality rests on where there is none."""

Floats = npt.NDArray[np.float64]


class Predicted(NamedTuple):
    """What is expected of one organ's label.

    Attributes
    ----------
    dice
        0 to 1.
    low, high
        Interval of the Dice; ``None`` where too few cases are known.
    wrong_ml
        Volume of wrong voxels, ml.
    spread
        Size of error that is expected of the Dice; ``None`` in what an earlier release kept.
    """

    dice: float
    low: float | None
    high: float | None
    wrong_ml: float
    spread: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers with three digits, ready for JSON."""
        return {key: None if v is None else round(v, 3) for key, v in self._asdict().items()}


@dataclass(frozen=True, eq=False)
class QualityModel:
    """The fitted networks and what is known of their errors.

    Attributes
    ----------
    organ
        Of :func:`inputs_of` features: logit of the Dice, log of the residual's spread, log of
        wrong ml + 1.
    voxel
        Of :data:`VOXEL_FEATURES` and the organ: logit of the chance that the voxel is in an error
        region.
    residuals
        By organ, sorted: ``|Dice - predicted| / spread`` of CTs that the fit had not seen.
    made_of
        Which CTs, for people who read the file.
    networks
        How many networks its CTs were predicted by; agreement of fewer means something else.
    """

    organ: Perceptron
    voxel: Perceptron
    residuals: Mapping[str, Floats]
    made_of: str
    networks: int = 3

    def fits(self, networks: int) -> bool:
        """Whether it says anything of a prediction by so many networks."""
        return networks == self.networks

    def predict(
        self, features: Floats, organs: Sequence[str] = ORGAN_NAMES, coverage: float = COVERAGE
    ) -> dict[str, Predicted]:
        """Return what is expected of every organ that was predicted and learnt of.

        Parameters
        ----------
        features
            ``(organs, features)``, see :func:`~atlas8k.attention.organ_features.organ_features`.
        """
        learnt = np.array([organ in LEARNT for organ in organs])
        there = np.flatnonzero(np.isfinite(features[:, 0]) & learnt)
        if not len(there):
            return {}
        dice, spread, wrong = self.figures(inputs_of(features, organs)[there])
        out = {}
        for row, index in enumerate(there):
            organ = organs[index]
            width = conformal(self.residuals.get(organ, np.zeros(0)), coverage)
            middle = float(dice[row])
            ends: tuple[float | None, float | None] = (None, None)
            if width is not None:
                reach = width * float(spread[row])
                ends = max(0.0, middle - reach), min(1.0, middle + reach)
            out[organ] = Predicted(middle, *ends, float(wrong[row]), float(spread[row]))
        return out

    def figures(self, inputs: npt.NDArray[Any]) -> tuple[Floats, Floats, Floats]:
        """Return Dice, spread of its residual, and wrong ml, each ``(n,)``."""
        logit, log_spread, log_wrong = self.organ(inputs).astype(np.float64).T
        spread = np.maximum(np.exp(np.clip(log_spread, -8, 0)), LEAST_SPREAD)
        return expit(logit), spread, np.expm1(np.clip(log_wrong, 0, 9))

    def chance(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the chance that voxels are in an error region, ``(n,)`` of ``(n, INPUTS)``."""
        if not len(features):
            return np.zeros(0, np.float32)
        out: npt.NDArray[np.float32] = expit(self.voxel(features)[:, 0]).astype(np.float32)
        return out

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON."""
        return {
            "format": QUALITY_FORMAT,
            "made_of": self.made_of,
            "networks": self.networks,
            "features": list(FEATURES),
            "voxel_features": list(VOXEL_FEATURES),
            "residuals": {
                organ: [round(float(value), 4) for value in values]
                for organ, values in self.residuals.items()
            },
            "organ": self.organ.as_dict(),
            "voxel": self.voxel.as_dict(),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], name: str) -> QualityModel:
        """Return what :meth:`as_dict` gave.

        Raises
        ------
        AttentionError
            Another format, or features that this release does not measure; names the file.
        """
        try:
            if fields["format"] != QUALITY_FORMAT:
                raise ValueError(f"its format is not {QUALITY_FORMAT}")
            if (tuple(fields["features"]), tuple(fields["voxel_features"])) != (
                FEATURES,
                VOXEL_FEATURES,
            ):
                raise ValueError("it was fitted to other features than this release measures")
            residuals = {o: np.sort(np.array(v, float)) for o, v in fields["residuals"].items()}
            made_of, networks = str(fields["made_of"]), int(fields["networks"])
            organ, voxel = fields["organ"], fields["voxel"]
        except (KeyError, TypeError, ValueError) as err:
            raise AttentionError(name, f"no predicted quality ({err}); make it anew") from err
        inputs = len(FEATURES) + len(LEARNT)
        return cls(
            Perceptron.from_dict(organ, inputs, name),
            Perceptron.from_dict(voxel, INPUTS, name),
            residuals,
            made_of,
            networks,
        )


def read_quality(path: Path) -> QualityModel:
    """Read what is stored with a set of networks.

    Raises
    ------
    AttentionError
        The file cannot be read, or is damaged.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise AttentionError(str(path), f"no predicted quality ({err}); make it anew") from err
    return QualityModel.from_dict(fields, str(path))


def inputs_of(features: Floats, organs: Sequence[str] = ORGAN_NAMES) -> Floats:
    """Return features with a one-hot code of the organ, ``(organs, features + organs)``."""
    codes = np.zeros((len(organs), len(LEARNT)))
    for row, organ in enumerate(organs):
        if organ in LEARNT:
            codes[row, LEARNT.index(organ)] = 1.0
    return np.concatenate([features, codes], axis=1)


def unknown_of(model: QualityModel | None, networks: int) -> str:
    """Return why nothing is predicted of a label by so many networks, one line; empty: it is."""
    if model is None:
        return UNKNOWN
    if model.fits(networks):
        return ""
    part = "1 network took part" if networks == 1 else f"{networks} networks took part"
    return f"unknown: {part}, and what was learnt is of the errors of {model.networks} together"


def in_words(quality: Mapping[str, Any] | None) -> str:
    """Return ``"0.91 (0.84 to 0.96)"`` of :meth:`Predicted.as_dict`; nothing of nothing."""
    if not quality:
        return ""
    if quality["low"] is None:
        return f"{quality['dice']:.2f}"
    return f"{quality['dice']:.2f} ({quality['low']:.2f} to {quality['high']:.2f})"


def conformal(residuals: Floats, coverage: float) -> float | None:
    """Return the residual below which the next one lies with this chance, ``None`` of too few.

    The ``ceil((n + 1) coverage)``-th smallest of n (split conformal prediction).
    """
    count = len(residuals)
    rank = math.ceil((count + 1) * coverage)
    if count < FEWEST or rank > count:
        return None
    return float(np.sort(residuals)[rank - 1])


def expit(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the logistic function."""
    out: npt.NDArray[Any] = 1.0 / (1.0 + np.exp(-np.clip(values, -30, 30)))
    return out
