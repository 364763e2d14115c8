"""What the networks say about one CT, and the labels and sizes that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlas8k.errors import PredictionError
from atlas8k.models.ensemble import EnsembleSettings, label_map
from atlas8k.models.regrid import nearest
from atlas8k.organs import ORGANS
from atlas8k.volume import Grid
from atlas8k.weighting import Weights

if TYPE_CHECKING:
    from atlas8k.attention import AttentionSizes


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the networks say about one CT.

    Attributes
    ----------
    grid
        Axes nearest RAS, 1.5 mm, cut to the patient. Outside every probability is 0.
    probs
        ``(models, organs, X, Y, Z)`` float16 in [0, 1], organs in id order 1 to 9.
    names
        Of the models, in their order.
    covered
        ``(models, organs)`` bool: whether the network has an output for the organ;
        ``probs`` is 0 where it has none.
    failures
        Networks that could not take part, and why. A score of such a prediction is not
        one of the whole set.
    ensemble
        How they become labels, where nothing else is asked for.
    """

    grid: Grid
    probs: npt.NDArray[np.float16]
    names: tuple[str, ...]
    covered: npt.NDArray[np.bool_]
    failures: Mapping[str, str] = field(default_factory=dict)
    ensemble: EnsembleSettings = field(default_factory=EnsembleSettings)

    @property
    def organs(self) -> tuple[str, ...]:
        """Names on the organ axis."""
        return tuple(organ.name for organ in ORGANS)

    def label(
        self, model: str | None = None, settings: EnsembleSettings | None = None
    ) -> npt.NDArray[np.uint8]:
        """Return the label map on :attr:`grid`: ``(X, Y, Z)`` uint8, organ ids.

        Parameters
        ----------
        model
            One network's own label; the ensemble's where ``None``.
        settings
            :attr:`ensemble` where ``None``.

        Raises
        ------
        PredictionError
            No such network in this prediction.
        """
        settings = settings or self.ensemble
        members = slice(None)
        if model is not None:
            if model not in self.names:
                reason = self.failures.get(model, f"there are {', '.join(self.names)}")
                raise PredictionError(f"network {model!r} made no prediction: {reason}")
            index = self.names.index(model)
            members = slice(index, index + 1)
            settings = replace(settings, weights=Weights())
        ids = [organ.id for organ in ORGANS]
        return label_map(
            self.probs[members], self.covered[members], ids, settings, self.names[members]
        )

    def label_on(
        self, grid: Grid, model: str | None = None, settings: EnsembleSettings | None = None
    ) -> npt.NDArray[np.uint8]:
        """Return the label map on another grid, as a rule the CT's: ``grid.shape`` uint8.

        Nearest neighbour from :attr:`grid`, 0 outside it. As :meth:`label` otherwise.
        """
        out: npt.NDArray[np.uint8] = nearest(self.label(model, settings), self.grid, grid)
        return out

    def sizes(self, **settings: Any) -> AttentionSizes:
        """Return the attention sizes in ml, :func:`atlas8k.attention.attention_sizes`."""
        from atlas8k.attention import attention_sizes

        return attention_sizes(self.probs, self.grid.voxel_ml, **settings)
