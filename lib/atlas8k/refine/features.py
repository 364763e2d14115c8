"""What is known of a voxel beside strokes: networks, label, intensities, ways to the strokes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.refine.geodesic import geodesic_mm

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

MOST_LOGIT = 6.0
MOST_MM = 60.0
EDGE_MM = 20.0
"""Distances to the label's outline are not told apart beyond this."""
SMOOTH_MM = 2.0
HU_RANGE = (-200.0, 300.0)
MM_PER_HU = 0.25
"""A way through 40 HU of change costs as much as one of 10 mm."""
MM_PER_LOGIT = 3.0

OPINIONS = (
    "mean", "least", "middle", "most", "others", "mean_at_organ", "mean_at_not", "way_organ_logit",
    "way_not_logit",
)  # fmt: skip
FEATURES = (
    "label", "to_outline_mm", "other_label", "organ_mm", "not_mm", "organ_way_mm", "not_way_mm",
    "depth_at_organ", "depth_at_not", "hu", "hu_from_organ", "hu_from_not", "hu_from_label",
    "organ_is_new", "not_is_new", "gradient", "nearer", "sharp_from_organ", "sharp_from_not",
    "sharp_from_label", "stroke_from_label",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scene:
    """A region of a CT about some strokes; all arrays ``(X, Y, Z)`` but `probs`.

    Attributes
    ----------
    ct
        HU.
    organ, other
        Where the label has the organ, and where it has another.
    inside, outside
        Strokes: organ, and not this organ.
    spacing
        mm.
    probs
        ``(networks, X, Y, Z)`` probabilities of the organ in 0..1; None: never predicted.
    others
        Largest mean probability of any other organ.
    """

    ct: npt.NDArray[Any]
    organ: Mask
    other: Mask
    inside: Mask
    outside: Mask
    spacing: tuple[float, float, float]
    probs: npt.NDArray[Any] | None = None
    others: npt.NDArray[Any] | None = None

    @property
    def new_inside(self) -> Mask:
        """Return the strokes that say organ where the label does not have it."""
        return self.inside & ~self.organ

    @property
    def new_outside(self) -> Mask:
        """Return the strokes that say not this organ where the label has it."""
        return self.outside & self.organ


def logit(probability: npt.NDArray[Any]) -> Floats:
    """Return ``ln(p / (1 - p))`` within :data:`MOST_LOGIT`."""
    p = np.clip(np.asarray(probability, dtype=np.float32), 1e-3, 1 - 1e-3)
    return np.clip(np.log(p / (1 - p)), -MOST_LOGIT, MOST_LOGIT).astype(np.float32)


def features_of(scene: Scene) -> dict[str, Floats]:
    """Return :data:`FEATURES` and, where there are probabilities, :data:`OPINIONS`.

    NaN where there is nothing that a feature is of, as without a stroke of its kind.
    """
    spacing = scene.spacing
    sigma = [SMOOTH_MM / mm for mm in spacing]
    hu = np.clip(scene.ct, *HU_RANGE).astype(np.float32)
    sharp = ndimage.gaussian_filter(hu, [s / 3 for s in sigma])
    hu = ndimage.gaussian_filter(hu, sigma)
    depth = _depth(scene.organ, spacing)
    out: dict[str, Floats] = {
        "label": scene.organ.astype(np.float32),
        "to_outline_mm": depth,
        "other_label": scene.other.astype(np.float32),
        "hu": hu,
        "gradient": ndimage.gaussian_gradient_magnitude(hu, sigma),
    }
    shape = scene.ct.shape
    nothing = np.full(shape, np.nan, dtype=np.float32)
    mean = None
    if scene.probs is not None:
        ordered = np.sort(logit(scene.probs), axis=0)
        mean = logit(np.mean(scene.probs, axis=0, dtype=np.float32))
        out |= {"mean": mean, "least": ordered[0], "most": ordered[-1]}
        out["middle"] = ordered[len(ordered) // 2]
        out["others"] = nothing if scene.others is None else logit(scene.others)
    for name, strokes, new in (
        ("organ", scene.inside, scene.new_inside),
        ("not", scene.outside, scene.new_outside),
    ):
        if not strokes.any():
            missing = [f"depth_at_{name}", f"hu_from_{name}", f"sharp_from_{name}"]
            if mean is not None:
                missing += [f"mean_at_{name}", f"way_{name}_logit"]
            out |= dict.fromkeys(missing, nothing)
            out[f"{name}_mm"] = out[f"{name}_way_mm"] = np.full(shape, MOST_MM, dtype=np.float32)
            out[f"{name}_is_new"] = np.zeros(shape, dtype=np.float32)
            continue
        away, at = ndimage.distance_transform_edt(~strokes, sampling=spacing, return_indices=True)
        nearest = tuple(at)
        out[f"{name}_mm"] = np.minimum(away, MOST_MM).astype(np.float32)
        out[f"{name}_way_mm"] = np.minimum(
            geodesic_mm(hu, strokes, spacing, MM_PER_HU), 2 * MOST_MM
        )
        out[f"depth_at_{name}"] = depth[nearest]
        out[f"{name}_is_new"] = new[nearest].astype(np.float32)
        typical = _typical(hu, strokes)[nearest]
        out[f"hu_from_{name}"] = hu - typical
        out[f"sharp_from_{name}"] = np.abs(sharp - typical)
        if mean is not None:
            out[f"mean_at_{name}"] = mean[nearest]
            out[f"way_{name}_logit"] = np.minimum(
                geodesic_mm(mean, strokes, spacing, MM_PER_LOGIT), 2 * MOST_MM
            )
    core = depth > 3.0
    out["hu_from_label"] = out["sharp_from_label"] = out["stroke_from_label"] = nothing
    if core.any():
        typical = np.float32(np.median(hu[core]))
        out["hu_from_label"], out["sharp_from_label"] = hu - typical, np.abs(sharp - typical)
        if scene.inside.any():
            marked = np.float32(np.median(hu[scene.inside]))
            out["stroke_from_label"] = np.full(shape, marked - typical)
    out["nearer"] = out["not_way_mm"] - out["organ_way_mm"]
    return out


def table(features: dict[str, Floats], where: Mask, names: tuple[str, ...]) -> Floats:
    """Return the features of some voxels, ``(voxels, features)`` float32."""
    return np.stack([features[name][where] for name in names], axis=1)


def _typical(hu: Floats, strokes: Mask) -> Floats:
    """Return at each stroke's voxel the mean HU of the stroke's voxels about it."""
    out = np.zeros_like(hu)
    out[strokes] = (hu[strokes] + hu[strokes].mean()) / 2
    return out


def _depth(mask: Mask, spacing: tuple[float, float, float]) -> Floats:
    """Return the distance to the outline, mm, positive inside, within :data:`EDGE_MM`."""
    if not mask.any():
        return np.full(mask.shape, -EDGE_MM, dtype=np.float32)
    out = ndimage.distance_transform_edt(mask, sampling=spacing)
    out -= ndimage.distance_transform_edt(~mask, sampling=spacing)
    depth: Floats = np.clip(out, -EDGE_MM, EDGE_MM).astype(np.float32)
    return depth
