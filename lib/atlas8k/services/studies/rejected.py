"""Labels that were in the folder and failed the checks: set aside by name, with the reason.

``labels/rejected/<case>.nii.gz`` is the file as it was, ``<case>.json`` beside it says why
and what was known of it. The folder is no tag: nothing in it is listed, counted or trained
on, until somebody accepts it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas8k.core.files import write_json
from atlas8k.services.studies.labels import LabelFiles
from atlas8k.services.studies.names import LABEL_SUFFIXES, REJECTED

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rejected:
    """A label that was set aside.

    Attributes
    ----------
    volume, path
        Whose label it is, and the file.
    reason
        What was found and what to do.
    at
        When it was set aside, UTC seconds since 1970.
    info
        What was known of it, as a client would have sent it.
    accepted_as
        Number of the submission made of it since; ``None``: it waits.
    """

    volume: str
    path: Path
    reason: str
    at: float
    info: Mapping[str, Any]
    accepted_as: int | None = None


class RejectedLabels:
    """The folder of labels that were set aside."""

    def __init__(self, labels: LabelFiles) -> None:
        self._labels = labels
        self._listed: tuple[int, list[Rejected]] = (-1, [])

    def put(
        self, volume: str, tag: str, ext: str, reason: str, info: Mapping[str, Any]
    ) -> Rejected:
        """Move the current label of `tag` here; hold the image's lock."""
        folder = self._labels.inside(self._labels.folder / REJECTED)
        stem, number = volume, 1
        while any((folder / (stem + s)).exists() for s in (*LABEL_SUFFIXES, ".json")):
            number += 1
            stem = f"{volume}-{number}"
        made = Rejected(volume, folder / (stem + ext), reason, time.time(), info)
        self._write(made)
        self._labels.move_out(volume, tag, ext, made.path)
        return made

    def waiting(self) -> list[Rejected]:
        """Return labels that nobody has accepted, by name."""
        folder = self._labels.folder / REJECTED
        try:
            changed = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if self._listed[0] != changed:
            found = [one for path in sorted(folder.glob("*.json")) if (one := self._read(path))]
            self._listed = changed, [one for one in found if one.accepted_as is None]
        return self._listed[1]

    def find(self, volume: str) -> Rejected | None:
        """Return the label of a volume that was set aside last."""
        found = [one for one in self.waiting() if one.volume == volume]
        return max(found, key=lambda one: one.at, default=None)

    def note_accepted(self, one: Rejected, submission: int) -> None:
        """Note what was made of it; the file stays."""
        self._write(one, accepted_as=submission)

    def _write(self, one: Rejected, **more: Any) -> None:
        said = {
            "volume": one.volume,
            "file": one.path.name,
            "reason": one.reason,
            "at": one.at,
            "info": dict(one.info),
        }
        write_json(_beside(one.path), {**said, **more})

    def _read(self, path: Path) -> Rejected | None:
        try:
            said = json.loads(path.read_bytes())
            made = Rejected(
                str(said["volume"]),
                path.with_name(Path(said["file"]).name),
                str(said["reason"]),
                float(said["at"]),
                dict(said["info"]),
                said.get("accepted_as"),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s: cannot be read (%s)", path, error)
            return None
        return made if made.path.is_file() else None


def _beside(path: Path) -> Path:
    suffix = next(s for s in LABEL_SUFFIXES if path.name.endswith(s))
    return path.with_name(f"{path.name.removesuffix(suffix)}.json")
