"""What is to be expected of one CT's label: where it is likely wrong, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlas8k.attention.organ_features import organ_features
from atlas8k.attention.places import find_places, upsampled
from atlas8k.attention.quality_model import Predicted, QualityModel
from atlas8k.attention.regions import Region
from atlas8k.attention.thinned import thinned, thinned_ct
from atlas8k.core.volume import Volume

if TYPE_CHECKING:
    from atlas8k.models.predict import Prediction


@dataclass(frozen=True, eq=False)
class Expected:
    """Places to look at, and the predicted quality by organ.

    Attributes
    ----------
    regions
        Most expected wrong ml first, ten at most.
    places
        ``(X, Y, Z)`` uint8 on the working grid: id of the organ in doubt, 0 elsewhere.
    quality
        By organ that was predicted.
    """

    regions: tuple[Region, ...]
    places: npt.NDArray[np.uint8]
    quality: Mapping[str, Predicted]

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        label: npt.NDArray[np.uint8],
        ct: Volume,
        model: QualityModel | None,
    ) -> Expected | None:
        """Return what a fitted model says of a prediction.

        Returns ``None`` without a model, or where it was fitted to another number of networks.

        Parameters
        ----------
        label
            The ensemble's, on the prediction's grid.
        """
        if model is None or not model.fits(len(prediction.names)):
            return None
        grid = prediction.grid
        volume = thinned(
            prediction.probs,
            label,
            grid,
            thinned_ct(grid, ct),
            organs=prediction.organs,
            known=prediction.covered,
        )
        found = find_places(volume, model, prediction.names)
        features = organ_features(volume, prediction.organs)
        quality = model.predict(features, prediction.organs)
        return cls(found.regions, upsampled(found, grid, volume.steps), quality)

    def wrong_ml(self, organ: str) -> float:
        """Return the expected volume of an organ's wrong voxels, ml; 0 where nobody sees it."""
        return self.quality[organ].wrong_ml if organ in self.quality else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the predicted quality by organ, ready for JSON."""
        return {organ: one.as_dict() for organ, one in self.quality.items()}

    def as_meta(self) -> dict[str, Any]:
        """Return all but the map, for :meth:`from_meta`."""
        regions = [region.as_dict() for region in self.regions]
        return {"regions": regions, "quality": {o: list(one) for o, one in self.quality.items()}}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], places: npt.NDArray[np.uint8]) -> Expected:
        """Return what :meth:`as_meta` and the map were made of."""
        regions = tuple(Region.from_dict(fields) for fields in meta["regions"])
        quality = {organ: Predicted(*values) for organ, values in meta["quality"].items()}
        return cls(regions, places, quality)
