"""Survey all label files of a dataset before one is imported: do their numbers fit its map?

A map of another release reads without an error and makes an aorta a pancreas. Three things in
a file can tell: the names that it states, the values it holds, and whether the organs that
come out of it can be anybody's.

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
from atlas8k.core.findings import Finding
from atlas8k.core.grid import Volume
from atlas8k.core.structure_sets import normalise
from atlas8k.core.structures import ORGAN_IDS, find_organ
from atlas8k.core.volume import read_label
from atlas8k.core.voxels import counts, renamed
from atlas8k.labels.datasets import (
    KIDNEYS,
    UNKNOWN,
    Dataset,
    find_meaning,
    known_structures,
)
from atlas8k.labels.plausibility import (
    find_impossible,
    find_impossible_volumes,
    findings_text,
)

SURE = 0.9
"""Share of the files that tell versions apart which must agree on one."""

SIDECAR = "dataset.json"


@dataclass(frozen=True)
class FileSurvey:
    """The objections to each way to read one label file.

    Attributes
    ----------
    objections
        By the dataset's name: impossible organs, names that contradict its map; none where
        the file fits it, as far as it shows.
    fits
        Names of the datasets without an objection that know all its values.
    """

    path: Path
    objections: Mapping[str, tuple[str, ...]]
    fits: tuple[str, ...]


def survey_file(path: Path, candidates: Sequence[Dataset]) -> FileSurvey:
    """Find the objections to reading a file as each dataset.

    A file that cannot be read has none: importing it says what is wrong.
    """
    names = tuple(dataset.name for dataset in candidates)
    no_objection = FileSurvey(path, dict.fromkeys(names, ()), names)
    if path.is_dir():
        return no_objection  # one mask an organ, by the organs' names
    try:
        raw = read_label(path)
    except (VolumeError, OSError):
        return no_objection
    named, where = stated_names(path)
    values = {int(v) for v in np.flatnonzero(counts(raw.array))} - {0}
    used_names = {value: name for value, name in named.items() if value in values}
    objections = {}
    for dataset in candidates:
        texts = [f"{where}: {text}" for text in contradictions(used_names, dataset)]
        if bodies := _bodies(raw, dataset, values):
            texts.append(findings_text(bodies))
        objections[dataset.name] = tuple(texts)
    fits = [
        dataset.name for dataset in candidates if values <= dataset.values.keys() | dataset.other
    ]
    return FileSurvey(path, objections, tuple(name for name in fits if not objections[name]))


def _bodies(raw: Volume, dataset: Dataset, values: set[int]) -> list[Finding]:
    """Find what is impossible about the organs that come out of a file."""
    present = {meant for value, meant in dataset.meanings.items() if value in values}
    absent = {*dataset.meanings.values()} & {*ORGAN_IDS} - present
    array = renamed(raw.array, dataset.table(ORGAN_IDS))
    return [
        *find_impossible(array, raw.grid, () if dataset.per_case else absent),
        *find_impossible_volumes(raw.array, raw.grid, dataset.structures),
    ]


def survey(
    paths: Sequence[Path], candidates: Sequence[Dataset], jobs: int = 1
) -> Iterator[FileSurvey]:
    """Survey every file, in their order, in `jobs` processes."""
    survey_one = partial(survey_file, candidates=tuple(candidates))
    if jobs <= 1:
        yield from map(survey_one, paths)
        return
    # Not forked: the libraries underneath have threads of their own by now.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, max(1, len(paths))), mp_context=context) as pool:
        yield from pool.map(survey_one, paths)


def version_of(surveys: Sequence[FileSurvey], candidates: Sequence[Dataset]) -> Dataset | None:
    """Return the version that the files agree on; ``None`` where they do not."""
    if len(candidates) == 1:
        return candidates[0]
    if surveys and all(file.path.is_dir() for file in surveys):
        return candidates[-1]  # names of organs are the same in all of them
    votes = Counter(file.fits[0] for file in surveys if len(file.fits) == 1)
    if not votes:
        return None
    name, count = votes.most_common(1)[0]
    sure = count >= SURE * votes.total()
    return next(dataset for dataset in candidates if dataset.name == name) if sure else None


def votes_text(surveys: Sequence[FileSurvey], candidates: Sequence[Dataset]) -> str:
    """Return one text that says how many files fit which version."""
    alone = Counter(file.fits[0] for file in surveys if len(file.fits) == 1)
    each = [
        f"{alone[dataset.name]} of {len(surveys)} fit {dataset.name} alone"
        for dataset in candidates
    ]
    return ", ".join(each)


def others_that_fit(
    paths: Sequence[Path], chosen: Dataset, known: Sequence[Dataset], most: int = 3
) -> list[str]:
    """Return names of other datasets that fit these files too; those of its family first."""
    others = [
        dataset
        for dataset in known
        if dataset.name != chosen.name
        and len(dataset.organs) > 1
        and dataset.values != chosen.values
    ]
    fitting = {dataset.name for dataset in others}
    for path in paths[:most]:
        fitting &= set(survey_file(path, others).fits)
    family = [
        dataset.name for dataset in others if dataset.family and dataset.family == chosen.family
    ]
    return sorted(fitting, key=lambda name: (name not in family, name))[:most]


def stated_names(path: Path) -> tuple[dict[int, str], str]:
    """Read the structures' names by raw value, and where they stand; empty where there are none.

    Parameters
    ----------
    path
        A label file; its header first, then ``dataset.json`` in its folder or the one above.
    """
    if path.is_dir():
        return {}, ""
    names = _of_header(path)
    if names:
        return names, "its header"
    for folder in (path.parent, path.parent.parent):
        names = _of_sidecar(folder / SIDECAR)
        if names:
            return names, f"{folder.name}/{SIDECAR}"
    return {}, ""


def _of_header(path: Path) -> dict[int, str]:
    try:
        extensions = nib.load(path).header.extensions
    except Exception:  # the error is raised where the file is read
        return {}
    for extension in extensions:
        text = bytes(extension.content).rstrip(b"\0").strip()
        if not text.startswith(b"<"):
            continue
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError:
            continue
        pairs = ((label.get("Key", ""), (label.text or "").strip()) for label in root.iter("Label"))
        names = {int(key): name for key, name in pairs if key.isdigit() and name}
        if names:
            return names
    return {}


def _of_sidecar(path: Path) -> dict[int, str]:
    try:
        labels = json.loads(path.read_bytes())["labels"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    names: dict[int, str] = {}
    for key, entry in labels.items() if isinstance(labels, dict) else ():
        value, name = (key, entry) if str(key).isdigit() else (entry, key)
        if isinstance(name, str) and str(value).isdigit():
            names[int(value)] = name
    return names


def described(folder: Path, name: str) -> Dataset | None:
    """Return the dataset that a folder's ``dataset.json`` describes; None where it names no organ.

    As nnU-Net's raw sets have it; its values for what is none of the nine organs are known, too.
    """
    names = {value: text for value, text in _of_sidecar(folder / SIDECAR).items() if value}
    values = {value: meaning for value, text in names.items() if (meaning := find_meaning(text))}
    if not {*values.values()} - {UNKNOWN}:
        return None
    other = sorted(names.keys() - values.keys())
    return Dataset.model_validate({"": name, "values": values, "other": other})


def contradictions(names: Mapping[int, str], dataset: Dataset) -> list[str]:
    """Find values that a dataset's map takes for something else than their names say.

    `names` are those of :func:`stated_names`. A name that is neither an organ's nor known for
    a structure beside the nine (a tumour's, one misspelt) contradicts nothing.
    """
    texts = []
    for value, name in sorted(names.items()):
        meant = dataset.meanings.get(value)
        organ = find_organ(name)
        if organ is not None:
            kidneys = meant == KIDNEYS and organ.name in ("kidney_left", "kidney_right")
            wrong = meant != organ.name and not kidneys and meant != UNKNOWN
            wrong = wrong and (meant is not None or value in dataset.other)
        else:
            wrong = meant in ORGAN_IDS and normalise(name) in known_structures()
        if wrong:
            taken = meant or "no structure that is annotated"
            texts.append(f"value {value} is named {name!r} and would be taken for {taken}")
    return texts
