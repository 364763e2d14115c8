"""The nine structures: id, name, aliases, colour and SNOMED CT code.

Ids and names are those of AbdomenAtlas 1.0 (Qu et al., NeurIPS 2023). Codes are
SNOMED CT concept ids as DICOM PS3.16 uses them for anatomic structures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Organ:
    """One of the nine annotated structures.

    Attributes
    ----------
    id
        Voxel value in every label map of this project, 1 to 9.
    name
        Name in code, files and API.
    aliases
        Other names met in public datasets and viewers, in the form that
        :func:`normalise` gives.
    color
        Display colour, sRGB, 0 to 255. Neighbouring organs have distinct colours.
    snomed_code, snomed_meaning
        SNOMED CT concept id and its meaning.
    """

    id: int
    name: str
    aliases: tuple[str, ...]
    color: tuple[int, int, int]
    snomed_code: str
    snomed_meaning: str


ORGANS: tuple[Organ, ...] = (
    Organ(1, "aorta", ("aorta_abdominalis", "abdominal_aorta"), (224, 62, 50), "15825003", "Aorta"),
    Organ(
        2,
        "gall_bladder",
        ("gallbladder", "gb"),
        (96, 170, 60),
        "28231008",
        "Gallbladder",
    ),
    Organ(
        3,
        "kidney_left",
        ("left_kidney", "lkidney", "kidney_l"),
        (236, 170, 60),
        "18639004",
        "Left kidney",
    ),
    Organ(
        4,
        "kidney_right",
        ("right_kidney", "rkidney", "kidney_r"),
        (196, 120, 30),
        "9846003",
        "Right kidney",
    ),
    Organ(5, "liver", ("hepar",), (172, 88, 70), "10200004", "Liver"),
    Organ(6, "pancreas", (), (245, 220, 110), "15776009", "Pancreas"),
    Organ(
        7,
        "postcava",
        ("inferior_vena_cava", "ivc", "vena_cava_inferior", "post_cava"),
        (50, 120, 220),
        "64131007",
        "Inferior vena cava",
    ),
    Organ(8, "spleen", (), (150, 90, 190), "78961009", "Spleen"),
    Organ(9, "stomach", (), (240, 150, 190), "69695003", "Stomach"),
)

N_ORGANS = len(ORGANS)
ORGAN_NAMES: tuple[str, ...] = tuple(organ.name for organ in ORGANS)
ORGAN_IDS: Mapping[str, int] = MappingProxyType({organ.name: organ.id for organ in ORGANS})

_BY_NAME: Mapping[str, Organ] = MappingProxyType(
    {name: organ for organ in ORGANS for name in (organ.name, *organ.aliases)}
)


def normalise(name: str) -> str:
    """Lower the case of a name and turn runs of blanks and hyphens into one underscore."""
    return "_".join(name.strip().lower().replace("-", " ").replace("_", " ").split())


def find_organ(name: str) -> Organ | None:
    """Return the organ of that name or alias, ``None`` where there is none.

    Case, blanks and hyphens do not matter: ``"Left Kidney"`` is ``kidney_left``.
    """
    return _BY_NAME.get(normalise(name))
