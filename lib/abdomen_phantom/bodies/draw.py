"""Draw how one painted CT looks: phase, densities, fat, contents, field of view, scanner.

A look is drawn anew for every CT and handed to the compiled painter as one record. Lengths
mm, densities HU, thresholds in standard deviations of a smooth noise.

======================== ================================================================
fat, wall, visceral,     Thickness of the subcutaneous fat, the muscle wall, the fat within
skin                     it, the skin
up                       1 lying on the back, -1 on the face: where gas collects
middle, radius           Of the trunk, back to front: front and back are told from the side
                         by them
near_bone                Unlabeled tissue so near to bone is muscle
muscle_fat, mesentery,   Thresholds: fat in muscle, vessels in fat, vessels in the liver
vessels
======================== ================================================================
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from abdomen_phantom.bodies.label_maps import SPACING_MM, Body
from abdomen_phantom.bodies.tissues import N_TISSUES, Tissue
from abdomen_phantom.contrast import draw_densities, draw_urine
from abdomen_phantom.scanner import Scan
from abdomen_phantom.setting import STANDARD, Dice, Setting

Array = npt.NDArray[Any]

BODIES: Setting = replace(
    STANDARD,
    name="bodies",
    version=1,
    in_plane_mm=(0.65, 1.6),
    thickness_mm=(0.7, 7.0),
    noise_hu=(4.0, 26.0),
    kernel_mm=(0.4, 1.1),
    edge_gain=(0.0, 0.8),
    contrast_gain=(0.55, 1.35),
)
"""Phases as the paper has them; contrast, noise and slices wider than in any phantom."""

MAX_LENGTH_MM = 420.0


def draw_look(
    dice: Dice, phase: str, middle: float, radius: float, cava_from: float
) -> tuple[Any, Array]:
    """Draw contents, fat and textures, and the density of every tissue.

    Parameters
    ----------
    middle, radius
        Of the trunk from back to front, mm in the body.
    cava_from
        Height of the kidneys, mm in the body: below it, blood of the legs is unmixed.

    Returns
    -------
    look : record
        Numbers by name, float64.
    densities : (tissues,) float64, HU
    """
    rng = dice("look")
    hu = draw_densities(dice, BODIES, phase)
    enhanced = phase != "pre"
    for name in ("liver", "spleen", "pancreas", "muscle", "stomach_wall", "bowel_wall"):
        hu[name] += float(rng.normal(0, 6 if enhanced else 3.5))
    if rng.random() < 0.06:
        hu["liver"] += rng.uniform(10, 25)  # iron, amiodarone
    if phase == "portal" and rng.random() < 0.35:  # late: the cortex stands out no more
        hu["renal_medulla"] = hu["renal_cortex"] - rng.uniform(0, 25)
    lut = np.zeros(N_TISSUES)
    kidney = hu["renal_cortex"]
    by_name = {
        Tissue.AORTA: hu["aorta"],
        Tissue.GALL_BLADDER: hu["gall_bladder"] if rng.random() < 0.9 else rng.uniform(25, 90),
        Tissue.KIDNEY_LEFT: kidney,
        Tissue.KIDNEY_RIGHT: kidney + rng.normal(0, 4),
        Tissue.LIVER: hu["liver"],
        Tissue.PANCREAS: hu["pancreas"],
        Tissue.POSTCAVA: hu["postcava"],
        Tissue.SPLEEN: hu["spleen"],
        Tissue.CYST_LEFT: rng.uniform(-2, 18),
        Tissue.CYST_RIGHT: rng.uniform(-2, 18),
        Tissue.ARTERY: hu["artery"],
        Tissue.VEIN: 40 + (hu["postcava"] - 40) * rng.uniform(0.4, 1.0),
        Tissue.PORTAL_VEIN: hu["portal_vein"],
        Tissue.HEART: hu["heart"],
        Tissue.LUNG: hu["lung"],
        Tissue.AIRWAY: -960.0,
        Tissue.BONE: rng.uniform(120, 320),
        Tissue.SPINE: rng.uniform(80, 260),
        Tissue.CARTILAGE: rng.uniform(70, 140),
        Tissue.MUSCLE: hu["muscle"],
        Tissue.ADRENAL: hu["adrenal"],
        Tissue.BLADDER: rng.uniform(-2, 15) if rng.random() < 0.8 else rng.uniform(50, 400),
        Tissue.SOFT: hu["muscle"] - 8 + (25 * rng.random() if enhanced else 0),
        Tissue.NERVE: rng.uniform(25, 45),
        Tissue.THYROID: rng.uniform(70, 160),
        Tissue.DISC: hu["disc"],
    }
    for kind, value in by_name.items():
        lut[kind] = value
    oral = rng.random() < 0.3
    stomach = rng.choice(["empty", "water", "food", "contrast"], p=[0.3, 0.3, 0.25, 0.15])
    gas = rng.random() < 0.75
    fat = rng.gamma(2.2, 8.0) + 2.0
    look = {
        "fat_side": fat * rng.uniform(0.6, 1.1),
        "fat_front": fat * rng.uniform(0.6, 1.4),
        "fat_back": fat * rng.uniform(0.5, 1.2),
        "wall_side": rng.uniform(7, 17),
        "wall_front": rng.uniform(5, 13),
        "wall_back": rng.uniform(1, 7),
        "visceral": max(0.0, rng.normal(0.5 * fat - 3, 9)),
        "skin": rng.uniform(1.2, 3.0),
        "skin_hu": rng.uniform(-20, 40),
        "up": -1.0 if rng.random() < 0.04 else 1.0,
        "middle": middle,
        "radius": radius,
        "fat_hu": rng.uniform(-114, -92),
        "fat_texture": rng.uniform(3, 12),
        "visceral_hu": rng.uniform(-112, -82),
        "muscle_fat": rng.uniform(1.0, 2.6),
        "near_bone": rng.uniform(4, 13),
        "mesentery": rng.uniform(0.06, 0.24),
        "vessel_hu": 0.5 * (hu["portal_vein"] + hu["artery"]) if enhanced else hu["portal_vein"],
        "texture": rng.uniform(2, 8),
        "bone_texture": rng.uniform(25, 90),
        "cortex": rng.uniform(1.0, 3.5),
        "cortex_hu": rng.uniform(350, 1000),
        "kidney_cortex": rng.uniform(5, 9),
        "medulla_hu": hu["renal_medulla"],
        "sinus": rng.uniform(11, 19),
        "sinus_hu": 0.0,
        "vessels": rng.uniform(0.04, 0.16),
        "stomach_wall": rng.uniform(2, 6) if stomach != "empty" else rng.uniform(6, 14),
        "stomach_wall_hu": hu["stomach_wall"],
        "stomach_level": rng.uniform(-0.1, 0.8) * radius if gas else 1e9,
        "stomach_hu": {
            "empty": rng.uniform(10, 45),
            "water": rng.uniform(-5, 25),
            "food": rng.uniform(15, 70),
            "contrast": rng.uniform(90, 500),
        }[str(stomach)],
        "stomach_texture": rng.uniform(10, 45) if stomach == "food" else rng.uniform(1, 6),
        "bowel_wall": rng.uniform(1.5, 3.5),
        "bowel_wall_hu": hu["bowel_wall"],
        "bowel_gas": rng.uniform(0.9, 2.5),
        "bowel_fluid": rng.uniform(-1.2, 1.2),
        "bowel_fluid_hu": rng.uniform(0, 35),
        "bowel_contrast": rng.uniform(-0.3, 1.2) if oral else 9.0,
        "bowel_contrast_hu": rng.uniform(100, 450),
        "colon_gas": rng.uniform(-0.4, 1.4),
        "colon_hu": rng.uniform(-110, 70),
        "colon_texture": rng.uniform(8, 55),
        "colon_bubbles": rng.uniform(0.9, 2.4),
        "calcification": rng.uniform(0.8, 2.0) if rng.random() < 0.35 else 9.0,
        "calcification_hu": rng.uniform(250, 900),
        "thrombus": rng.uniform(2, 7) if rng.random() < 0.06 else 0.0,
        "thrombus_hu": 45.0,
        "cava_low_hu": 40 + (hu["postcava"] - 40) * rng.uniform(0.3, 1.1),
        "cava_from": cava_from,
        "cava_over": rng.uniform(15, 60),
        "myocardium_hu": hu["heart"] * rng.uniform(0.6, 1.0) if enhanced else hu["heart"] + 3,
        "lung_texture": rng.uniform(20, 70),
        "effusion": rng.uniform(-0.9, -0.2) * radius if rng.random() < 0.12 else -1e9,
        "fluid_hu": rng.uniform(0, 20),
        "ascites": rng.uniform(5, 25) if rng.random() < 0.04 else 0.0,
        "grain": rng.uniform(4, 9),
        "segment": rng.uniform(22, 50),
    }
    look["sinus_hu"] = 0.5 * (look["fat_hu"] + look["medulla_hu"])
    if phase == "delayed":
        look["sinus_hu"] = draw_urine(dice)
    record = np.array([tuple(look.values())], dtype=[(name, np.float64) for name in look])[0]
    return record, lut


def draw_spheres(dice: Dice, body: Body, enhanced: bool) -> Array:
    """Draw cysts and tumours, ``(n, 5)``: centre, mm in the body, radius, mm, and HU."""
    rng = dice("lesions")
    spheres = []
    for kind, most, chance in (
        (Tissue.LIVER, 6, 0.3),
        (Tissue.KIDNEY_LEFT, 3, 0.25),
        (Tissue.KIDNEY_RIGHT, 3, 0.25),
        (Tissue.SPLEEN, 2, 0.06),
        (Tissue.PANCREAS, 1, 0.12),
    ):
        if rng.random() > chance:
            continue
        where = np.argwhere(body.tissue[::3, ::3, ::3] == kind)
        if len(where) == 0:
            continue
        for _ in range(int(rng.integers(1, most + 1))):
            place = where[int(rng.integers(len(where)))] * 3 * SPACING_MM
            radius = float(np.clip(rng.gamma(2.0, 5.0), 3, 28))
            value = rng.uniform(-2, 20) if rng.random() < 0.6 else rng.uniform(25, 75)
            if enhanced and rng.random() < 0.1:
                value = rng.uniform(110, 180)
            spheres.append((*place, radius, value))
    return np.array(spheres, dtype=float).reshape(-1, 5)


def draw_scan(
    dice: Dice, low: Array, high: Array, orientation: str, finest_mm: float = 0.0
) -> Scan:
    """Draw voxel size, noise and kernel of a scan of the box from `low` to `high`, mm."""
    rng, setting = dice("scan"), BODIES
    thickness = float(
        rng.choice(
            [0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.75, 5.0, 6.0, 7.0],
            p=[0.04, 0.1, 0.08, 0.12, 0.1, 0.12, 0.12, 0.06, 0.18, 0.05, 0.03],
        )
    )
    noise = float(np.exp(rng.uniform(*np.log(setting.noise_hu))))
    noise *= float(np.clip((2.5 / thickness) ** 0.5, 0.75, 1.4))
    in_plane = max(float(rng.uniform(*setting.in_plane_mm)), finest_mm)
    kernel = float(rng.uniform(*setting.kernel_mm))
    edge = float(rng.uniform(*setting.edge_gain)) if rng.random() < 0.3 else 0.0
    return Scan(in_plane, thickness, orientation, noise, kernel, edge, low, high)


def draw_range(dice: Dice, body: Body) -> tuple[float, float]:
    """Draw where the scan ends towards feet and head, mm in the body."""
    rng = dice("range")
    last = (body.tissue.shape[2] - 1) * SPACING_MM
    liver = np.flatnonzero((body.tissue == Tissue.LIVER).any(axis=(0, 1))) * SPACING_MM
    kind = rng.choice(
        ["abdomen", "to_pelvis", "within_liver", "from_kidneys", "anywhere", "beyond"],
        p=[0.47, 0.21, 0.11, 0.07, 0.07, 0.07],
    )
    a, b = rng.random(2)
    if len(liver) == 0 or kind == "anywhere":
        length = min(last, 120 + 250 * a)
        low = b * (last - length)
        return float(low), float(low + length)
    bottom, top = float(liver[0]), float(liver[-1])
    low, high = bottom - 20 - 110 * a, top + 70 * b
    if kind == "to_pelvis":
        low, high = bottom - 130 - 170 * a, top + 60 * b
    elif kind == "within_liver":
        high = bottom + (0.35 + 0.6 * b) * (top - bottom)
        low = high - 130 - 180 * a
    elif kind == "beyond":  # chest, neck and head, or pelvis and legs: few organs or none
        length = 80 + 150 * a
        low = top + 20 + b * max(0.0, last - top - 20 - length)
        if last - top < 100 or rng.random() < 0.4:
            low = (bottom - 60 - length) * b
        high = low + length
    elif kind == "from_kidneys":
        low, high = bottom + 0.5 * a * (top - bottom), top + 10 + 90 * b
    low, high = max(0.0, low), min(last, high)
    if high - low < 60:
        low, high = max(0.0, high - 60), min(last, max(0.0, high - 60) + 60)
    if high - low > MAX_LENGTH_MM:
        low = high - MAX_LENGTH_MM
    return float(low), float(high)
