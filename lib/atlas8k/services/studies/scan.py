"""What lies in a studies folder, found without opening or measuring files.

Names only: 100,000 volumes are one directory read, plus, in the tree of AbdomenAtlas, one
look into each case folder that is not known yet.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from atlas8k.services.studies.names import (
    CASE_STEM,
    LABEL_SUFFIXES,
    LABELS_FOLDER,
    id_fault,
    is_tag,
    split_suffix,
)

logger = logging.getLogger(__name__)

SETTLED_NS = 2_000_000_000
"""A listing taken this soon after its folder's last change is not trusted: file systems
stamp folders with clock ticks, and another change within the same tick leaves no trace."""

_BREATH = 512
_FIRST_ENTRIES = 64
_OPENED = 3
"""Of a folder without a CT so many entries are looked at, and so many files opened."""

_OTHER_FORMATS = {
    (".dcm", ".ima"): "a DICOM file; CTs here are NIfTI, or come from a DICOMweb server",
    (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar"): (
        "a packed file; unpack it here, then delete or move it"
    ),
    (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".img", ".hdr", ".img.gz", ".hdr.gz"): (
        "not a NIfTI file; save it as .nii.gz, in 3D Slicer with Save as"
    ),
}


class ImageFile(NamedTuple):
    """An image's file: path relative to the studies folder, and suffix."""

    path: str
    ext: str


@dataclass
class ImageScan:
    """Images by id; case folders that hold no CT yet; names that were refused, and why."""

    files: dict[str, ImageFile] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def _entries(folder: str | Path, breathe: bool) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if breathe and number % _BREATH == 0:
                # In the background: let threads that answer somebody go first.
                time.sleep(0)
            yield entry


def candidates(image_id: str, suffixes: Sequence[str]) -> list[ImageFile]:
    """Return where an image of that id may lie, in order of preference: flat before tree."""
    flat = [ImageFile(image_id + suffix, suffix) for suffix in suffixes]
    return flat + [ImageFile(f"{image_id}/{CASE_STEM}{suffix}", suffix) for suffix in suffixes]


def probe(root: str | Path, image_id: str, suffixes: Sequence[str]) -> ImageFile | None:
    """Find the image of one id as it lies on disk now; the id must have been checked."""
    for file in candidates(image_id, suffixes):
        if os.path.isfile(os.path.join(root, file.path)):  # noqa: PTH113, PTH118
            return file
    return None


def _case_file(root: str | Path, name: str, suffixes: Sequence[str]) -> ImageFile | None:
    for suffix in suffixes:
        path = f"{name}/{CASE_STEM}{suffix}"
        if os.path.isfile(os.path.join(root, path)):  # noqa: PTH113, PTH118
            return ImageFile(path, suffix)
    return None


def _not_an_image(name: str) -> str | None:
    """Say why a file is not listed, where its name says that it is an image."""
    lower = name.lower()
    if lower.endswith((".nii.gz", ".nii")):
        return "rename it to end in .nii.gz or .nii"
    for suffixes, what in _OTHER_FORMATS.items():
        if lower.endswith(suffixes):
            return what
    return None


def _no_case(folder: str) -> str | None:
    """Say why a folder without ``ct.nii.gz`` is no case, from its first entries' names."""
    try:
        with os.scandir(folder) as entries:
            first = list(itertools.islice(entries, _FIRST_ENTRIES))
        link = next((e for e in first if e.name.lower().startswith(f"{CASE_STEM}.nii")), None)
        if link is not None:
            if link.is_symlink():
                return f"{link.name} is a link to {Path(link.path).readlink()}, which is not there"
            return f"rename {link.name} to {CASE_STEM}.nii.gz"
        if any(_is_dicom(entry) or _holds_dicom(entry) for entry in first[:_OPENED]):
            return (
                "a folder of DICOM files; serve it from a DICOMweb server, or convert each series "
                f"to {CASE_STEM}.nii.gz (atlas8k predict reads it as it is)"
            )
        images = [e.name for e in first if e.name.lower().endswith((".nii", ".nii.gz"))]
    except OSError as error:
        return f"cannot be looked into ({error})"
    if images:
        return f"holds {min(images)} but no {CASE_STEM}.nii.gz; rename the CT"
    return None


