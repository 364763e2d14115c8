"""Map a segment's name or codes to an organ.

Codes come in 3D Slicer's terminology tag and in DICOM SEG.

Sources: DICOM PS3.16, CID 7150, 7159 and annex L (SNOMED CT concept ids and their
predecessors in SNOMED RT); 3D Slicer's
``vtkSlicerTerminologiesModuleLogic::SerializeTerminologyEntry`` for the tag.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from pydicom import Dataset

from atlas8k.core.structures import ORGANS, find_organ

Kind = Literal["organ", "part", "background", "attention", "unknown"]

_GROWTH = r"(?:tumou?r|lesion|cyst|cancer|carcinoma|metastas[ie]s|mass|nodule|neoplasm)(?:e?s)?"
_PART_LAST = re.compile(rf"(?P<organ>.+)_{_GROWTH}(?:_\d+)?")
_PART_FIRST = re.compile(rf"{_GROWTH}_(?:(?:of|in)_)?(?:the_)?(?P<organ>.+?)(?:_\d+)?")
_NUMBERED = re.compile(r"(?:\d+_)?(?P<name>.+?)(?:_?\d+)?")
"""3D Slicer numbers a segment that is added a second time: ``liver_1``."""

_ADJECTIVES: Mapping[str, str] = {
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

# Latin, German, French, Spanish, Italian, Portuguese and Dutch, without diacritics. Words
# that mean something else in another of these languages (French "rate", Latin
# "ventriculus") are left out, so that people are asked.
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "aorta": (
        *("aorte", "bauchaorta", "aorte_abdominale", "aorta_abdominal", "aorta_addominale"),
        *("aorta_descendens", "abdominale_aorta"),
    ),
    "gall_bladder": (
        *("gallenblase", "vesicule_biliaire", "vesicula_biliar", "cistifellea"),
        *("colecisti", "galblaas", "vesica_fellea", "vesica_biliaris"),
    ),
    "liver": ("leber", "foie", "higado", "fegato", "figado", "lever"),
    "pancreas": ("pankreas", "bauchspeicheldruse", "bauchspeicheldruese", "alvleesklier"),
    "postcava": (
        *("untere_hohlvene", "veine_cave_inferieure", "vena_cava_inferiore", "vci"),
        "onderste_holle_ader",
    ),
    "spleen": ("milz", "milza", "bazo", "baco", "milt", "lien"),
    "stomach": ("magen", "estomac", "estomago", "stomaco", "maag", "gaster"),
}
_KIDNEYS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("kidney", ("left", "l", "lt"), ("right", "r", "rt")),
    ("niere", ("links", "linke", "li"), ("rechts", "rechte", "re")),
    ("rein", ("gauche",), ("droit",)),
    ("rinon", ("izquierdo", "izq"), ("derecho", "der")),
    ("rene", ("sinistro", "sin", "sx"), ("destro", "dx")),
    ("rim", ("esquerdo", "esq"), ("direito", "dir")),
    ("nier", ("linker", "links"), ("rechter", "rechts")),
    ("ren", ("sinister",), ("dexter",)),
)
"""Kidney, left and right, by language; a side is understood with its own language's word."""

_NAMES: Mapping[str, str] = {
    name: organ for organ, names in _SYNONYMS.items() for name in names
} | {
    "_".join(pair): f"kidney_{side}"
    for kidney, left, right in _KIDNEYS
    for side, words in (("left", left), ("right", right))
    for word in words
    for pair in ((kidney, word), (word, kidney))
}
_SIDES: Mapping[str, str] = {word: "left" for _, left, _ in _KIDNEYS for word in left} | {
    word: "right" for _, _, right in _KIDNEYS for word in right
}
_KIDNEY_WORDS = frozenset(kidney for kidney, *_ in _KIDNEYS)
_BOTH_KIDNEYS = ("kidney_left", "kidney_right")


@dataclass(frozen=True)
class MappedLabel:
    """Meaning of a segment's name.

    Attributes
    ----------
    kind
        ``organ``; ``part`` of one (a tumour, lesion or cyst in it: its voxels count into the
        organ); ``background``; ``attention`` (a region the attention map marked);
        ``unknown``.
    organ
        Name of the organ for ``organ`` and ``part``, else ``None``.
    by_code
        Decided by the code, not by the name.
    may_be
        Organs that an ``unknown`` name may stand for, to ask about.
    """

    kind: Kind
    organ: str | None = None
    by_code: bool = False
    may_be: tuple[str, ...] = field(default=(), compare=False)


