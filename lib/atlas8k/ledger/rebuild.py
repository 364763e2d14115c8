"""A new ledger from the label files that are there, when the old one is lost.

Label files carry what people drew and when, and what the server noted beside them: who,
under which model signature, which organs were looked for in vain. They do not carry
scores (the next scoring run makes them again), leases and minutes, exclusions, rounds and
reviewers' decisions: those are only in a backup.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.errors import VolumeError
from atlas8k.ledger.errors import LedgerReadOnlyError
from atlas8k.ledger.ledger import Ledger
from atlas8k.ledger.records import Holder, LabelFile, OrganChange, VolumeEntry
from atlas8k.organs import ORGAN_IDS
from atlas8k.volume import Volume, read_label

logger = logging.getLogger(__name__)

FINAL, ORIGINAL = "final", "original"
NOT_REBUILT = "scores, leases, minutes, exclusions, rounds and reviewers' decisions"


@dataclass(frozen=True)
class LabelOnDisk:
    """A label file, in force or replaced.

    Parameters
    ----------
    volume, tag, path
        Whose label it is, its tag, and the file.
    written_at
        UTC seconds since 1970.
    info
        What was noted beside it: ``client_id``, ``model_signature``, ``absent`` are used.
    """

    volume: str
    tag: str
    path: Path
    written_at: float
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Rebuilt:
    """What was found, and the files of which only the existence could be noted."""

    volumes: int = 0
    submissions: int = 0
    labels: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


def rebuild(
    target: Path,
    volumes: Iterable[str | VolumeEntry],
    labels: Iterable[LabelOnDisk],
    progress: Callable[[Iterable[LabelOnDisk]], Iterable[LabelOnDisk]] = iter,
) -> Rebuilt:
    """Write a new ledger to `target` from volumes and label files.

    Parameters
    ----------
    target
        Must not exist yet: a ledger that can be read is worth more than a rebuilt one.
    progress
        Wraps the files as they are read, for a progress bar.

    Raises
    ------
    LedgerFileError
        `target` exists or cannot be written.
    """
    if target.exists():
        raise LedgerReadOnlyError(target, "exists; move it away first, a rebuilt one knows less")
    times = [0.0]
    unfinished = target.with_name(f".{target.name}.rebuild")
    _remove(unfinished)
    ledger = Ledger(unfinished, clock=lambda: times[0])
    report = Rebuilt()
    try:
        report.volumes = ledger.sync_volumes(volumes)[0]
        ordered = sorted(labels, key=lambda label: (label.volume, label.written_at, label.path))
        for _, files in groupby(progress(ordered), key=lambda label: label.volume):
            _rebuild_volume(ledger, files, times, report)
        ledger.backup(target)
    finally:
        ledger.close()
        _remove(unfinished)
    return report


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _rebuild_volume(
    ledger: Ledger, files: Iterable[LabelOnDisk], times: list[float], report: Rebuilt
) -> None:
    start: Volume | None = None
    for label in files:
        times[0] = label.written_at
        array = _read(label, report)
        ledger.add_volumes([label.volume])
        signature = label.info.get("model_signature")
        if not isinstance(signature, str):
            signature = None
        elif ledger.register_signature(signature, {"rebuilt": True}, new_round=False):
            logger.info("model signature %s is named by %s", signature, label.path.name)
        sha256 = _sha256(label.path)
        submission = None
        if label.tag == FINAL:
            # Which of two drew without knowing the other is not in the files: the later
            # one was in force, so it counts as having begun from the earlier.
            if ledger.submitted(label.volume):
                ledger.reopen(label.volume)
            organs = None if array is None else _changes(start, array, label.info)
            submission = ledger.submit(
                label.volume,
                _holder(label.info),
                file=str(label.path),
                sha256=sha256,
                signature=signature,
                organs=organs,
                detail={"rebuilt": True},
            ).id
            report.submissions += 1
        kept = LabelFile(
            label.tag, str(label.path), sha256, signature, submission, label.written_at
        )
        ledger.keep_label(label.volume, kept)
        report.labels += 1
        if array is not None and label.tag in (ORIGINAL, FINAL):
            start = array


def _holder(info: Mapping[str, Any]) -> Holder:
    client = info.get("client_id")
    return Holder.identify(client_id=client if isinstance(client, str) else None)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(label: LabelOnDisk, report: Rebuilt) -> Volume | None:
    if label.tag not in (ORIGINAL, FINAL):
        return None
    try:
        return read_label(label.path)
    except VolumeError as error:
        report.unreadable[str(label.path)] = error.reason
        return None


def _changes(
    start: Volume | None, label: Volume, info: Mapping[str, Any]
) -> dict[str, OrganChange]:
    """What a submitted label says of each organ, as far as the files tell."""
    absent = info.get("absent")
    absent = set(absent) if isinstance(absent, list) else set()
    before = _voxels(start) if start is not None and start.grid.same_as(label.grid) else None
    after = _voxels(label)
    both = None
    if before is not None and start is not None:
        both = _counts(label.array[label.array == start.array])
    return dict(_per_organ(before, after, both, absent))


def _counts(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return np.bincount(values.ravel(), minlength=256)


def _voxels(volume: Volume) -> npt.NDArray[np.int64]:
    return _counts(volume.array)


def _per_organ(
    before: npt.NDArray[np.int64] | None,
    after: npt.NDArray[np.int64],
    both: npt.NDArray[np.int64] | None,
    absent: set[str],
) -> Iterator[tuple[str, OrganChange]]:
    for organ, number in ORGAN_IDS.items():
        now = int(after[number])
        was = None if before is None else int(before[number])
        same = None if both is None else int(both[number])
        changed = None if was is None or same is None else was + now - 2 * same
        if organ in absent and not now:
            state = "absent"
        elif not now:
            state = "not_confirmed"  # nothing says that somebody looked for it
        else:
            state = "confirmed" if changed == 0 else "revised"
        dsc = None if was is None or same is None or not was + now else 2 * same / (was + now)
        yield organ, OrganChange(state, was, now, changed, dsc)
