"""Estimate the contrast phase of a CT from the HU of organs.

After a bolus, contrast fills the aorta first, then the veins and the liver, and is in the urine
last. What is compared is enhancement (HU above those of the unenhanced organ) relative to the
aorta's, as a bolus twice as strong enhances everything about twice as much:

- *non-contrast*: blood is 30 to 60 HU, kidneys 30 to 50, liver 50 to 70.
- *arterial*: aorta +300 to 336 HU, liver +15 to 25, hepatic veins +24 to 51 (Kanematsu et al.,
  AJR 186, 2006; 171 patients); kidneys' cortex +195 to 217, 110 to 140 above the medulla (PubMed
  17367973, 128 patients). Relative to the aorta the liver is at .05 to .08, veins below .2; the
  cava takes up the kidneys' blood, too, which comes back early.
- *portal-venous*: aorta +117 to 125, liver +59 to 63, its peak (the same), so about .5; the cava as
  the aorta, but for blood of the legs that is not enhanced yet; cortex and medulla within 30.
- *delayed*, 3 minutes and later: blood and organs have faded by about a third, all alike, which a
  weaker bolus would have done, too. What tells it is urine: the renal pelvis, below 30 HU before,
  is brighter than the kidney around it and than any blood.

A stone of the kidney is as bright as urine with contrast: of two kidneys, the darker pelvis counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.core.grid import Volume
from atlas8k.core.structures import ORGAN_IDS

Array = npt.NDArray[Any]

UNSURE = "unsure"
NON_CONTRAST, ARTERIAL, PORTAL, DELAYED = "non-contrast", "arterial", "portal-venous", "delayed"

LEAST_ML = 2.0
"""Least volume of an organ that counts as found; less is a speck."""
BLOOD = {"aorta": ("aorta",), "postcava": ("postcava",), "kidneys": ("kidney_left", "kidney_right"),
         "liver": ("liver",), "spleen": ("spleen",)}  # fmt: skip

PLAIN_HU, ENHANCED_HU = 70.0, 85.0
"""The brightest of blood and kidneys is below the first in unenhanced CTs, above the second after
contrast."""
UNENHANCED_HU = {"aorta": 42.0, "postcava": 42.0, "liver": 58.0}
VENOUS, PERFUSED = 0.5, 0.25
"""Enhancement of the cava and of the liver, relative to the aorta's, above which veins and portal
blood have it: halfway between what an arterial and a portal-venous phase show."""
ARTERIAL_HU = 220.0
"""An aorta above this is arterial where neither cava nor liver can be read."""
EXCRETED_HU = 25.0
"""Lead of the renal pelvis over cortex and aorta that only excreted contrast gives."""
FADED_HU = 100.0
"""Blood below this, where no kidney can be read, may be of either late phase."""

HOLLOW_MM, BESIDE_MM = 35.0, 10.0
"""Half the width of the hollow of a kidney, and how far out of it a pelvis may lie."""
PELVIS_ML, INSIDE = 0.3, 0.7
"""Part of a pelvis that counts, and share of what is bright that lies in and beside the hollow:
bone and bowel go on elsewhere."""
FINE_MM, SMOOTH_MM = 2.0, 3.0
"""Distance of samples there, and SD of the Gaussian by which noise is smoothed."""
CORTEX = 90.0
"""Per cent of the kidney that is darker than its cortex, about."""


def organ_hu(ct: Volume, thin: Volume, label: npt.NDArray[np.uint8]) -> dict[str, float | None]:
    """Measure what :func:`estimate_phase` goes by.

    Parameters
    ----------
    ct
        ``(X, Y, Z)`` HU, axes nearest RAS.
    thin
        The same, by :func:`~atlas8k.content.abdomen.thinned`.
    label
        ``thin.array.shape`` uint8, organ ids.

    Returns
    -------
    dict
        Median HU of ``aorta``, ``postcava``, ``kidneys``, ``liver`` and ``spleen``; HU of the
        brightest part of the ``renal_pelvis``, and of the ``renal_cortex`` of the same kidney.
        ``None`` where too little is labeled.
    """
    found = {name: _median_hu(thin, label, organs) for name, organs in BLOOD.items()}
    kidneys = [_kidney_hu(ct, thin, label, name) for name in BLOOD["kidneys"]]
    pelvis, cortex = min(
        (one for one in kidneys if one is not None),
        key=lambda one: one[0] - one[1],
        default=(None, None),
    )
    return {**found, "renal_pelvis": pelvis, "renal_cortex": cortex}


def _median_hu(thin: Volume, label: npt.NDArray[np.uint8], organs: tuple[str, ...]) -> float | None:
    """Return the median HU of an organ's inside where that has voxels, else of all of it."""
    mask = np.isin(label, [ORGAN_IDS[name] for name in organs if name in ORGAN_IDS])
    if mask.sum() * thin.grid.voxel_ml < LEAST_ML:
        return None
    inside = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inside &= np.roll(mask, step, axis)
    return float(np.median(thin.array[inside if inside.sum() >= 20 else mask]))


