"""What the prediction of one volume adds to the store: a label, sizes by organ, where to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.attention.packed import pack, unpack
from atlas8k.core.errors import CheckpointError, PredictionError, ShortMemoryError
from atlas8k.core.findings import Finding
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid
from atlas8k.services.context import Context
from atlas8k.services.prediction.answers import Answers
from atlas8k.store import OrganScore


@dataclass(frozen=True, eq=False)
class Scored:
    """The result of one volume, small enough to be sent between machines.

    Attributes
    ----------
    grid
        The CT's own.
    label
        The ensemble's label on it, ``(X, Y, Z)`` uint8 organ ids; packed where it is sent.
    attention_ml
        Attention sizes by organ, ml.
    organs
        What the store keeps of every organ.
    explanation, traits, findings
        Where to look; what lists are drawn by beside the ranking; what anatomical rules have
        against the label.
    """

    grid: Grid
    label: npt.NDArray[np.uint8]
    attention_ml: Mapping[str, float]
    organs: Mapping[str, OrganScore]
    explanation: Mapping[str, Any]
    traits: Mapping[str, Any]
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, answers: Answers, grid: Grid, volume: str) -> Scored:
        """Return what is kept of the answers of all networks of a set.

        Raises
        ------
        CheckpointError
            A network could not be loaded: a score would not be one of the set.
        PredictionError
            A network failed at this CT, of which other CTs know nothing.
        ShortMemoryError
            It was short of memory.
        """
        for name, why in answers.failures.items():
            no_score = f"no score without every network of the set, and {name}"
            if name in answers.unloaded:
                raise CheckpointError(name, f"{no_score} could not be loaded: {why}")
            kind = ShortMemoryError if name in answers.short else PredictionError
            raise kind(f"{no_score} failed at this CT: {why}").of_network(name, why)
        return cls(
            grid,
            answers.label_on(grid),
            {name: round(ml, 3) for name, ml in answers.sizes.attention_ml.items()},
            answers.organ_scores(),
            answers.noted(grid, volume),
            answers.traits(),
            answers.findings,
        )

    def __getstate__(self) -> dict[str, Any]:
        # Turned, since a label lies in the order of files.
        return {**self.__dict__, "label": pack(self.label.T[None])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        label = unpack(state["label"], "a result that was sent")[0][0].T
        self.__dict__.update(state, label=label)

    def keep(
        self,
        context: Context,
        volume: str,
        model_version: str,
        seconds: float,
        peak_mb: Mapping[str, float] | None = None,
    ) -> None:
        """Enter label and score into the store.

        Parameters
        ----------
        seconds
            What the volume took.
        peak_mb
            Memory that its process has taken at the most so far, of a GPU, too.
        """
        info = {
            "model": "ensemble",
            "model_version": model_version,
            "attention_ml": dict(self.attention_ml),
            # 3D Slicer reads the names of a stored label here.
            "params": {"label_names": dict(ORGAN_IDS)},
        }
        context.label_service.keep_pseudo(volume, self.label, self.grid, info)
        context.ledger.record_score(
            volume,
            model_version,
            self.organs,
            seconds=seconds,
            # What a volume costs is planned by what computed it.
            explanation={**self.explanation, "on_gpu": "gpu" in (peak_mb or {})},
            traits=self.traits,
            findings=self.findings,
            peak_mb=peak_mb,
        )
