"""Which organ a segment's name or code stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from atlas8k.organs import ORGANS, find_organ, normalise

Kind = Literal["organ", "part", "background", "attention", "unknown"]

_GROWTH = r"(?:tumou?r|lesion|cyst|cancer|carcinoma|metastas[ie]s|mass|nodule|neoplasm)(?:e?s)?"
_PART_LAST = re.compile(rf"(?P<organ>.+)_{_GROWTH}(?:_\d+)?")
_PART_FIRST = re.compile(rf"{_GROWTH}_(?:(?:of|in)_)?(?:the_)?(?P<organ>.+?)(?:_\d+)?")
_ADJECTIVES: Mapping[str, str] = MappingProxyType(
    {
        "aortic": "aorta",
        "hepatic": "liver",
        "pancreatic": "pancreas",
        "splenic": "spleen",
        "gastric": "stomach",
        "left_renal": "kidney_left",
        "right_renal": "kidney_right",
        "renal_left": "kidney_left",
        "renal_right": "kidney_right",
    }
)

# SNOMED CT concept ids and their predecessors in SNOMED RT (DICOM PS3.16, annex L); a side
# that is coded as a modifier is joined with "+", as 3D Slicer and dcmqi code kidneys.
_CODES: Mapping[str, str] = MappingProxyType(
    {
        **{organ.snomed_code: organ.name for organ in ORGANS},
        "T-42000": "aorta",
        "T-63000": "gall_bladder",
        "T-71020": "kidney_left",
        "T-71010": "kidney_right",
        "T-62000": "liver",
        "T-65000": "pancreas",
        "T-48710": "postcava",
        "T-C3000": "spleen",
        "T-57000": "stomach",
        "64033007+7771000": "kidney_left",
        "64033007+24028007": "kidney_right",
        "T-71000+G-A101": "kidney_left",
        "T-71000+G-A100": "kidney_right",
    }
)


@dataclass(frozen=True)
class Term:
    """What a segment's name means.

    Attributes
    ----------
    kind
        ``organ``; ``part`` of one (a tumour, lesion or cyst in it: its voxels count into the
        organ); ``background``; ``attention`` (a region the attention map marked);
        ``unknown``.
    organ
        Name of the organ for ``organ`` and ``part``, else ``None``.
    by_code
        The code said so, and not the name.
    """

    kind: Kind
    organ: str | None = None
    by_code: bool = False


def term(name: str, code: str | None = None) -> Term:
    """What a segment's name means; where the name means nothing, what its code means.

    The name comes first because servers are known to code every segment as one organ.

    Parameters
    ----------
    name
        As the client wrote it: case, blanks and hyphens do not matter.
    code
        SNOMED CT concept id, or SNOMED RT code such as ``T-62000``.
    """
    plain = normalise(name)
    if plain == "background":
        return Term("background")
    if plain == "attention" or plain.startswith("attention_"):
        return Term("attention")
    if organ := find_organ(plain):
        return Term("organ", organ.name)
    for pattern in (_PART_LAST, _PART_FIRST):
        if (match := pattern.fullmatch(plain)) and (of := _organ_of(match["organ"])):
            return Term("part", of)
    if code is not None and code in _CODES:
        return Term("organ", _CODES[code], by_code=True)
    return Term("unknown")


def _organ_of(name: str) -> str | None:
    organ = find_organ(name)
    return organ.name if organ else _ADJECTIVES.get(name)
