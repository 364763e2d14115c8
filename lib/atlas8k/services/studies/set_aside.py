"""Label files that are not what they were: moved aside by name, with the reason.

``labels/.set-aside/<tag>/<id>/<time><suffix>`` is the file as it was found, ``<time>.json``
beside it says of which label, and why. No tool takes the folder for a tag. Nothing here is ever
deleted by this program: what lies here is named until somebody moves it away.
"""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from atlas8k.core.files import sync_folder, write_json
from atlas8k.services.studies.labels import TIME_FORMAT, LabelFiles
from atlas8k.services.studies.names import LABEL_SUFFIXES, split_suffix

logger = logging.getLogger(__name__)

SET_ASIDE = ".set-aside"


@dataclass(frozen=True)
class SetAside:
    """A label file that was moved aside.

    Attributes
    ----------
    volume, tag
        Of which label.
    file
        Where it lies now, relative to the studies folder.
    found_as
        Where it was found, likewise.
    reason
        What was found.
    expected
        Hex sha256 of the file that was to be there.
    at
        When, UTC seconds since 1970.
    """

    volume: str
    tag: str
    file: str
    found_as: str
    reason: str
    expected: str
    at: float


class SetAsideFiles:
    """The folder of label files that were moved aside."""

    def __init__(self, labels: LabelFiles) -> None:
        self._labels = labels
        self._read: dict[Path, SetAside | None] = {}

    def put(self, volume: str, tag: str, path: Path, reason: str, expected: str) -> SetAside:
        """Move a file here; hold the image's lock."""
        folder = self._labels.inside(self._labels.folder / SET_ASIDE / tag / volume)
        at = time.time()
        stem = datetime.fromtimestamp(at, UTC).strftime(TIME_FORMAT)
        parts = split_suffix(path.name, LABEL_SUFFIXES)
        target = folder / (stem + (parts[1] if parts is not None else path.suffix))
        relative = [str(one.relative_to(self._labels.root)) for one in (target, path)]
        made = SetAside(volume, tag, relative[0], relative[1], reason, expected, at)
        write_json(folder / f"{stem}.json", asdict(made))
        os.replace(path, target)
        for changed in (folder, path.parent):
            sync_folder(changed)
        return made

    def listed(self) -> list[SetAside]:
        """Return what lies here, the oldest first."""
        found = []
        for path in (self._labels.folder / SET_ASIDE).glob("*/*/*.json"):
            if path not in self._read:
                self._read[path] = self._of(path)
            one = self._read[path]
            if one is not None and (self._labels.root / one.file).is_file():
                found.append(one)
        return sorted(found, key=lambda one: one.at)

    def _of(self, path: Path) -> SetAside | None:
        try:
            return SetAside(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s: cannot be read (%s)", path, error)
            return None
