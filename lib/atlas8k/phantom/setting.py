"""What a family of phantoms may look like, and the record of what one of them is.

:data:`MIX` are the settings on which rankings and error detection are judged, a fixed mix
of difficulty: two cases in five look like those that networks are trained on; the others
lie on the way to the shifted setting, three in twenty at each quarter of it. A quarter of
all are cut off by the field of view. What a case is follows from its number alone. The
names are part of the random seed, so that no phantom there is one of another setting,
whatever its seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any
from zlib import crc32

import numpy as np

from atlas8k.volume import Volume

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
        (:mod:`atlas8k.phantom.patient`), or little from one mean anatomy.
    hard_cases
        Probability of each of the hard cases: those the paper names, and with ``people``
        those of :data:`atlas8k.phantom.setting.WIDE`.
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


SHARES: tuple[float, ...] = (
    *(0.0, 0.25, 0.5, 0.75, 1.0, 0.0, 0.0, 0.25, 0.0, 0.5),
    *(0.75, 0.0, 1.0, 0.0, 0.25, 0.5, 0.0, 0.75, 0.0, 1.0),
)
"""How far case ``i`` (modulo 20) is on the way from the standard to the shifted setting."""

CUT_OFF = 0.25
"""Probability that the field of view cuts a patient off."""


def between(share: float) -> Setting:
    """Return a setting on the way from the standard one (0) to the shifted one (1).

    Every number and both ends of every range are interpolated linearly.

    Raises
    ------
    ValueError
        A share outside 0..1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies in 0..1, {share} does not")
    values: dict[str, object] = {}
    for name in (one.name for one in fields(Setting)):
        low, high = getattr(STANDARD, name), getattr(SHIFTED, name)
        if isinstance(low, float):
            values[name] = low + share * (high - low)
        elif isinstance(low, tuple):
            values[name] = tuple(a + share * (b - a) for a, b in zip(low, high, strict=True))
    hard = {**STANDARD.hard_cases, "cut_off_field_of_view": CUT_OFF}
    return replace(
        STANDARD,
        name=f"mix_{round(100 * share):03d}",
        version=1,
        hard_cases=MappingProxyType(hard),
        **values,  # type: ignore[arg-type]
    )


MIX: tuple[Setting, ...] = tuple(between(share) for share in SHARES)


def mix_setting(number: int) -> Setting:
    """Return the setting of case ``number``, from 0 up."""
    return MIX[number % len(MIX)]


@dataclass(frozen=True)
class PhantomCase:
    """What was drawn for one phantom; :meth:`as_dict` is plain JSON."""

    seed: int
    setting: str
    version: int
    phase: str
    spacing_mm: tuple[float, float, float]
    orientation: str
    noise_hu: float
    hard_cases: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


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
