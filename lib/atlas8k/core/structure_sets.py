"""Sets of structures: what each says, those that are built in, and files that describe one.

Built in is what ``structures.yaml`` beside this file has; codes are SNOMED CT concept ids as DICOM
PS3.16 uses them for anatomic structures.
"""

from __future__ import annotations

import colorsys
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from atlas8k.core.errors import SettingsError

DEFAULT_SET = "abdomenatlas-1.0"
MOST = 254
"""Structures of a set: a label map has a byte a voxel, 0 is background, and training marks open
voxels by 255."""

Category = Literal["organ", "lesion"]
Side = Literal["left", "right"]
_KEYS = (
    *("id", "snomed", "aliases", "color", "side", "pair", "category", "one_piece", "minutes"),
    *("tolerance_mm", "within"),
)


@dataclass(frozen=True)
class Organ:
    """One of the annotated structures.

    Attributes
    ----------
    id
        Voxel value in every label map of the set, from 1 on.
    name
        Name in code, files and API.
    aliases
        Other names met in public datasets and viewers, in the form that
        :func:`normalise` gives.
    color
        Display colour, sRGB, 0 to 255. Neighbouring organs have distinct colours.
    snomed_code, snomed_meaning
        SNOMED CT concept id and its meaning.
    side
        Of a structure that there are two of.
    pair
        Name of the other one.
    category
        ``"lesion"``: morphologically altered (DICOM PS3.16 CID 7150), as a tumour.
    one_piece
        Whether it is one connected piece, so that small ones beside it are errors.
    minutes
        To draw it by hand; ``None``: the paper's hour (`campaign.effort`).
    tolerance_mm
        Of its surface in NSD; ``None``: the one of the report.
    within
        Name of the structure that it lies in and is a part of, as a tumour in the liver. A label
        map has its value there; the other one's mask is both values (:attr:`StructureSet.parts`).
    """

    id: int
    name: str
    aliases: tuple[str, ...]
    color: tuple[int, int, int]
    snomed_code: str
    snomed_meaning: str
    side: Side | None = None
    pair: str | None = None
    category: Category = "organ"
    one_piece: bool = True
    minutes: float | None = None
    tolerance_mm: float | None = None
    within: str | None = None


