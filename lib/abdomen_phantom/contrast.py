"""Densities of tissues in the four contrast phases."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from abdomen_phantom.setting import Dice, Setting

PHASES = ("pre", "arterial", "portal", "delayed")

# Mean HU in the order of PHASES, and the SD between patients, in textbook ranges. What
# enhances alike in one phase is meant to: neighbours overlap.
_TISSUE: Mapping[str, tuple[tuple[float, float, float, float], float]] = MappingProxyType(
    {
        "aorta": ((42, 300, 150, 110), 0.13),
        "postcava": ((40, 85, 138, 108), 0.12),
        "portal_vein": ((42, 115, 165, 115), 0.12),
        "artery": ((42, 270, 145, 108), 0.13),
        "liver": ((56, 70, 108, 90), 0.07),
        "spleen": ((47, 115, 122, 92), 0.08),
        "pancreas": ((40, 98, 98, 76), 0.09),
        "renal_cortex": ((33, 160, 178, 150), 0.10),
        "renal_medulla": ((31, 85, 155, 155), 0.12),
        "renal_pelvis": ((10, 12, 40, 280), 0.25),
        "stomach_wall": ((40, 82, 88, 70), 0.12),
        "bowel_wall": ((40, 88, 96, 74), 0.12),
        "adrenal": ((28, 78, 80, 55), 0.12),
        "gall_bladder": ((9, 9, 10, 11), 0.6),
        "muscle": ((52, 58, 64, 62), 0.06),
        "heart": ((42, 190, 145, 105), 0.12),
        "bone": ((190, 200, 205, 200), 0.20),
        "lung": ((-850, -840, -840, -845), 0.03),
        "fat": ((-104, -104, -102, -103), 0.04),
        "skin": ((15, 20, 25, 25), 0.2),
        "disc": ((85, 88, 92, 92), 0.1),
    }
)


def draw_phase(dice: Dice, setting: Setting) -> str:
    """Draw a contrast phase, as often as the setting's mix has it."""
    names = sorted(setting.phases)
    shares = np.array([setting.phases[name] for name in names])
    return str(dice("phase").choice(names, p=shares / shares.sum()))


def draw_densities(
    dice: Dice, setting: Setting, phase: str, hard_cases: frozenset[str] = frozenset()
) -> dict[str, float]:
    """Draw the mean density, HU, of every tissue of this patient.

    The unenhanced part and the enhancement vary apart from one another; the timing of
    the bolus moves all tissues together.
    """
    rng = dice("densities")
    column = PHASES.index(phase)
    timing = rng.uniform(*setting.contrast_gain)
    out = {}
    for name, (means, spread) in _TISSUE.items():
        factor = 1 + spread * float(np.clip(rng.standard_normal(), -2, 2))
        plain = means[0]
        out[name] = (plain + (means[column] - plain) * timing) * factor
    if rng.random() < 0.15:  # fatty liver
        out["liver"] -= rng.uniform(15, 40)
    if rng.random() < 0.25:  # fatty pancreas
        out["pancreas"] -= rng.uniform(10, 35)
    if phase in ("portal", "delayed"):  # both halves of the heart are mixed by now
        out["heart"] = 0.3 * out["aorta"] + 0.7 * out["postcava"]
    if phase == "arterial":  # early or late: blood has or has not reached the veins
        late = rng.uniform(0.0, 1.0)
        out["postcava"] += 40 * (late - 0.4)
        out["portal_vein"] += 60 * (late - 0.5)
        out["liver"] += 12 * (late - 0.5)
        out["renal_medulla"] += 50 * (late - 0.4)
    if "fatty_liver" in hard_cases:
        out["liver"] -= dice("fatty_liver").uniform(15, 60)
    if setting.people and phase == "delayed":
        out["renal_pelvis"] = draw_urine(dice)
    return out


def draw_urine(dice: Dice) -> float:
    """Draw the density, HU, of urine with contrast, some minutes after the bolus.

    The kidney concentrates what it filters many times over: urine is far brighter than blood,
    however weak the bolus was.
    """
    return float(dice("excretion").uniform(350, 1000))