def _holds_dicom(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir():
        return False
    with os.scandir(entry.path) as entries:
        return any(_is_dicom(one) for one in itertools.islice(entries, _OPENED))


def _is_dicom(entry: os.DirEntry[str]) -> bool:
    if entry.name.lower().endswith((".dcm", ".ima")):
        return True
    if not entry.is_file():
        return False
    with open(entry.path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def scan_images(
    root: str | Path,
    suffixes: Sequence[str],
    known: Mapping[str, ImageFile] | None = None,
    *,
    breathe: bool = False,
) -> ImageScan:
    """List ``case.nii.gz`` and ``case/ct.nii.gz``.

    Where two files claim one id, the flat one is taken before the case folder, and the
    earlier suffix before the later; the other one is refused by name.

    Parameters
    ----------
    suffixes
        Image suffixes, in order of preference.
    known
        Case folders known to hold their CT are not looked into again.
    breathe
        Give way to other threads now and then.
    """
    scan = ImageScan()
    for entry in _entries(root, breathe):
        name = entry.name
        if name.startswith(".") or name == LABELS_FOLDER:
            continue
        parts = split_suffix(name, suffixes)
        try:
            if parts is None and not entry.is_dir():
                reason = _not_an_image(name)
                if reason is not None:
                    scan.refused[name] = reason
                continue
            if parts is not None and entry.is_symlink() and not Path(entry.path).exists():
                scan.refused[name] = f"a link to {Path(entry.path).readlink()}, which is not there"
                continue
            if parts is not None and entry.is_file():
                image_id, file = parts[0], ImageFile(name, parts[1])
            elif entry.is_dir():
                old = known.get(name) if known else None
                inside = old is not None and old.path.startswith(f"{name}/")
                case = old if inside else _case_file(root, name, suffixes)
                if case is None:
                    scan.waiting.append(name)
                    reason = _no_case(entry.path)
                    if reason is not None:
                        scan.refused[name] = reason
                    continue
                image_id, file = name, case
            else:
                continue
        except OSError as error:
            scan.refused[name] = f"cannot be looked at ({error})"
            continue
        fault = id_fault(image_id)
        if fault is not None:
            scan.refused[file.path] = fault
            continue
        other = scan.files.get(image_id)
        if other is not None:
            order = candidates(image_id, suffixes)
            if order.index(other) < order.index(file):
                file, other = other, file
            scan.refused[other.path] = f"{file.path} has the same id; rename one of them"
        scan.files[image_id] = file
    return scan


def scan_tags(labels: str | Path) -> list[str]:
    """Return tags that have a folder, sorted; ``.history`` and its like are none."""
    try:
        with os.scandir(labels) as entries:
            return sorted(e.name for e in entries if is_tag(e.name) and e.is_dir())
    except FileNotFoundError:
        return []


def scan_labels(
    folder: str | Path, preferred: Mapping[str, str] | None = None, *, breathe: bool = False
) -> dict[str, str]:
    """List label files of one tag: suffix by image id.

    Where a killed writer left two suffixes of one id, `preferred` says which is in
    force; else the earlier of :data:`~atlas8k.services.studies.names.LABEL_SUFFIXES`.
    """
    found: dict[str, str] = {}
    try:
        for entry in _entries(folder, breathe):
            parts = split_suffix(entry.name, LABEL_SUFFIXES)
            if parts is None or id_fault(parts[0]) is not None or not entry.is_file():
                continue
            label_id, suffix = parts
            if label_id in found:
                suffix = _better((preferred or {}).get(label_id, ""), (suffix, found[label_id]))
            found[label_id] = suffix
    except FileNotFoundError:
        return {}
    return found


def _better(preferred: str, both: Collection[str]) -> str:
    return preferred if preferred in both else min(both, key=LABEL_SUFFIXES.index)


def stamp(folder: str | Path) -> tuple[int, bool]:
    """Return a folder's time of change, ns, and whether it lies far enough back to be trusted."""
    changed = os.stat(folder).st_mtime_ns  # noqa: PTH116
    return changed, changed + SETTLED_NS < time.time_ns()