def map_label(name: str, codes: Terminology | None = None) -> MappedLabel:
    """Return the meaning of a segment's name; where it has none, that of its codes.

    The name comes first because servers are known to code every segment as one organ.

    Parameters
    ----------
    name
        As the client wrote it: case, blanks, hyphens, brackets and diacritics do not
        matter, and neither does a number before or after a known name.
    codes
        Codes of 3D Slicer's terminology or of DICOM SEG.
    """
    plain = folded(name)
    if plain == "background":
        return MappedLabel("background")
    if plain == "attention" or plain.startswith("attention_"):
        return MappedLabel("attention")
    numbered = _NUMBERED.fullmatch(plain)
    bare = numbered["name"] if numbered else plain
    if organ := _organ(plain) or _organ(bare):
        return MappedLabel("organ", organ)
    for pattern in (_PART_LAST, _PART_FIRST):
        if (match := pattern.fullmatch(plain)) and (of_organ := _organ_of(match["organ"])):
            return MappedLabel("part", of_organ)
    side = _SIDES.get(bare)
    if codes is not None and (coded := codes.organ(side)):
        return MappedLabel("part" if coded[1] else "organ", coded[0], by_code=True)
    return MappedLabel("unknown", may_be=_may_be(bare, side, codes))


def folded(name: str) -> str:
    """Return a name in lower case without diacritics, brackets and blanks: ``livér (1)``."""
    parts = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in parts if not unicodedata.combining(c))
    return "_".join(re.sub(r"[\s_\-.,:;()\[\]{}]+", " ", plain).split())


def _organ(plain: str) -> str | None:
    organ = find_organ(plain) or find_organ(_NAMES.get(plain, ""))
    return organ.name if organ else None


def _organ_of(plain: str) -> str | None:
    return _organ(plain) or _organ(_ADJECTIVES.get(plain, ""))


def _in_use(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if find_organ(name))


def _may_be(plain: str, side: str | None, codes: Terminology | None) -> tuple[str, ...]:
    """Return the organs that a word of an unknown name, or its side alone, may mean."""
    words = re.findall(r"[^\W_]+", plain)
    if codes is not None and codes.is_kidney:
        return _in_use(_BOTH_KIDNEYS)
    if side is not None:
        return _in_use((f"kidney_{side}",))
    if _KIDNEY_WORDS.intersection(words) or "kidneys" in words:
        return _in_use(_BOTH_KIDNEYS)
    spans = {"_".join(words[i:j]) for i, j in product(range(len(words)), range(len(words) + 1))}
    named = {organ for span in spans if (organ := _organ(span))}
    return tuple(organ.name for organ in ORGANS if organ.name in named)


_SCHEMES = frozenset({"SCT", "SRT", "SNM3", "99SDM", ""})
"""Coding schemes whose values are SNOMED's; in another one a number means something else."""

_FORMER_CODES: Mapping[str, str] = {
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
_CODED_KIDNEY = frozenset({"64033007", "T-71000"})
_CODED_SIDES: Mapping[str, str] = {
    "7771000": "left",
    "G-A101": "left",
    "24028007": "right",
    "G-A100": "right",
}
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
        The structure (liver, kidney, neoplasm), and its side.
    region, region_modifier
        The region it lies in, and its side.
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
            ``"left"`` or ``"right"`` by the segment's name. It decides a kidney coded without
            a side; a kidney coded on the other side means nothing.
        """
        growth = self.type in _GROWTHS
        organ = (
            None if growth else _coded_organ(self.type, self.modifier or self.region_modifier, side)
        )
        if organ is None and (growth or self.type in _UNSPECIFIC):
            organ = _coded_organ(self.region, self.region_modifier or self.modifier, side)
        return None if organ is None else (organ, growth)

    @property
    def is_kidney(self) -> bool:
        """Whether it is a kidney of either side."""
        codes = (self.type, self.region)
        return any(
            code in _CODED_KIDNEY or any(name.startswith("kidney") for name in _named(code))
            for code in codes
        )


def _named(code: str | None) -> tuple[str, ...]:
    """Return the structures in use that a code stands for; two where it does not say the side."""
    if code in _CODED_KIDNEY:
        return _in_use(_BOTH_KIDNEYS)
    named = tuple(organ.name for organ in ORGANS if organ.snomed_code == code)
    return named or _in_use((_FORMER_CODES.get(code or "", ""),))


def _side_of(name: str) -> str | None:
    organ = find_organ(name)
    return organ.side if organ else None


def _coded_organ(code: str | None, modifier: str | None, side: str | None) -> str | None:
    sides = {_CODED_SIDES.get(modifier or ""), side} - {None}
    named = _named(code)
    if len(named) > 1 or code in _CODED_KIDNEY:
        wanted = sides.pop() if len(sides) == 1 else None
        named = tuple(name for name in named if wanted and _side_of(name) == wanted)
    elif named and side is not None and _side_of(named[0]) != side:
        return None
    return named[0] if len(named) == 1 else None


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
    # The modifier belongs inside the item it modifies; some writers put it beside.
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
