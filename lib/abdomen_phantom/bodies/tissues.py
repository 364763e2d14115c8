"""Tissues of the structures of a TotalSegmentator map, and which structures are organs."""

from __future__ import annotations

import re
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from atlas8k.core.structure_sets import NINE


class Tissue(IntEnum):
    """Kinds of tissue that are painted alike; 0 is what no structure covers."""

    NONE = 0
    AORTA = 1
    GALL_BLADDER = 2
    KIDNEY_LEFT = 3
    KIDNEY_RIGHT = 4
    LIVER = 5
    PANCREAS = 6
    POSTCAVA = 7
    SPLEEN = 8
    STOMACH = 9
    CYST_LEFT = 10
    CYST_RIGHT = 11
    ARTERY = 12
    VEIN = 13
    PORTAL_VEIN = 14
    HEART = 15
    LUNG = 16
    AIRWAY = 17
    BONE = 18
    SPINE = 19
    CARTILAGE = 20
    MUSCLE = 21
    SMALL_BOWEL = 22
    COLON = 23
    DUODENUM = 24
    ESOPHAGUS = 25
    ADRENAL = 26
    BLADDER = 27
    SOFT = 28
    NERVE = 29
    THYROID = 30
    DISC = 31


N_TISSUES = max(Tissue) + 1

_PATTERNS: tuple[tuple[str, Tissue], ...] = (
    (r"aorta", Tissue.AORTA),
    (r"gall_?bladder", Tissue.GALL_BLADDER),
    (r"kidney_left", Tissue.KIDNEY_LEFT),
    (r"kidney_right", Tissue.KIDNEY_RIGHT),
    (r"kidney_cyst_left", Tissue.CYST_LEFT),
    (r"kidney_cyst_right", Tissue.CYST_RIGHT),
    (r"liver", Tissue.LIVER),
    (r"pancreas", Tissue.PANCREAS),
    (r"inferior_vena_cava|postcava", Tissue.POSTCAVA),
    (r"spleen", Tissue.SPLEEN),
    (r"stomach", Tissue.STOMACH),
    (r"portal_vein_and_splenic_vein", Tissue.PORTAL_VEIN),
    (r"(subclavian|common_carotid|iliac)_artery(_left|_right)?", Tissue.ARTERY),
    (r"brachiocephalic_trunk|pulmonary_artery", Tissue.ARTERY),
    (r"iliac_vena(_left|_right)?|brachiocephalic_vein(_left|_right)?", Tissue.VEIN),
    (r"superior_vena_cava|pulmonary_vein", Tissue.VEIN),
    (r"heart(_.*)?|atrial_appendage_left", Tissue.HEART),
    (r"lung_.*", Tissue.LUNG),
    (r"trachea", Tissue.AIRWAY),
    (r"vertebrae_.*|sacrum", Tissue.SPINE),
    (r"(rib|hip|femur|humerus|clavicula|scapula)_.*|sternum|skull|face", Tissue.BONE),
    (r"costal_cartilages", Tissue.CARTILAGE),
    (r"(autochthon|iliopsoas|gluteus_(maximus|medius|minimus))_(left|right)", Tissue.MUSCLE),
    (r"small_bowel", Tissue.SMALL_BOWEL),
    (r"colon", Tissue.COLON),
    (r"duodenum", Tissue.DUODENUM),
    (r"esophagus", Tissue.ESOPHAGUS),
    (r"adrenal_gland_(left|right)", Tissue.ADRENAL),
    (r"urinary_bladder", Tissue.BLADDER),
    (r"prostate", Tissue.SOFT),
    (r"brain|spinal_cord", Tissue.NERVE),
    (r"thyroid_gland", Tissue.THYROID),
)

# A cyst within an organ counts as that organ, as in the public datasets.
_CYSTS = {Tissue.CYST_LEFT: "kidney_left", Tissue.CYST_RIGHT: "kidney_right"}

_IDS = {name: number for number, name in enumerate(NINE, start=1)}
ORGAN_OF: npt.NDArray[np.uint8] = np.array(
    [_IDS.get(_CYSTS.get(t, t.name.lower()), 0) for t in Tissue], dtype=np.uint8
)
"""Organ id by tissue, 0 where it is none of the nine."""


def tissue_of(structure: str) -> Tissue | None:
    """Return the tissue of a structure by TotalSegmentator's name, ``None`` if unknown."""
    for pattern, tissue in _PATTERNS:
        if re.fullmatch(pattern, structure):
            return tissue
    return None
