"""Label files as a rebuild finds them: what each says of itself, or its voxels say."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from atlas8k.core.errors import VolumeError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import NIFTI_SUFFIXES, Volume, read_label
from atlas8k.labels.provenance import Provenance, read_provenance
from atlas8k.labels.submission_diff import compare_readings
from atlas8k.services.studies.labels import HISTORY, TIME_FORMAT
from atlas8k.services.studies.names import LABEL_SUFFIXES, LABELS_FOLDER, split_suffix
from atlas8k.services.studies.scan import scan_labels, scan_tags
from atlas8k.store.label_files import FORMER_MODEL_VERSION
from atlas8k.store.records import OLDER_RULE, OrganChange, OrganSource

logger = logging.getLogger(__name__)

FINAL, ORIGINAL = "final", "original"
T = TypeVar("T")


@dataclass(frozen=True)
class LabelOnDisk:
    """A label file, current or replaced.

    Parameters
    ----------
    volume, tag, path
        Whose label it is, its tag, and the file.
    written_at
        UTC seconds since 1970.
    info
        What was noted beside it: ``client_id``, ``model_version``, ``absent`` are used
        where the file itself does not say.
    is_current
        It is the volume's label of its tag now.
    """

    volume: str
    tag: str
    path: Path
    written_at: float
    info: Mapping[str, Any] = field(default_factory=dict)
    is_current: bool = False


def labels_on_disk(studies: Path, former: Path | None = None) -> Iterator[LabelOnDisk]:
    """Yield every label file of a studies folder: current, and kept ones.

    Parameters
    ----------
    former
        A ledger that was there: what can be read of it says what was known of the files.
    """
    current, kept = _known(former)
    labels = studies.resolve() / LABELS_FOLDER
    for tag in scan_tags(labels):
        for volume, suffix in scan_labels(labels / tag).items():
            path = labels / tag / f"{volume}{suffix}"
            info = current.get((volume, tag), {})
            yield LabelOnDisk(volume, tag, path, path.stat().st_mtime, info, is_current=True)
    for tag in scan_tags(labels / HISTORY):
        for path in sorted((labels / HISTORY / tag).glob("*/*")):
            parts = split_suffix(path.name, LABEL_SUFFIXES)
            if parts is None:
                continue
            moment = datetime.strptime(parts[0].partition("-")[0], TIME_FORMAT)
            # Releases before this one named a file by when it was replaced.
            written = min(path.stat().st_mtime, moment.replace(tzinfo=UTC).timestamp())
            info = _object(path.with_name(f"{parts[0]}.json"))
            info = info or kept.get(str(path.relative_to(labels.parent)), {})
            yield LabelOnDisk(path.parent.name, tag, path, written, info)


_Info = dict[str, object]


def _known(former: Path | None) -> tuple[dict[tuple[str, str], _Info], dict[str, _Info]]:
    """Return what a ledger says of current labels, by volume and tag, and of kept files."""
    current: dict[tuple[str, str], _Info] = {}
    kept: dict[str, _Info] = {}
    if former is None:
        return current, kept
    try:
        with closing(sqlite3.connect(f"{former.as_uri()}?mode=ro", uri=True)) as connection:
            for file, info in connection.execute("SELECT file, info FROM label_version"):
                kept[file] = json.loads(info)
            for volume, tag, info in connection.execute("SELECT image, tag, info FROM label"):
                current[volume, tag] = json.loads(info)
    except (sqlite3.DatabaseError, ValueError) as error:
        logger.info("%s: label details cannot be read (%s)", former, error)
    return current, kept


def _object(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class Reader:
    """Reads label files; those that cannot be read are nothing, and noted with the reason.

    Attributes
    ----------
    unreadable
        Reason by file.
    """

    def __init__(self) -> None:
        self.unreadable: dict[str, str] = {}

    def _read(self, read: Callable[[Path], T], label: LabelOnDisk) -> T | None:
        try:
            return read(label.path)
        except VolumeError as error:
            self.unreadable[str(label.path)] = error.reason
            return None

    def provenance(self, label: LabelOnDisk) -> Provenance | None:
        """Return what a file says of itself."""
        nifti = label.path.name.endswith(NIFTI_SUFFIXES)
        return self._read(read_provenance, label) if nifti else None

    def voxels(self, label: LabelOnDisk | None) -> Volume | None:
        """Return organ ids on the CT's grid."""
        return None if label is None else self._read(read_label, label)

    def agreement(self, first: LabelOnDisk | None, second: LabelOnDisk) -> dict[str, OrganChange]:
        """Return per organ how far two readings agree; empty where one cannot be read."""
        one, two = self.voxels(first), self.voxels(second)
        if one is None or two is None or one.array.shape != two.array.shape:
            return {}
        return compare_readings(one.array, two.array, one.grid)


def changes_by_voxels(
    draft: Volume | None, label: Volume, info: Mapping[str, Any]
) -> dict[str, OrganChange]:
    """Compare a submitted label with its draft label, where nothing but its voxels tells.

    An organ without voxels is ``not_assessed``, unless `info` lists it under ``absent``; one
    that is as in the draft label is ``confirmed``, by the rule that such files are from.
    """
    listed = info.get("absent")
    absent = set(listed) if isinstance(listed, list) else set()
    after = np.bincount(label.array.ravel(), minlength=256)
    before = both = None
    if draft is not None and draft.grid.same_as(label.grid):
        before = np.bincount(draft.array.ravel(), minlength=256)
        both = np.bincount(label.array[label.array == draft.array], minlength=256)
    found = {}
    for organ, number in ORGAN_IDS.items():
        now, was, changed, dsc = int(after[number]), None, None, None
        if before is not None and both is not None:
            was, same = int(before[number]), int(both[number])
            changed = was + now - 2 * same
            dsc = 2 * same / (was + now) if was + now else None
        if not now:  # nothing says that somebody looked for it, but the list
            state = "absent" if organ in absent else "not_assessed"
        else:
            state = "confirmed" if changed == 0 else "revised"
        note = OLDER_RULE if state == "confirmed" else None
        found[organ] = OrganChange(state, was, now, changed, dsc, note)
    return found


def of_dataset(origin: Provenance) -> dict[str, OrganSource]:
    """Return what a public label can say; nothing else is taken from it."""
    return {
        organ: OrganSource("public", source.state, source.dataset)
        for organ, source in origin.organs.items()
        if source.state == "unknown"
        or (source.source == "public" and source.state in ("present", "absent"))
    }


def model_version_of(label: LabelOnDisk, origin: Provenance) -> str | None:
    """Return the model version that a label names, or that was noted beside it."""
    model_version = (
        origin.model_version
        or label.info.get("model_version")
        or label.info.get(FORMER_MODEL_VERSION)
    )
    return model_version if isinstance(model_version, str) else None
