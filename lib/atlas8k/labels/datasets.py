"""Read what the raw label values of public datasets mean.

The maps are data: ``datasets.yaml`` beside this module, and files of the user's own in the
same form. Organs a dataset does not list are unknown in it, not absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from atlas8k.core.errors import FileError
from atlas8k.core.structure_sets import normalise
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, find_known

KIDNEYS = "kidneys"
"""Both kidneys under one value."""

UNKNOWN = "unknown"
"""Voxels that could be any organ: a tumour of any organ, say."""

PACKAGED = Path(__file__).with_name("datasets.yaml")

_KIDNEYS = ("kidney_left", "kidney_right")
_BOTH_KIDNEYS = ("kidneys", "kidney", "both_kidneys")
_HIGHEST = 255


class DatasetMapError(FileError):
    """A file of dataset maps cannot be used, or no dataset has the name asked for.

    `path` is the file, or the name asked for.
    """


def _wrong(text: str) -> PydanticCustomError:
    return PydanticCustomError("dataset", "{text}", {"text": text})


def find_meaning(text: str) -> str | None:
    """Return what a name means: a structure, :data:`KIDNEYS`, :data:`UNKNOWN`; else None."""
    plain = normalise(text)
    if plain in (UNKNOWN, "ignore"):  # nnU-Net's word
        return UNKNOWN
    return KIDNEYS if plain in _BOTH_KIDNEYS else find_known(text)


def _meaning(text: str) -> str:
    meaning = find_meaning(text)
    if meaning is None:
        raise _wrong(
            f"{text!r} is none of {', '.join(ORGAN_NAMES)}, {KIDNEYS}, {UNKNOWN}; list "
            "structures that are none of these under other"
        )
    return meaning


def _values_of(items: object) -> frozenset[int]:
    values: set[int] = set()
    for item in items if isinstance(items, list) else [items]:
        span = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", str(item))
        low, high = (int(span[1]), int(span[2] or span[1])) if span else (0, 0)
        if not 1 <= low <= high <= _HIGHEST:
            raise _wrong(f"{item!r} is no value or span from 1 to {_HIGHEST}")
        values.update(range(low, high + 1))
    return frozenset(values)


def _none_twice(other: frozenset[int], info: ValidationInfo) -> frozenset[int]:
    if twice := sorted(other & info.data.get("values", {}).keys()):
        raise _wrong(f"{twice[0]} is under values, too; keep one")
    return other


def _compiled(rules: Any) -> tuple[tuple[re.Pattern[str], str], ...]:
    compiled = []
    for rule in rules if isinstance(rules, list) else [rules]:
        try:
            pattern, name = re.compile(rule["label"]), rule["volume"]
            # A template that names a missing group is found here, not at the first file.
            re.compile(f"{pattern.pattern}|").sub(name, "")
        except (re.error, IndexError) as error:
            raise _wrong(f"{rule['label']!r}: {error}") from error
        except (TypeError, KeyError) as error:
            raise _wrong("{label: REGEX, volume: NAME} is needed") from error
        compiled.append((pattern, name))
    return tuple(compiled)


def _all_other(named: dict[int, str], info: ValidationInfo) -> dict[int, str]:
    if unlisted := sorted(named.keys() - info.data.get("other", named.keys())):
        raise _wrong(f"{unlisted[0]} is not under other")
    return {value: normalise(text) for value, text in named.items()}


Stated = Literal["licence", "centres", "countries", "volumes", "phases", "url", "citation"]
"""What an entry says of a dataset beside its values."""
_Value = Annotated[StrictInt, Field(ge=1, le=_HIGHEST)]


class Dataset(BaseModel):
    """Values and structures of one dataset's label maps: an entry of a file of dataset maps.

    Attributes
    ----------
    name
        As it is written into the provenance of every organ.
    also
        Other names it is found by.
    values
        Raw value, 1 to 255, to a structure, :data:`KIDNEYS` or :data:`UNKNOWN`.
    other
        Raw values, and spans of such, of structures beside these.
    per_case
        The labeled organs differ from case to case: one without voxels is unknown, not absent.
    match
        Patterns of label file names (without suffix) and the names of their CTs.
    family
        Name that all its versions have in common, which by itself names none of them.
    structures
        Names of some of the values in `other`: to tell datasets apart by, and labels of such a
        structure where it is annotated.
    licence, centres, countries, volumes, phases, url, citation
        Of the dataset, where known; empty or None where not. `volumes` are those that were taken
        into AbdomenAtlas 1.0, licences and centres those of the paper's Table 3 (Qu et al.,
        NeurIPS 2023).
    unverified
        Which of these seven were not held against a source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(alias="")  # of the entry: no key in it
    also: tuple[StrictStr, ...] = ()
    values: dict[_Value, Annotated[StrictStr, AfterValidator(_meaning)]]
    other: Annotated[frozenset[int], BeforeValidator(_values_of), AfterValidator(_none_twice)] = (
        frozenset()
    )
    per_case: StrictBool = False
    match: Annotated[tuple[tuple[re.Pattern[str], str], ...], BeforeValidator(_compiled)] = ()
    family: StrictStr = ""
    structures: Annotated[dict[_Value, StrictStr], AfterValidator(_all_other)] = {}
    licence: StrictStr = ""
    centres: StrictInt | None = None
    countries: tuple[StrictStr, ...] = ()
    volumes: StrictInt | None = None
    phases: tuple[StrictStr, ...] = ()
    url: StrictStr = ""
    citation: StrictStr = ""
    unverified: tuple[Stated, ...] = ()

    @property
    def meanings(self) -> Mapping[int, str]:
        """Raw value to a structure in use, :data:`KIDNEYS` or :data:`UNKNOWN`."""
        named = {value: find_known(name) for value, name in self.structures.items()}
        return {
            value: name
            for value, name in {**self.values, **named}.items()
            if name is not None and (name in ORGAN_IDS or name in (KIDNEYS, UNKNOWN))
        }

    @property
    def rest(self) -> frozenset[int]:
        """Raw values of structures that are not annotated here."""
        return (self.other | self.values.keys()) - self.meanings.keys()

    @property
    def organs(self) -> tuple[str, ...]:
        """The organs it labels, in the order of their ids."""
        labeled = set(self.meanings.values())
        if KIDNEYS in labeled:
            labeled |= {*_KIDNEYS}
        return tuple(organ for organ in ORGAN_NAMES if organ in labeled)

    def table(self, ids: Mapping[str, int]) -> npt.NDArray[np.uint8]:
        """Return ``(256,)`` uint8: the number in `ids` of what each raw value means, else 0."""
        numbers = np.zeros(256, np.uint8)
        for raw, meaning in self.meanings.items():
            numbers[raw] = ids.get(meaning, 0)
        return numbers

    @property
    def kidneys_together(self) -> bool:
        """Whether both kidneys have one value."""
        return KIDNEYS in self.values.values()