def _kidney_hu(
    ct: Volume, thin: Volume, label: npt.NDArray[np.uint8], kidney: str
) -> tuple[float, float] | None:
    """Return HU of a kidney's pelvis, the cortex's where it is no brighter, and of the cortex."""
    mask = label == ORGAN_IDS.get(kidney, -1)
    if mask.sum() * thin.grid.voxel_ml < LEAST_ML:
        return None
    spacing = np.asarray(thin.grid.spacing)
    pad = np.ceil(2 * BESIDE_MM / spacing).astype(int)
    box = tuple(
        slice(max(0, at.start - n), at.stop + n)
        for at, n in zip(ndimage.find_objects(mask.astype(np.uint8))[0], pad, strict=True)
    )
    kidney_there, other = mask[box], (label[box] > 0) & ~mask[box]
    around = _around(kidney_there, spacing) & ~other
    # Finer than the samples that a median needs: a pelvis is a few millimetres wide.
    own = np.asarray(ct.grid.spacing)
    ratio = np.rint(spacing / own).astype(int)
    step = np.maximum(1, np.rint(FINE_MM / own)).astype(int)
    part = tuple(
        slice(at.start * n, (at.start + size) * n, k)
        for at, n, k, size in zip(box, ratio, step, mask[box].shape, strict=True)
    )
    fine = np.asarray(ct.array[part], np.float32)
    mm = step * own
    smooth = ndimage.gaussian_filter(fine, SMOOTH_MM / mm)
    nearest = np.ix_(
        *(
            np.minimum(np.arange(n) * k // r, m - 1)
            for n, k, r, m in zip(fine.shape, step, ratio, mask[box].shape, strict=True)
        )
    )
    cortex = float(np.percentile(smooth[kidney_there[nearest]], CORTEX))
    bright, count = ndimage.label((smooth > cortex + EXCRETED_HU) & ~other[nearest])
    if not count:
        return cortex, cortex
    everywhere = np.bincount(bright.ravel(), minlength=count + 1)
    inside = np.bincount(bright[around[nearest]], minlength=count + 1)
    urine = inside >= INSIDE * everywhere
    urine[0] = False
    values = smooth[urine[bright]]
    least = max(1, round(PELVIS_ML * 1000.0 / float(np.prod(mm))))
    if len(values) < least:
        return cortex, cortex
    return float(np.partition(values, -least)[-least:].mean()), cortex


def _around(kidney: npt.NDArray[np.bool_], spacing: Array) -> npt.NDArray[np.bool_]:
    """Return a kidney, its hollow, and what is close beside both."""
    pad = np.ceil(HOLLOW_MM / spacing).astype(int) + 1
    padded = np.pad(kidney, [(n, n) for n in pad])
    near = ndimage.distance_transform_edt(~padded, spacing) < HOLLOW_MM
    away = ndimage.distance_transform_edt(near, spacing)
    inner = tuple(slice(n, -n) for n in pad)
    return np.asarray(away[inner] > HOLLOW_MM - BESIDE_MM)


def estimate_phase(hu: Mapping[str, float | None]) -> str:
    """Estimate the contrast phase by the HU of organs.

    Parameters
    ----------
    hu
        As :func:`organ_hu` returns it; what is missing counts as ``None``.
    """
    aorta, kidneys = hu.get("aorta"), hu.get("kidneys")
    known = [value for value in (aorta, kidneys) if value is not None]
    if not known:
        return UNSURE
    if max(known) < PLAIN_HU:
        return NON_CONTRAST
    if max(known) < ENHANCED_HU or aorta is None:
        return UNSURE
    pelvis, cortex = hu.get("renal_pelvis"), hu.get("renal_cortex")
    share = {name: _share(hu, name, aorta) for name in ("postcava", "liver")}
    reached = [
        value / least
        for value, least in ((share["postcava"], VENOUS), (share["liver"], PERFUSED))
        if value is not None
    ]
    if max(reached, default=float(aorta < ARTERIAL_HU)) < 1.0:
        return ARTERIAL
    if pelvis is None or cortex is None:
        return UNSURE if aorta < FADED_HU else PORTAL
    return DELAYED if pelvis - max(cortex, aorta) > EXCRETED_HU else PORTAL


def _share(hu: Mapping[str, float | None], name: str, aorta: float) -> float | None:
    """Return an organ's enhancement relative to the aorta's."""
    value = hu.get(name)
    if value is None:
        return None
    return (value - UNENHANCED_HU[name]) / max(1.0, aorta - UNENHANCED_HU["aorta"])