class StructureSet:
    """Structures with ids from 1 on, without gap; ids, names and aliases are unique.

    Attributes
    ----------
    name
        Of the set.
    organs
        Its structures by id.

    Raises
    ------
    SettingsError
        Ids that are not 1 to n in order, a name or alias that two structures have, a pair that
        is not in the set, none or more than 254 structures.
    """

    def __init__(self, name: str, organs: Iterable[Organ]) -> None:
        self.name = name
        self.organs = tuple(organs)
        if not 1 <= len(self.organs) <= MOST:
            raise SettingsError(
                f"structures {name}: {len(self.organs)} structures; 1 to {MOST} can be told apart "
                "in a label map of a byte a voxel"
            )
        for position, organ in enumerate(self.organs, start=1):
            if organ.id != position:
                raise SettingsError(
                    f"structures {name}: {organ.name} has id {organ.id}, {position} is expected; "
                    "ids are 1 to n in order, since viewers take them for contiguous"
                )
        meant: dict[str, str] = {}
        for organ in self.organs:
            for word in (organ.name, *organ.aliases):
                if word != normalise(word) or not word:
                    raise SettingsError(
                        f"structures {name}: {word!r} is written {normalise(word)!r}"
                    )
                if word in meant:
                    raise SettingsError(
                        f"structures {name}: {word} is a name or alias of both {meant[word]} and "
                        f"{organ.name}"
                    )
                meant[word] = organ.name
        names = {organ.name for organ in self.organs}
        for organ in self.organs:
            if organ.pair is not None and organ.pair not in names:
                raise SettingsError(
                    f"structures {name}: the pair of {organ.name}, {organ.pair}, is not in the set"
                )
            self._outer(organ)

    def _outer(self, organ: Organ) -> tuple[Organ, ...]:
        """Return what a structure lies in, the nearest first.

        Raises
        ------
        SettingsError
            It is not in the set, or lies in itself.
        """
        by_name = {one.name: one for one in self.organs}
        chain: list[Organ] = []
        inner = organ
        while inner.within is not None:
            outer = by_name.get(inner.within)
            if outer is None:
                raise SettingsError(
                    f"structures {self.name}: {inner.name} is within {inner.within}, which is not "
                    "in the set"
                )
            if outer is organ or outer in chain:
                raise SettingsError(f"structures {self.name}: {organ.name} is within itself")
            chain.append(outer)
            inner = outer
        return tuple(chain)

    @cached_property
    def parts(self) -> Mapping[int, tuple[int, ...]]:
        """Values that make up a structure's mask, by id: its own, and what lies within it.

        Only structures that have something within them.
        """
        found: dict[int, list[int]] = {}
        for organ in self.organs:
            for outer in self._outer(organ):
                found.setdefault(outer.id, [outer.id]).append(organ.id)
        return MappingProxyType({number: tuple(values) for number, values in found.items()})

    @cached_property
    def depths(self) -> Mapping[int, int]:
        """Structures that each lies in, by id: 0 for most."""
        return MappingProxyType({organ.id: len(self._outer(organ)) for organ in self.organs})

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names by id."""
        return tuple(organ.name for organ in self.organs)

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Id by name."""
        return MappingProxyType({organ.name: organ.id for organ in self.organs})

    @cached_property
    def by_word(self) -> Mapping[str, Organ]:
        """Structure by name or alias."""
        return MappingProxyType(
            {word: organ for organ in self.organs for word in (organ.name, *organ.aliases)}
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the set as a file of one has it, see :func:`from_dict`."""
        return {
            "name": self.name,
            "structures": {
                organ.name: {
                    "snomed": [organ.snomed_code, organ.snomed_meaning],
                    "aliases": list(organ.aliases),
                    "color": list(organ.color),
                    "side": organ.side,
                    "pair": organ.pair,
                    "category": organ.category,
                    "one_piece": organ.one_piece,
                    "minutes": organ.minutes,
                    "tolerance_mm": organ.tolerance_mm,
                    **({"within": organ.within} if organ.within else {}),
                }
                for organ in self.organs
            },
        }

    def check_holds(self, former: Mapping[int, str]) -> None:
        """Raise where a set lacks a structure that labels were made with, or numbers it anew.

        Parameters
        ----------
        former
            Name by id, as the store has it.

        Raises
        ------
        SettingsError
            It does; nothing was changed.
        """
        for number, name in sorted(former.items()):
            now = self.names[number - 1] if number <= len(self.names) else None
            if now != name:
                instead = f"is {now}" if now else "is missing"
                raise SettingsError(
                    f"structures {self.name}: this campaign has {name} as {number}, which "
                    f"{instead} there. Structures may be added at the end; none may be taken "
                    "away, renamed or numbered anew, since labels are stored by number. "
                    "Nothing was changed"
                )


def normalise(name: str) -> str:
    """Lower the case of a name and turn runs of blanks and hyphens into one underscore."""
    return "_".join(name.strip().lower().replace("-", " ").replace("_", " ").split())


@cache
def _catalogue() -> Mapping[str, Any]:
    import yaml

    text = Path(__file__).with_name("structures.yaml").read_text(encoding="utf-8")
    catalogue: dict[str, Any] = yaml.safe_load(text)
    return catalogue


@cache
def built_in(name: str) -> StructureSet:
    """Return a set that comes with this project; ``KeyError`` where none has the name."""
    return from_dict({"name": name, "structures": _catalogue()["sets"][name]})


NINE = (
    *("aorta", "gall_bladder", "kidney_left", "kidney_right", "liver", "pancreas", "postcava"),
    *("spleen", "stomach"),
)
"""The structures of AbdomenAtlas 1.0: what checkpoints know that do not say otherwise."""


def built_in_names() -> tuple[str, ...]:
    """Return the names of the sets that come with this project."""
    return tuple(_catalogue()["sets"])


def known_names() -> frozenset[str]:
    """Return the names of all structures that this project has a description of."""
    return frozenset(_catalogue()["structures"])


@cache
def known_words() -> Mapping[str, str]:
    """Return the structure of each name and alias that this project knows."""
    return {
        word: name
        for name, one in _catalogue()["structures"].items()
        for word in (name, *one.get("aliases", ()))
    }


def find_set(name: str | Path) -> StructureSet:
    """Return a set by its name, or read it from a YAML or JSON file.

    Raises
    ------
    SettingsError
        There is neither, or the file does not describe a set.
    """
    if str(name) in built_in_names():
        return built_in(str(name))
    path = Path(name)
    if path.suffix.lower() not in {".yaml", ".yml", ".json"}:
        near = difflib.get_close_matches(str(name), built_in_names(), n=1)
        raise SettingsError(
            f"structures {name}: no set of that name"
            + (f" (did you mean {near[0]}?)" if near else "")
            + f"; there are {', '.join(built_in_names())}, or a file .yaml or .json"
        )
    import yaml

    try:
        record = _loaded(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, RecursionError, yaml.YAMLError) as error:
        raise SettingsError(f"structures {path}: cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise SettingsError(f"structures {path}: a mapping with name and structures is expected")
    return from_dict({"name": path.stem, **record})


def _loaded(text: str) -> Any:
    """Load YAML or JSON, in which no key may stand twice: the later would replace the first."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.YAMLError(f"{key} stands there twice, line {node.start_mark.line + 1}")
        return {**loader.construct_mapping(node, deep=True)}

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return yaml.load(text, Loader)


def from_dict(record: Mapping[str, Any]) -> StructureSet:
    """Make a set of its description.

    Parameters
    ----------
    record
        ``name``, and ``structures``: a list of names that this project knows, or a mapping of
        name to ``snomed`` (``[code, meaning]``), and where wanted ``aliases``, ``color``,
        ``side``, ``pair``, ``category``, ``one_piece``, ``minutes``, ``tolerance_mm``,
        ``within``, ``id``.
        What is left out of a known structure is as this project has it.

    Raises
    ------
    SettingsError
        It cannot be made of this; names the structure and the key.
    """
    name = str(record.get("name") or "")
    structures = record.get("structures")
    if not name or not isinstance(structures, list | dict):
        raise SettingsError(f"structures {name}: a name and a list or mapping are expected")
    if unknown := sorted({*map(str, record)} - {"name", "structures"}):
        raise SettingsError(f"structures {name}: {unknown[0]}: no such key")
    if isinstance(structures, list):
        twice = [one for i, one in enumerate(structures) if one in structures[:i]]
        if twice:
            raise SettingsError(f"structures {name}: {twice[0]} stands there twice")
        structures = dict.fromkeys(structures)
    taken = [_organ(name, str(one), i, more) for i, (one, more) in enumerate(structures.items(), 1)]
    present = {organ.name for organ in taken}
    # A known structure whose other side, or whose organ, is left out stands alone.
    given = {str(one): more or {} for one, more in structures.items()}

    def other(organ: Organ, key: str) -> str | None:
        named: str | None = getattr(organ, key)
        return named if named in present or key in given[organ.name] else None

    return StructureSet(
        name,
        [
            replace(organ, pair=other(organ, "pair"), within=other(organ, "within"))
            for organ in taken
        ],
    )


def _organ(set_name: str, name: str, position: int, more: Any) -> Organ:
    where = f"structures {set_name}: {name}"
    known: Mapping[str, Any] = _catalogue()["structures"].get(name, {})
    if more is None and not known:
        near = difflib.get_close_matches(name, [*_catalogue()["structures"]], n=1)
        raise SettingsError(
            f"{where}: not known"
            + (f" (did you mean {near[0]}?)" if near else "")
            + "; give it at least snomed: [code, meaning]"
        )
    if not isinstance(more or {}, Mapping):
        raise SettingsError(f"{where}: a mapping is expected, {more!r} was given")
    record = {**known, **{key: value for key, value in (more or {}).items() if value is not None}}
    if unknown := sorted({*map(str, record)} - set(_KEYS)):
        raise SettingsError(f"{where}: {unknown[0]}: no such key; there are {', '.join(_KEYS)}")
    code, meaning = _code(where, record.get("snomed"))
    side, category = record.get("side"), record.get("category", "organ")
    if side not in (None, "left", "right") or category not in ("organ", "lesion"):
        raise SettingsError(f"{where}: side is left or right, category organ or lesion")
    one_piece = record.get("one_piece", category != "lesion")
    if not isinstance(one_piece, bool):
        raise SettingsError(f"{where}: one_piece is true or false, {one_piece!r} was given")
    return Organ(
        int(_number(where, "id", record.get("id", position))),
        name,
        tuple(str(alias) for alias in record.get("aliases", ())),
        _color(where, record.get("color"), position),
        code,
        meaning,
        side,
        record.get("pair"),
        category,
        one_piece,
        _positive(where, "minutes", record.get("minutes")),
        _positive(where, "tolerance_mm", record.get("tolerance_mm")),
        record.get("within"),
    )


def _number(where: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(f"{where}: {key}: a number is expected, {value!r} was given")
    return value


def _positive(where: str, key: str, value: Any) -> float | None:
    if value is None:
        return None
    if not 0 < _number(where, key, value) < float("inf"):
        raise SettingsError(f"{where}: {key}: above 0 is expected, {value!r} was given")
    return float(value)


def _code(where: str, given: Any) -> tuple[str, str]:
    """Return a SNOMED CT code and its meaning; the code's check digit is looked at."""
    if not (isinstance(given, list) and len(given) == 2 and all(given)):
        raise SettingsError(f"{where}: snomed: [code, meaning] is expected, {given!r} was given")
    code, meaning = str(given[0]), str(given[1])
    if not (code.isascii() and code.isdigit() and 6 <= len(code) <= 18 and _is_checked(code)):
        raise SettingsError(
            f"{where}: snomed: {code} is no SNOMED CT concept id (its last digit is a check digit)"
        )
    if len(meaning) > 64:
        raise SettingsError(f"{where}: snomed: a meaning has up to 64 characters in DICOM")
    return code, meaning


_TIMES = [
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
]
_MOVED = ["0123456789", "1576283094"]
for _ in range(6):
    _MOVED.append("".join(_MOVED[-1][int(digit)] for digit in _MOVED[1]))


def _is_checked(code: str) -> bool:
    """Return whether a code's last digit is its check digit (Verhoeff, 1969)."""
    check = 0
    for position, digit in enumerate(reversed(code)):
        check = int(_TIMES[check][int(_MOVED[position % 8][int(digit)])])
    return check == 0


def _color(where: str, given: Any, position: int) -> tuple[int, int, int]:
    """Return a colour; where none is given, hues a golden section apart."""
    if given is None:
        hue = position * 0.618034 % 1.0
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.3 * (position % 2), 0.9)
        return round(red * 255), round(green * 255), round(blue * 255)
    numbers = [value for value in given if isinstance(value, int) and 0 <= value <= 255]
    if not isinstance(given, list | tuple) or len(numbers) != 3 or len(given) != 3:
        raise SettingsError(f"{where}: color: three numbers 0 to 255, {given!r} was given")
    return numbers[0], numbers[1], numbers[2]
