"""Recalibrate predicted quality on what a campaign's annotators found.

Conformal prediction by groups (Vovk's Mondrian form): the next error lies between two quantiles
of the errors seen of the same organ, in units of the error that was expected; of all organs
together where too few are seen. Signed errors, so that networks which are too hopeful of a
campaign's CTs are put right and not just given wider intervals.

What is reviewed is the worst of a list, so that its errors say little of the rest. Audits are
drawn at random from the rest: where there are enough of them, each stands for its share of the
list (weighted conformal prediction, Tibshirani et al., 2019). Where not, the text says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atlas8k.attention.quality_model import COVERAGE, Floats, Predicted
from atlas8k.core.organ_states import QualitySeen

FEWEST = 20
"""Volumes in which an organ was assessed (of all organs: any), before its own errors count."""


@dataclass(frozen=True)
class Errors:
    """What is known of the errors of one organ, or of all together.

    Attributes
    ----------
    low, middle, high
        Quantiles of ``(found Dice - predicted) / spread``; the interval's ends and the median.
    factor
        Of the wrong volume: found to predicted.
    volumes
        So many these are of.
    fair
        Volumes drawn at random stand for those that nobody reviews.
    """

    low: float
    middle: float
    high: float
    factor: float
    volumes: int
    fair: bool

    def applied(self, predicted: Predicted) -> Predicted:
        """Return a prediction put right by them; as it is where its spread is not known."""
        if (spread := predicted.spread) is None:
            return predicted
        low, middle, high = (
            float(np.clip(predicted.dice + shift * spread, 0.0, 1.0))
            for shift in (self.low, self.middle, self.high)
        )
        return Predicted(middle, low, high, predicted.wrong_ml * self.factor, spread)


@dataclass(frozen=True)
class Calibration:
    """How the predicted quality of a model version is shown.

    Attributes
    ----------
    organs
        Errors of organs of which enough are known.
    pooled
        Of all organs together, for the others; ``None``: too few volumes, all is as embedded.
    volumes
        Submitted volumes with something found.
    contradicting
        Organs of volumes left out, as their submissions contradict each other.
    """

    organs: Mapping[str, Errors]
    pooled: Errors | None
    volumes: int
    contradicting: int = 0

    def errors(self, organ: str) -> Errors | None:
        """Return the errors by which an organ is put right; ``None``: it stays as embedded."""
        return self.organs.get(organ, self.pooled)

    def applied(self, quality: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the quality of organs, as :meth:`Predicted.as_dict` has it, put right.

        ``calibrated`` is added: submitted volumes that each is calibrated on, 0 as embedded.
        """
        out = {}
        for organ, fields in quality.items():
            predicted, errors = Predicted(**fields), self.errors(organ)
            if errors is None or predicted.spread is None:
                out[organ] = {**fields, "calibrated": 0}
            else:
                out[organ] = {
                    **errors.applied(predicted).as_dict(), "calibrated": errors.volumes,
                }  # fmt: skip
        return out

    def dice(self, organ: str, quality: Mapping[str, Any] | None) -> float | None:
        """Return the Dice of one organ, put right; ``None``: nothing is predicted of it."""
        return self.applied({organ: quality})[organ]["dice"] if quality else None

    @property
    def text(self) -> str:
        """What predicted quality rests on, one line."""
        if self.pooled is None:
            text = (
                f"as embedded, from synthetic CTs: {self.volumes} of {FEWEST} submitted volumes "
                "that recalibration needs"
            )
        else:
            own = f", by organ for {', '.join(self.organs)}" if self.organs else ""
            text = f"recalibrated on {self.volumes} submitted volumes{own}; "
            text += (
                "those drawn at random stand for the ones that nobody reviewed"
                if self.pooled.fair
                else "these were not drawn at random but the worst of the list (too few audits), "
                "so that of volumes nobody reviewed it may say too little good"
            )
        if self.contradicting:
            text += f"; {self.contradicting} organs left out, whose submissions contradict"
        return text


UNCALIBRATED = "as embedded, from synthetic CTs; no campaign's submissions were used"
"""In place of :attr:`Calibration.text` where there is no campaign."""
EMBEDDED = Calibration({}, None, 0)


def calibrate(
    seen: Iterable[QualitySeen], contradicting: int = 0, coverage: float = COVERAGE
) -> Calibration:
    """Return how a model version's predicted quality is to be put right.

    Parameters
    ----------
    seen
        One a volume and organ.
    coverage
        Share of organs whose Dice is to lie in the interval.
    """
    every = list(seen)
    by_organ: dict[str, list[QualitySeen]] = {}
    for one in every:
        by_organ.setdefault(one.organ, []).append(one)
    found = {organ: _errors(own, coverage) for organ, own in sorted(by_organ.items())}
    organs = {organ: errors for organ, errors in found.items() if errors is not None}
    volumes = len({one.volume for one in every})
    return Calibration(organs, _errors(every, coverage), volumes, contradicting)


def _errors(seen: Sequence[QualitySeen], coverage: float) -> Errors | None:
    """Return the errors of a group; ``None`` of too few."""
    volumes = len({one.volume for one in seen})
    if volumes < FEWEST:
        return None
    scaled = np.array([(o.quality.found_dice - o.quality.dice) / o.quality.spread for o in seen])
    tail = (1 - coverage) / 2
    weighed = np.array([one.weight for one in seen])
    for weights, fair in ((weighed, True), (np.ones(len(seen)), False)):
        low = _upper(-scaled, weights, 1 - tail)
        high = _upper(scaled, weights, 1 - tail)
        if low is None or high is None or (fair and not any(one.drawn for one in seen)):
            continue
        middle = _median(scaled, weights)
        predicted = sum(w * one.quality.wrong_ml for w, one in zip(weights, seen, strict=True))
        found = sum(w * one.quality.found_ml for w, one in zip(weights, seen, strict=True))
        factor = float(found / predicted) if predicted > 0 else 1.0
        return Errors(-low, middle, high, factor, volumes, fair)
    return None


def _upper(values: Floats, weights: Floats, level: float) -> float | None:
    """Return the conformal quantile: the next value, as heavy as the heaviest, may be the largest.

    ``None`` where it may lie above all that were seen.
    """
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    at = int(np.searchsorted(total, level * (total[-1] + weights.max()) - 1e-9))
    return float(values[order[at]]) if at < len(values) else None


def _median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[int(np.searchsorted(total, total[-1] / 2))]])
