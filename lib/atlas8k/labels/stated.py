"""What a label file says its values are: names in its header, or in a ``dataset.json`` beside.

TotalSegmentator (from version 2) and Connectome Workbench write a label table as XML into a
NIfTI header extension; the Medical Segmentation Decathlon and nnU-Net keep a ``dataset.json``
with ``labels``, by value or by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib

from atlas8k.labels.datasets import KIDNEYS, UNKNOWN, Dataset
from atlas8k.organs import ORGAN_IDS, find_organ, normalise

SIDECAR = "dataset.json"


def stated_names(path: Path) -> tuple[dict[int, str], str]:
    """Names by raw value, and where they stand; empty where nothing is said.

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


def contradictions(
    names: Mapping[int, str], dataset: Dataset, structures: frozenset[str]
) -> list[str]:
    """Values that a dataset's map takes for something else than their names say.

    Parameters
    ----------
    names
        From :func:`stated_names`.
    structures
        Names of structures beside the nine that are known to be none of them; any other name
        that is no organ's (a tumour's, one misspelt) contradicts nothing.
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
            wrong = meant in ORGAN_IDS and normalise(name) in structures
        if wrong:
            taken = meant or "no organ of the nine"
            found.append(f"value {value} is named {name!r} and would be taken for {taken}")
    return found