class _Loader(yaml.SafeLoader):
    """YAML without the silent loss of a key that is given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # "<<: *other"
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, str | int | float) else id(key))
        return super().construct_mapping(node, deep)


def dataset_key(name: str) -> str:
    """Return a name without capitals, blanks and punctuation: ``"FLARE '22"`` is ``flare22``."""
    return re.sub(r"[^a-z0-9.]", "", normalise(name))


def read_maps(path: str | Path) -> dict[str, Dataset]:
    """Read a file of dataset maps, the form of ``datasets.yaml``.

    Returns
    -------
    dict
        Dataset by name.

    Raises
    ------
    DatasetMapError
        Naming the file, the dataset and the key that is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        entries = yaml.load(text, _Loader)
    except OSError as error:
        raise DatasetMapError(path, f"cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise DatasetMapError(path, f"not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(entries, dict) or not entries:
        raise DatasetMapError(path, "a dataset's name with its values below it is needed")
    maps = {str(name): _dataset(path, str(name), entry) for name, entry in entries.items()}
    _index(path, maps)
    return maps


def _dataset(path: Path, name: str, entry: object) -> Dataset:
    try:
        return Dataset.model_validate({"": name, **entry} if isinstance(entry, dict) else entry)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part != "[key]")
    text = f"{name}: {where or 'entry'}: {first['msg']}"
    if first["type"] != "dataset":
        keys = ", ".join(key for key in Dataset.model_fields if key != "name")
        text += f"; keys are {keys} and raw values whole numbers from 1 to {_HIGHEST}"
    raise DatasetMapError(path, text)


def _index(path: str | Path, maps: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Return the datasets by the keys of all their names."""
    by_key: dict[str, Dataset] = {}
    for dataset in maps.values():
        for key in {dataset_key(name) for name in (dataset.name, *dataset.also)}:
            if key in by_key:
                raise DatasetMapError(
                    path, f"{dataset.name} and {by_key[key].name} have a name in common: {key}"
                )
            by_key[key] = dataset
    return by_key


@cache
def _packaged() -> dict[str, Dataset]:
    return read_maps(PACKAGED)


def known_datasets(own: str | Path | None = None) -> dict[str, Dataset]:
    """Return every dataset by name; entries of the file `own` replace ours of the same name.

    Raises
    ------
    DatasetMapError
        The file cannot be used.
    """
    theirs = read_maps(own) if own is not None else {}
    their_keys = _index(own or "", theirs)
    ours = {
        name: dataset
        for name, dataset in _packaged().items()
        if dataset_key(name) not in their_keys
    }
    return {**ours, **theirs}


def known_structures() -> frozenset[str]:
    """Return names of structures beside the nine, of all datasets that came with this project."""
    return frozenset(
        name for dataset in _packaged().values() for name in dataset.structures.values()
    )


def find_versions(name: str, own: str | Path | None = None) -> tuple[Dataset, ...]:
    """Return every dataset that a name can mean: the one of that name, or all of that family.

    Raises
    ------
    DatasetMapError
        There is none, naming those there are, or the file cannot be used.
    """
    datasets = known_datasets(own)
    key = dataset_key(name)
    for dataset in reversed(datasets.values()):
        if key in {dataset_key(other) for other in (dataset.name, *dataset.also)}:
            return (dataset,)
    versions = tuple(dataset for dataset in datasets.values() if dataset_key(dataset.family) == key)
    if versions and key:
        return versions
    raise DatasetMapError(
        name,
        f"no such dataset; there are {', '.join(sorted(datasets, key=str.lower))}; "
        "describe others in a file given with --maps",
    )


def find_dataset(name: str, own: str | Path | None = None) -> Dataset:
    """Return the dataset of that name, in the user's file first.

    Raises
    ------
    DatasetMapError
        There is none, or several versions of it, naming those there are; or the file cannot
        be used.
    """
    versions = find_versions(name, own)
    if len(versions) > 1:
        raise DatasetMapError(
            name, f"has versions with other numbers; say {' or '.join(v.name for v in versions)}"
        )
    return versions[0]
