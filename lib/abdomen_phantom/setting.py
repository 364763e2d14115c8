"""Settings of a family of phantoms, and the record of what was drawn for one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from zlib import crc32

import numpy as np

from atlas8k.core.volume import Volume

Range = tuple[float, float]

PHASE_MIX: Mapping[str, float] = MappingProxyType(
    {"portal": 0.44, "arterial": 0.37, "pre": 0.16, "delayed": 0.03}
)
"""Shares of the contrast phases in AbdomenAtlas-8K (Qu et al., NeurIPS 2023)."""


@dataclass(frozen=True)
class Setting:
    """Ranges from which phantoms are drawn; lengths in mm, densities in HU.

    Attributes
    ----------
    name, version
        Both are part of the random seed and of the description that is written beside
        a set: a set made with another version is made anew.
    in_plane_mm, thickness_mm
        Voxel size within a slice; slice thickness (slices touch, none overlap).
    noise_hu
        Standard deviation of the noise at 2.5 mm slices; it falls with the square root
        of the thickness.
    kernel_mm
        Standard deviation of the reconstruction kernel, for edges and noise alike.
    edge_gain
        Strength of an edge-enhancing kernel, 0 for none.
    body_scale, fat_mm, roll_deg
        Size of the trunk relative to the mean, subcutaneous fat at the flank, and
        rotation of the patient about the body axis.
    place_mm, size_spread, surface, warp_mm
        Spread of organ positions (SD), relative spread of organ sizes (SD), factor on
        the surface bumps, amplitude (SD) of the common smooth displacement.
    contrast_gain
        Factor on the enhancement over the unenhanced organ.
    common_orientation
        Probability of an orientation that scanners write; else any of the 48.
    people
        Whether organs differ in size, shape and place as those of real people do
        (:mod:`abdomen_phantom.patient`), or little from one mean anatomy.
    hard_cases
        Probability of each of the hard cases: those the paper names, and with ``people``
        those of :data:`abdomen_phantom.setting.WIDE`.
    """

    name: str
    version: int
    in_plane_mm: Range
    thickness_mm: Range
    noise_hu: Range
    kernel_mm: Range
    edge_gain: Range
    body_scale: Range
    fat_mm: Range
    roll_deg: float
    place_mm: float
    size_spread: float
    surface: Range
    warp_mm: float
    contrast_gain: Range
    common_orientation: float
    phases: Mapping[str, float] = field(default_factory=lambda: PHASE_MIX)
    people: bool = False
    hard_cases: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType(
            {
                "missing_gall_bladder": 0.10,
                "enlarged_pancreas_tail": 0.10,
                "fluid_filled_stomach": 0.15,
                "cut_off_field_of_view": 0.12,
            }
        )
    )


STANDARD = Setting(
    name="standard",
    version=1,
    in_plane_mm=(1.2, 2.0),
    thickness_mm=(1.0, 5.0),
    noise_hu=(7.0, 18.0),
    kernel_mm=(0.6, 1.0),
    edge_gain=(0.0, 0.0),
    body_scale=(0.92, 1.08),
    fat_mm=(6.0, 32.0),
    roll_deg=3.0,
    place_mm=4.0,
    size_spread=0.06,
    surface=(0.7, 1.2),
    warp_mm=3.5,
    contrast_gain=(0.85, 1.15),
    common_orientation=0.5,
)
"""The phantoms that networks are trained on and the server starts with."""

SHIFTED = Setting(
    name="shifted",
    version=1,
    in_plane_mm=(0.9, 1.2),
    thickness_mm=(2.0, 6.0),
    noise_hu=(18.0, 28.0),
    kernel_mm=(0.35, 0.55),
    edge_gain=(0.4, 0.9),
    body_scale=(0.84, 1.16),
    fat_mm=(3.0, 45.0),
    roll_deg=8.0,
    place_mm=6.0,
    size_spread=0.11,
    surface=(1.2, 1.7),
    warp_mm=5.5,
    contrast_gain=(0.65, 1.35),
    common_orientation=0.5,
)
"""A domain no network may be trained on: other noise, kernel, spacing and shapes."""


WIDE = Setting(
    name="wide",
    version=1,
    in_plane_mm=(1.0, 1.8),
    thickness_mm=(0.7, 7.0),
    noise_hu=(6.0, 28.0),
    kernel_mm=(0.35, 1.1),
    edge_gain=(0.0, 0.7),
    body_scale=(0.92, 1.08),
    fat_mm=(2.0, 60.0),
    roll_deg=6.0,
    place_mm=2.0,
    size_spread=0.03,
    surface=(0.7, 1.5),
    warp_mm=4.0,
    contrast_gain=(0.6, 1.35),
    common_orientation=0.5,
    people=True,
    hard_cases=MappingProxyType(
        {
            # Organs.
            "missing_gall_bladder": 0.12,
            "enlarged_pancreas_tail": 0.04,
            "fatty_liver": 0.20,
            "cirrhotic_liver": 0.08,
            "riedel_lobe": 0.06,
            "large_spleen": 0.05,
            "absent_kidney": 0.02,
            "renal_cysts": 0.20,
            "calcified_aorta": 0.30,
            "aneurysm": 0.04,
            "flat_postcava": 0.15,
            # Contents of stomach and bowel.
            "fluid_filled_stomach": 0.15,
            "gas_filled_stomach": 0.10,
            "oral_contrast": 0.25,
            # What else is in the picture.
            "arms_at_side": 0.12,
            "contrast_line": 0.15,
            "metal": 0.06,
            "prone": 0.04,
            # What is scanned.
            "begins_at_lungs": 0.35,
            "ends_in_pelvis": 0.45,
            "cut_off_field_of_view": 0.12,
            "half_abdomen": 0.03,
        }
    ),
)
"""Bodies that spread as people do, scanned in as many ways."""


@dataclass(frozen=True)
class PhantomCase:
    """Values drawn for one phantom, plain JSON."""

    seed: int
    setting: str
    version: int
    phase: str
    spacing_mm: tuple[float, float, float]
    orientation: str
    noise_hu: float
    hard_cases: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic CT with exact truth.

    Attributes
    ----------
    ct
        ``(X, Y, Z)`` int16, HU.
    label
        ``(X, Y, Z)`` uint8 on the same grid: organ ids 1 to 9, 0 elsewhere.
    case
        What was drawn.
    """

    ct: Volume
    label: Volume
    case: PhantomCase


class Dice:
    """Random generators by component name, so that a new component changes no other.

    Parameters
    ----------
    seed
        Any integer from 0 up.
    setting
        Name and version go into the seed: no phantom of one setting shares its random
        numbers with one of another.
    """

    def __init__(self, seed: int, setting: Setting) -> None:
        if seed < 0:
            raise ValueError(f"the seed of a phantom must be 0 or more, not {seed}")
        self._entropy = (seed, crc32(setting.name.encode()), setting.version)

    def __call__(self, component: str) -> np.random.Generator:
        key = crc32(component.encode())
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=(key,)))
