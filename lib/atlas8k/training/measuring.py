"""Measure served and new networks side by side on labeled cases, predicting as in use."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import Atlas8kError, DeviceLostError, PredictionError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, read_ct, read_label
from atlas8k.metrics.overlap import dsc
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.models.ensemble import EnsembleSettings, label_map
from atlas8k.models.predict import Prediction, Predictor
from atlas8k.models.regrid import nearest
from atlas8k.training.data import TrainingCase
from atlas8k.training.time_budget import OWN_DEVICE, SharedDevice, TimeBudget

logger = logging.getLogger(__name__)

NEW = " (new)"


@dataclass
class Measured:
    """DSC on the CT's own grid, of the networks that predicted a case.

    A network that failed on a case has no score there.

    Attributes
    ----------
    single
        By trained network: scores with the served and with the new weights.
    sets
        Of the ensemble, by the networks in it that are new; of cases that none of the trained
        networks failed on, the served or the new one, whichever is in it.
    failed
        Reason by case that could not be read.
    failures
        By network, the reason by case on which it failed; new ones as ``"unet (new)"``.
    """

    single: dict[str, tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]]
    sets: dict[frozenset[str], dict[str, dict[str, float]]]
    failed: dict[str, str] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """Number of cases that were measured."""
        return len(self.sets[frozenset()])

    @property
    def unfit(self) -> dict[str, str]:
        """Reason by trained network that failed with its new weights: it is not published."""
        failures = {name: self.failures.get(_as_new(name), {}) for name in self.single}
        return {
            name: f"failed on {_case_count(reasons)}: {_first_reason(reasons)}"
            for name, reasons in failures.items()
            if reasons
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """Cases that were not compared, with the reason, a line each."""
        lines = [f"{_case_count(self.failed)} cannot be read; see the log"] if self.failed else []
        for name in self.single:
            failures = self.failures.get(name)
            if failures:
                why = _first_reason(failures)
                lines.append(
                    f"not compared on {_case_count(failures)}, the served {name} failed: {why}"
                )
        return tuple(lines)


def measure_both(
    cases: Sequence[TrainingCase],
    served: Mapping[str, Checkpoint],
    trained: Mapping[str, Checkpoint],
    *,
    device: str = "cpu",
    overlap: float | None = None,
    ensemble: EnsembleSettings | None = None,
    shared_device: SharedDevice = OWN_DEVICE,
) -> Measured:
    """Predict every case with served and new networks, and compare with its label.

    Parameters
    ----------
    cases
        Only organs that are known and present count.
    served
        All served networks.
    trained
        Those with new weights.
    overlap
        Overlap of the windows, as in the server.
    ensemble
        Settings by which probabilities become labels, as in the server.
    shared_device
        The device, where others want it too: they have it except while a case is predicted.

    Raises
    ------
    CheckpointError
        No network can be loaded.
    DeviceLostError
        The GPU does not answer any more.
    """
    new = {_as_new(name): checkpoint for name, checkpoint in trained.items()}
    predictor = Predictor({**served, **new}, device, overlap=overlap)
    names, budget = list(trained), TimeBudget(shared_device)
    groups = [frozenset(g) for n in range(len(names) + 1) for g in combinations(names, n)]
    measured = Measured({name: ({}, {}) for name in names}, {group: {} for group in groups})
    for case in cases:
        try:
            with budget.aside():
                truth, ignored = _truth(case)
                ct = read_ct(case.ct_path)
            prediction = predictor.predict(ct)
        except DeviceLostError:
            raise  # no fault of the networks, nor of the case
        except PredictionError as error:
            _record_failures(measured, case, dict.fromkeys([*names, *new], str(error)))
            continue
        except (Atlas8kError, OSError) as error:
            measured.failed[case.name] = str(error)
            logger.warning("not measured on %s: %s", case.name, error)
            continue
        missing_members = [name for name in (*names, *new) if name not in prediction.names]
        _record_failures(
            measured,
            case,
            {n: prediction.failures.get(n, "it is not loaded") for n in missing_members},
        )
        score = partial(_score, prediction, truth, ignored, ct.grid, ensemble)
        with budget.aside():
            for name, pair in measured.single.items():
                for scores, member in zip(pair, (name, _as_new(name)), strict=True):
                    if member in prediction.names:
                        scores[case.name] = score([member])
            for group, scores in measured.sets.items():
                members = {name: _as_new(name) if name in group else name for name in served}
                if all(members.get(name) in prediction.names for name in measured.single):
                    scores[case.name] = score(list(members.values()))
    return measured


def _score(
    prediction: Prediction,
    truth: npt.NDArray[np.uint8],
    ignored: npt.NDArray[np.bool_],
    grid: Grid,
    ensemble: EnsembleSettings | None,
    members: Sequence[str],
) -> dict[str, float]:
    """Return the DSC by organ of the mean of these members of the prediction, at least one.

    Of organs that one of them knows: what is new is looked at apart.
    """
    # The others are marked as not covering any organ: a copy of the chosen rows is a gigabyte.
    covered = prediction.covered & np.isin(prediction.names, members)[:, None]
    roles = [name.removesuffix(NEW) for name in prediction.names]
    ids = [ORGAN_IDS[organ] for organ in prediction.organs]
    label = nearest(
        label_map(prediction.probs, covered, ids, ensemble, roles), prediction.grid, grid
    )
    label[ignored] = 0
    values = dsc(label, truth)
    # A structure that these members do not know is not one that they miss.
    known = {o for o, has in zip(prediction.organs, covered.any(axis=0), strict=True) if has}
    return {
        o: float(v)
        for o, v in zip(ORGAN_IDS, values, strict=True)
        if o in known and not np.isnan(v)
    }


def _record_failures(measured: Measured, case: TrainingCase, failures: Mapping[str, str]) -> None:
    for name, why in failures.items():
        measured.failures.setdefault(name, {})[case.name] = why


def _as_new(name: str) -> str:
    return f"{name}{NEW}"


def _case_count(failures: Mapping[str, str]) -> str:
    return f"{len(failures)} case{'s' * (len(failures) != 1)}"


def _first_reason(failures: Mapping[str, str]) -> str:
    """Return the first reason, one line, without the case's name: it may be a patient's."""
    return next(iter(failures.values())).partition("\n")[0]


def _truth(case: TrainingCase) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Read the known organs on the CT's grid, and the mask of voxels that could be any organ."""
    label = read_label(case.label_path).array
    known = np.zeros(256, np.uint8)
    for organ in case.known_organs:
        known[ORGAN_IDS[organ]] = ORGAN_IDS[organ]
    truth: npt.NDArray[np.uint8] = known[label]
    if case.ignore_path is None:
        return truth, np.zeros(truth.shape, bool)
    return truth, (read_label(case.ignore_path).array != 0) & (truth == 0)
