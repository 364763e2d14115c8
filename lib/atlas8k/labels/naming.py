"""Which organ a segment's name or code stands for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Literal

from atlas8k.labels.terminology import Terminology
from atlas8k.organs import ORGANS, find_organ

Kind = Literal["organ", "part", "background", "attention", "unknown"]

_GROWTH = r"(?:tumou?r|lesion|cyst|cancer|carcinoma|metastas[ie]s|mass|nodule|neoplasm)(?:e?s)?"
_PART_LAST = re.compile(rf"(?P<organ>.+)_{_GROWTH}(?:_\d+)?")
_PART_FIRST = re.compile(rf"{_GROWTH}_(?:(?:of|in)_)?(?:the_)?(?P<organ>.+?)(?:_\d+)?")
_NUMBERED = re.compile(r"(?:\d+_)?(?P<name>.+?)(?:_?\d+)?")
"""3D Slicer numbers a segment that is added a second time: ``liver_1``."""

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

# Latin, German, French, Spanish, Italian, Portuguese and Dutch, without diacritics. Words
# that mean something else in another of these languages (French "rate", Latin
# "ventriculus") are left out: they are asked about.
_SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
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
)
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

_NAMES: Mapping[str, str] = MappingProxyType(
    {name: organ for organ, names in _SYNONYMS.items() for name in names}
    | {
        "_".join(pair): f"kidney_{side}"
        for kidney, left, right in _KIDNEYS
        for side, words in (("left", left), ("right", right))
        for word in words
        for pair in ((kidney, word), (word, kidney))
    }
)
_SIDES: Mapping[str, str] = MappingProxyType(
    {word: "left" for _, left, _ in _KIDNEYS for word in left}
    | {word: "right" for _, _, right in _KIDNEYS for word in right}
)
_KIDNEY_WORDS = frozenset(kidney for kidney, *_ in _KIDNEYS)
_BOTH_KIDNEYS = ("kidney_left", "kidney_right")


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
    may_be
        Organs that an ``unknown`` name may stand for, to ask about.
    """

    kind: Kind
    organ: str | None = None
    by_code: bool = False
    may_be: tuple[str, ...] = field(default=(), compare=False)


def term(name: str, codes: Terminology | None = None) -> Term:
    """Return what a segment's name means; where the name means nothing, what its codes mean.

    The name comes first because servers are known to code every segment as one organ.

    Parameters
    ----------
    name
        As the client wrote it: case, blanks, hyphens, brackets and diacritics do not
        matter, and neither does a number before or after a known name.
    codes
        Of 3D Slicer's terminology or of DICOM SEG.
    """
    plain = folded(name)
    if plain == "background":
        return Term("background")
    if plain == "attention" or plain.startswith("attention_"):
        return Term("attention")
    numbered = _NUMBERED.fullmatch(plain)
    bare = numbered["name"] if numbered else plain
    if organ := _organ(plain) or _organ(bare):
        return Term("organ", organ)
    for pattern in (_PART_LAST, _PART_FIRST):
        if (match := pattern.fullmatch(plain)) and (of := _organ_of(match["organ"])):
            return Term("part", of)
    side = _SIDES.get(bare)
    if codes is not None and (found := codes.organ(side)):
        return Term("part" if found[1] else "organ", found[0], by_code=True)
    return Term("unknown", may_be=_may_be(bare, side, codes))


def folded(name: str) -> str:
    """Return a name in lower case without diacritics, brackets and blanks: ``livér (1)``."""
    parts = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in parts if not unicodedata.combining(c))
    return "_".join(re.sub(r"[\s_\-.,:;()\[\]{}]+", " ", plain).split())


def _organ(plain: str) -> str | None:
    organ = find_organ(plain)
    return organ.name if organ else _NAMES.get(plain)


def _organ_of(plain: str) -> str | None:
    return _organ(plain) or _ADJECTIVES.get(plain)


def _may_be(plain: str, side: str | None, codes: Terminology | None) -> tuple[str, ...]:
    """Return organs to ask about: those that a word of the name names, or a side alone."""
    words = re.findall(r"[^\W_]+", plain)
    if codes is not None and codes.is_kidney:
        return _BOTH_KIDNEYS
    if side is not None:
        return (f"kidney_{side}",)
    if _KIDNEY_WORDS.intersection(words) or "kidneys" in words:
        return _BOTH_KIDNEYS
    spans = {"_".join(words[i:j]) for i, j in product(range(len(words)), range(len(words) + 1))}
    found = {organ for span in spans if (organ := _organ(span))}
    return tuple(organ.name for organ in ORGANS if organ.name in found)
