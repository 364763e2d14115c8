"""How one painted CT looks: numbers that the compiled painter reads by position.

:class:`Look` is filled by name and handed over as one array, since compiled code cannot
take a record whose fields differ in meaning from CT to CT. Lengths mm, densities HU,
thresholds in standard deviations of a smooth noise.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass
class Look:
    """What is drawn anew for every CT.

    Attributes
    ----------
    fat_*, wall_*, visceral, skin
        Thickness of the subcutaneous fat, the muscle wall, the fat within it, the skin.
    up
        1 lying on the back, -1 on the face: where gas collects.
    middle, radius
        Of the trunk, back to front: front and back are told from the side by them.
    near_bone
        Unlabeled tissue so near to bone is muscle.
    muscle_fat, mesentery, vessels
        Thresholds: fat in muscle, vessels in fat, vessels in the liver.
    """

    fat_side: float = 15.0
    fat_front: float = 15.0
    fat_back: float = 15.0
    wall_side: float = 12.0
    wall_front: float = 9.0
    wall_back: float = 3.0
    visceral: float = 0.0
    skin: float = 2.0
    skin_hu: float = 10.0
    up: float = 1.0
    middle: float = 0.0
    radius: float = 100.0
    fat_hu: float = -105.0
    fat_texture: float = 8.0
    visceral_hu: float = -100.0
    muscle_fat: float = 1.6
    near_bone: float = 9.0
    mesentery: float = 0.12
    vessel_hu: float = 120.0
    texture: float = 4.0
    bone_texture: float = 60.0
    cortex: float = 2.0
    cortex_hu: float = 600.0
    kidney_cortex: float = 6.0
    medulla_hu: float = 120.0
    sinus: float = 13.0
    vessels: float = 0.10
    stomach_wall: float = 3.0
    stomach_wall_hu: float = 70.0
    stomach_level: float = 1e9
    stomach_hu: float = 20.0
    stomach_texture: float = 5.0
    bowel_wall: float = 2.0
    bowel_wall_hu: float = 70.0
    bowel_gas: float = 1.5
    bowel_fluid: float = 0.0
    bowel_fluid_hu: float = 15.0
    bowel_contrast: float = 9.0
    bowel_contrast_hu: float = 250.0
    colon_gas: float = 0.3
    colon_hu: float = 30.0
    colon_texture: float = 40.0
    colon_bubbles: float = 1.3
    calcification: float = 9.0
    calcification_hu: float = 500.0
    thrombus: float = 0.0
    thrombus_hu: float = 45.0
    cava_low_hu: float = 100.0
    cava_from: float = 0.0
    cava_over: float = 40.0
    myocardium_hu: float = 90.0
    lung_texture: float = 40.0
    effusion: float = -1e9
    fluid_hu: float = 10.0
    ascites: float = 0.0
    grain: float = 6.0
    segment: float = 35.0

    def as_array(self) -> npt.NDArray[np.float64]:
        """Values in the order of the fields."""
        return np.array([getattr(self, f.name) for f in fields(self)], dtype=np.float64)


AT: dict[str, Any] = {f.name: i for i, f in enumerate(fields(Look))}
"""Position of a field in :meth:`Look.as_array`."""
