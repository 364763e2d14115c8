"""Served and new networks side by side on labeled cases, as they would predict in use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Self

import numpy as np
import numpy.typing as npt

from atlas8k.errors import Atlas8kError
from atlas8k.evaluation.overlap import dsc
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.models.ensemble import EnsembleSettings, label_map
from atlas8k.models.predict import Prediction, Predictor
from atlas8k.models.regrid import nearest
from atlas8k.organs import ORGAN_IDS, ORGANS
from atlas8k.training.data import TrainingCase
from atlas8k.training.gate import Scores
from atlas8k.volume import Grid, read_ct, read_label

logger = logging.getLogger(__name__)

NEW = " (new)"


@dataclass
class Measured:
    """DSC on the CT's own grid.

    Attributes
    ----------
    single
        By trained network: scores with the served and with the new weights.
    sets
        Of the ensemble, by the networks in it that are new.
    failed
        Cases that could not be measured, and why.
    """

    single: dict[str, tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]]
    sets: dict[frozenset[str], dict[str, dict[str, float]]]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """How many were measured."""
        return len(self.sets[frozenset()])


def measure_both(
    cases: Sequence[TrainingCase],
    served: Mapping[str, Checkpoint],
    trained: Mapping[str, Checkpoint],
    *,
    device: str = "cpu",
    overlap: float | None = None,
    ensemble: EnsembleSettings | None = None,
    between: Callable[[], object] = lambda: None,
) -> Measured:
    """Predict every case with both, and compare with its label.

    Parameters
    ----------
    cases
        Only organs that are known and present count.
    served
        All served networks.
    trained
        Those with new weights.
    overlap
        Of the windows, as the server predicts with.
    ensemble
        How probabilities become labels, as the server makes them.
    between
        Called before every case.

    Raises
    ------
    CheckpointError
        No network can be loaded.
    """
    new = {f"{name}{NEW}": checkpoint for name, checkpoint in trained.items()}
    predictor = Predictor({**served, **new}, device, overlap=overlap)
    names = list(trained)
    groups = [frozenset(g) for n in range(len(names) + 1) for g in combinations(names, n)]
    found = Measured({name: ({}, {}) for name in names}, {group: {} for group in groups})
    for case in cases:
        between()
        try:
            seen = _Seen.of(case, predictor, ensemble or EnsembleSettings())
        except (Atlas8kError, OSError) as error:
            found.failed[case.name] = str(error)
            logger.warning("not measured on %s: %s", case.name, error)
            continue
        for name, (before, after) in found.single.items():
            before[case.name] = seen.score([name])
            after[case.name] = seen.score([f"{name}{NEW}"])
        for group, scores in found.sets.items():
            scores[case.name] = seen.score([f"{n}{NEW}" if n in group else n for n in served])
    return found


@dataclass(frozen=True, eq=False)
class _Seen:
    """One case: its truth on the CT's grid, and what every network says of it."""

    truth: npt.NDArray[np.uint8]
    ignored: npt.NDArray[np.bool_] | None
    present: tuple[str, ...]
    grid: Grid
    prediction: Prediction
    ensemble: EnsembleSettings

    @classmethod
    def of(cls, case: TrainingCase, predictor: Predictor, ensemble: EnsembleSettings) -> Self:
        truth, ignored = _truth(case)
        present = tuple(o for o in case.known_organs if bool((truth == ORGAN_IDS[o]).any()))
        ct = read_ct(case.ct_path)
        return cls(truth, ignored, present, ct.grid, predictor.predict(ct), ensemble)

    def score(self, members: Sequence[str]) -> dict[str, float]:
        """DSC of the mean of some networks, by organ; 0 where none of them made it."""
        chosen = np.isin(self.prediction.names, list(members))
        if not chosen.any():
            return dict.fromkeys(self.present, 0.0)
        ids = [organ.id for organ in ORGANS]
        # The others are said to know nothing: a copy of the chosen rows is a gigabyte.
        covered = self.prediction.covered & chosen[:, None]
        roles = [name.removesuffix(NEW) for name in self.prediction.names]
        label = label_map(self.prediction.probs, covered, ids, self.ensemble, roles)
        on_ct = nearest(label, self.prediction.grid, self.grid)
        if self.ignored is not None:
            on_ct[self.ignored] = 0
        values = dsc(on_ct, self.truth)
        return {o: float(values[ORGAN_IDS[o] - 1]) for o in self.present}


def _truth(
    case: TrainingCase,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_] | None]:
    """Known organs on the CT's grid, and where any organ could be."""
    label = read_label(case.label_path).array
    known = np.zeros(256, np.uint8)
    for organ in case.known_organs:
        known[ORGAN_IDS[organ]] = ORGAN_IDS[organ]
    truth: npt.NDArray[np.uint8] = known[label]
    if case.ignore_path is None:
        return truth, None
    return truth, (read_label(case.ignore_path).array != 0) & (truth == 0)


def mean_of(scores: Scores) -> float | None:
    """Mean DSC over cases and organs, None where there is none."""
    values = [value for organs in scores.values() for value in organs.values()]
    return float(np.mean(values)) if values else None
