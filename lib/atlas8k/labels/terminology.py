"""What a segment is by its codes: 3D Slicer's terminology tag and DICOM SEG say it alike.

Sources: DICOM PS3.16, CID 7150, 7159 and annex L (SNOMED CT concept ids and their
predecessors in SNOMED RT); 3D Slicer's
``vtkSlicerTerminologiesModuleLogic::SerializeTerminologyEntry`` for the tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydicom import Dataset

from atlas8k.organs import ORGANS

_SCHEMES = frozenset({"SCT", "SRT", "SNM3", "99SDM", ""})
"""Coding schemes whose values are SNOMED's; in another one a number means something else."""

_ORGANS: Mapping[str, str] = MappingProxyType(
    {
        **{organ.snomed_code: organ.name for organ in ORGANS},
        "T-42000": "aorta",
        "7832008": "aorta",  # abdominal
        "T-42500": "aorta",
        "T-63000": "gall_bladder",
        "T-71020": "kidney_left",
        "T-71010": "kidney_right",
        "T-62000": "liver",
        "T-65000": "pancreas",
        "T-48710": "postcava",
        "T-C3000": "spleen",
        "T-57000": "stomach",
    }
)
_KIDNEY = frozenset({"64033007", "T-71000"})
_SIDES: Mapping[str, str] = MappingProxyType(
    {"7771000": "left", "G-A101": "left", "24028007": "right", "G-A100": "right"}
)
_UNSPECIFIC = frozenset(
    # Tissue (3D Slicer's default), organ, anatomical structure, parenchyma
    {"85756007", "T-D0050", "113343008", "T-D0060", "123037004", "T-D000A", "91723000"}
    | {"T-D0005", "91772007", "T-D0062"}
)
_GROWTHS = frozenset(
    # Lesion, mass, cyst, nodule, neoplasm: of unsaid kind, primary, secondary
    {"52988006", "M-01100", "4147007", "M-03000", "118538004", "G-D701", "367643001", "M-3340A"}
    | {"27925004", "M-03010", "108369006", "M-8FFFF", "86049000", "M-80003", "14799000", "M-80006"}
)


@dataclass(frozen=True)
class Terminology:
    """Codes of one segment, SNOMED CT concept ids or SNOMED RT codes; ``None``: not given.

    Attributes
    ----------
    type, modifier
        What it is (liver, kidney, neoplasm), and on which side.
    region, region_modifier
        Where it is, and on which side.
    """

    type: str | None
    modifier: str | None = None
    region: str | None = None
    region_modifier: str | None = None

    def organ(self, side: str | None = None) -> tuple[str, bool] | None:
        """Return the organ the codes mean, and whether it is a growth in it.

        Parameters
        ----------
        side
            ``"left"`` or ``"right"`` as the segment's name says it. It settles a kidney
            coded without a side, and one that is coded on the other side means nothing.
        """
        growth = self.type in _GROWTHS
        found = None if growth else _organ(self.type, self.modifier or self.region_modifier, side)
        if found is None and (growth or self.type in _UNSPECIFIC):
            found = _organ(self.region, self.region_modifier or self.modifier, side)
        return None if found is None else (found, growth)

    @property
    def is_kidney(self) -> bool:
        """Whether it is a kidney of either side."""
        codes = (self.type, self.region)
        return any(
            code in _KIDNEY or _ORGANS.get(code or "", "").startswith("kidney") for code in codes
        )


def _organ(code: str | None, modifier: str | None, side: str | None) -> str | None:
    organ = _ORGANS.get(code or "")
    if code in _KIDNEY:
        sides = {_SIDES.get(modifier or ""), side} - {None}
        organ = f"kidney_{sides.pop()}" if len(sides) == 1 else None
    elif side is not None and organ is not None and not organ.endswith(f"_{side}"):
        organ = None
    return organ


def from_tag(tags: str) -> Terminology | None:
    """Read a ``Segment{n}_Tags`` field of ``.seg.nrrd``; ``None`` where it has no terminology.

    The entry is ``context~category~type~modifier~region context~region~modifier``, each
    code ``scheme^value^meaning``; tags are separated by ``|``.
    """
    for tag in tags.split("|"):
        key, _, entry = tag.strip().partition(":")
        if key == "TerminologyEntry":
            parts = [_from_text(part) for part in entry.split("~")]
            parts += [None] * (7 - len(parts))
            return _some(parts[2], parts[3], parts[5], parts[6])
    return None


def _from_text(code: str) -> str | None:
    scheme, _, rest = code.partition("^")
    value = rest.partition("^")[0].strip()
    return value if value and scheme.strip().upper() in _SCHEMES else None


def from_dicom(segment: Dataset) -> Terminology | None:
    """Read the codes of an item of a DICOM SEG's SegmentSequence; ``None`` without any."""
    kind = _first(segment.get("SegmentedPropertyTypeCodeSequence"))
    region = _first(segment.get("AnatomicRegionSequence"))
    # The modifier belongs inside of what it modifies; some writers put it beside.
    side = _first(
        kind.get("SegmentedPropertyTypeModifierCodeSequence")
        or segment.get("SegmentedPropertyTypeModifierCodeSequence")
    )
    region_side = _first(
        region.get("AnatomicRegionModifierSequence")
        or segment.get("AnatomicRegionModifierSequence")
    )
    return _some(*(_from_item(item) for item in (kind, side, region, region_side)))


def _first(items: Sequence[Any] | None) -> Dataset:
    return items[0] if items else Dataset()


def _from_item(item: Dataset) -> str | None:
    value = str(item.get("CodeValue") or "").strip()
    scheme = str(item.get("CodingSchemeDesignator") or "").strip().upper()
    return value if value and scheme in _SCHEMES else None


def _some(*codes: str | None) -> Terminology | None:
    return Terminology(*codes) if any(codes) else None
