"""A look at all label files of a dataset before one is imported: do their numbers fit its map?

A map of another release reads without an error and makes an aorta a pancreas. What can tell
is looked at in every file: the names that it states, the values it holds, and whether the
organs that come out of it can be anybody's.

TotalSegmentator (from version 2) and Connectome Workbench write a label table as XML into a
NIfTI header extension; the Medical Segmentation Decathlon and nnU-Net keep a ``dataset.json``
with ``labels``, by value or by name.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np

from atlas8k.core.errors import VolumeError
from atlas8k.core.grid import Volume
from atlas8k.core.structures import ORGAN_IDS, find_organ, normalise
from atlas8k.core.volume import read_label
from atlas8k.core.voxels import counts, renamed
from atlas8k.labels.anatomy import Finding, impossible, impossible_volumes, listed
from atlas8k.labels.datasets import KIDNEYS, UNKNOWN, Dataset, known_structures

SURE = 0.9
"""Share of the files that tell versions apart which must agree on one."""

SIDECAR = "dataset.json"


@dataclass(frozen=True)
class Look:
    """What speaks against each way to read one label file.

    Attributes
    ----------
    against
        By the dataset's name: impossible organs, names that contradict its map; none where
        the file fits it, as far as it shows.
    fits
        Names of the datasets that nothing speaks against, and that know all its values.
    """

    path: Path
    against: Mapping[str, tuple[str, ...]]
    fits: tuple[str, ...]


def look_at(path: Path, candidates: Sequence[Dataset]) -> Look:
    """See what speaks against reading a file as each dataset.

    A file that cannot be read has nothing against it: importing it says what is wrong.
    """
    names = tuple(one.name for one in candidates)
    silent = Look(path, dict.fromkeys(names, ()), names)
    if path.is_dir():
        return silent  # one mask an organ, by the organs' names
    try:
        raw = read_label(path)
    except (VolumeError, OSError):
        return silent
    named, where = stated_names(path)
    values = {int(v) for v in np.flatnonzero(counts(raw.array))} - {0}
    said = {value: name for value, name in named.items() if value in values}
    against = {}
    for one in candidates:
        found = [f"{where}: {text}" for text in contradictions(said, one)]
        if bodies := _bodies(raw, one, values):
            found.append(listed(bodies))
        against[one.name] = tuple(found)
    fits = [one.name for one in candidates if values <= one.values.keys() | one.other]
    return Look(path, against, tuple(name for name in fits if not against[name]))


def _bodies(raw: Volume, dataset: Dataset, values: set[int]) -> list[Finding]:
    """Return what is impossible about the organs that come out of a file."""
    there = {dataset.values[value] for value in values if value in dataset.values}
    gone = {*dataset.values.values()} & {*ORGAN_IDS} - there
    array = renamed(raw.array, dataset.table(ORGAN_IDS))
    return [
        *impossible(array, raw.grid, () if dataset.per_case else gone),
        *impossible_volumes(raw.array, raw.grid, dataset.structures),
    ]


def survey(paths: Sequence[Path], candidates: Sequence[Dataset], jobs: int = 1) -> Iterator[Look]:
    """Look at every file, in their order."""
    look = partial(look_at, candidates=tuple(candidates))
    if jobs <= 1:
        yield from map(look, paths)
        return
    # Not forked: the libraries underneath have threads of their own by now.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, max(1, len(paths))), mp_context=context) as pool:
        yield from pool.map(look, paths)


def version_of(looks: Sequence[Look], candidates: Sequence[Dataset]) -> Dataset | None:
    """Return the version that files tell; ``None`` where they do not, or not all the same."""
    if len(candidates) == 1:
        return candidates[0]
    if looks and all(one.path.is_dir() for one in looks):
        return candidates[-1]  # names of organs are the same in all of them
    votes = Counter(one.fits[0] for one in looks if len(one.fits) == 1)
    if not votes:
        return None
    name, count = votes.most_common(1)[0]
    sure = count >= SURE * votes.total()
    return next(one for one in candidates if one.name == name) if sure else None


def votes_text(looks: Sequence[Look], candidates: Sequence[Dataset]) -> str:
    """Return how many files fit which version, one text."""
    alone = Counter(one.fits[0] for one in looks if len(one.fits) == 1)
    each = [f"{alone[one.name]} of {len(looks)} fit {one.name} alone" for one in candidates]
    return ", ".join(each)


def others_that_fit(
    paths: Sequence[Path], chosen: Dataset, known: Sequence[Dataset], most: int = 3
) -> list[str]:
    """Names of other datasets under which these files make sense; those of its family first."""
    others = [
        one
        for one in known
        if one.name != chosen.name and len(one.organs) > 1 and one.values != chosen.values
    ]
    fitting = {one.name for one in others}
    for path in paths[:most]:
        fitting &= set(look_at(path, others).fits)
    family = [one.name for one in others if one.family and one.family == chosen.family]
    return sorted(fitting, key=lambda name: (name not in family, name))[:most]


def stated_names(path: Path) -> tuple[dict[int, str], str]:
    """Return the names by raw value, and where they stand; empty where nothing is said.

    Parameters
    ----------
    path
        A label file; its header first, then ``dataset.json`` in its folder or the one above.
    """
    if path.is_dir():
        return {}, ""
    found = _of_header(path)
    if found:
        return found, "its header"
    for folder in (path.parent, path.parent.parent):
        found = _of_sidecar(folder / SIDECAR)
        if found:
            return found, f"{folder.name}/{SIDECAR}"
    return {}, ""


def _of_header(path: Path) -> dict[int, str]:
    try:
        extensions = nib.load(path).header.extensions
    except Exception:  # what is wrong with the file is said where it is read
        return {}
    for extension in extensions:
        text = bytes(extension.content).rstrip(b"\0").strip()
        if not text.startswith(b"<"):
            continue
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError:
            continue
        pairs = ((one.get("Key", ""), (one.text or "").strip()) for one in root.iter("Label"))
        found = {int(key): name for key, name in pairs if key.isdigit() and name}
        if found:
            return found
    return {}


def _of_sidecar(path: Path) -> dict[int, str]:
    try:
        labels = json.loads(path.read_bytes())["labels"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    found: dict[int, str] = {}
    for one, other in labels.items() if isinstance(labels, dict) else ():
        value, name = (one, other) if str(one).isdigit() else (other, one)
        if isinstance(name, str) and str(value).isdigit():
            found[int(value)] = name
    return found


def contradictions(names: Mapping[int, str], dataset: Dataset) -> list[str]:
    """Return values that a dataset's map takes for something else than their names say.

    `names` are those of :func:`stated_names`. A name that is neither an organ's nor known for
    a structure beside the nine (a tumour's, one misspelt) contradicts nothing.
    """
    found = []
    for value, name in sorted(names.items()):
        meant = dataset.values.get(value)
        organ = find_organ(name)
        if organ is not None:
            kidneys = meant == KIDNEYS and organ.name in ("kidney_left", "kidney_right")
            wrong = meant != organ.name and not kidneys and meant != UNKNOWN
            wrong = wrong and (meant is not None or value in dataset.other)
        else:
            wrong = meant in ORGAN_IDS and normalise(name) in known_structures()
        if wrong:
            taken = meant or "no organ of the nine"
            found.append(f"value {value} is named {name!r} and would be taken for {taken}")
    return found
