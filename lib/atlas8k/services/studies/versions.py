"""Label files of a volume found again: the current one, that of a moment, one by its hash."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas8k.core.files import sha256_of
from atlas8k.services.studies.folder import ORIGINAL, StudiesFolder
from atlas8k.store import LabelVersion

PSEUDO = "pseudo"


@dataclass(frozen=True)
class Version:
    """A label file; ``sha256`` hex, ``info`` what is known about it."""

    path: Path
    sha256: str
    info: dict[str, Any]


class Versions:
    """The versions of every label of a studies folder."""

    def __init__(self, folder: StudiesFolder) -> None:
        self._folder = folder

    @property
    def root(self) -> Path:
        """The studies folder."""
        return self._folder.path

    def current(self, image_id: str, tag: str) -> Version | None:
        """Return the current label, None where there is none."""
        label = self._folder.label(image_id, tag)
        if label is None:
            return None
        info = json.loads(label.info)
        if label.version is not None:
            kept = self._folder.index.label_version(image_id, tag)
            if kept is not None and kept.id == label.version:
                path = self._folder.labels.file(kept)
                if not path.is_file():  # until it is mended, there is its copy
                    path = self._folder.labels.path(image_id, tag, kept.ext)
                return Version(path, kept.sha256, info)
        path = self._folder.labels.path(image_id, tag, label.ext or "")
        try:
            return Version(path, sha256_of(path), info)
        except FileNotFoundError:
            return None  # replaced at this moment

    def at(self, image_id: str, tag: str, moment: float) -> Version | None:
        """Return the label that was current at a moment, UTC seconds, or the first after it."""
        # Where nothing better than the pseudo label is known, that is the draft.
        tags = (ORIGINAL, PSEUDO) if tag == ORIGINAL else (tag,)
        known = self._folder.index.label_versions(image_id)
        versions = sorted(
            (one for one in known if one.tag in tags), key=lambda one: (one.written_at, one.id)
        )
        if not versions:
            return self.current(image_id, tag)
        before = [one for one in versions if one.written_at <= moment]
        return self.of(before[-1] if before else versions[0])

    def kept(self, image_id: str, tag: str) -> list[Version]:
        """Return every version made for a tag, the newest first."""
        return [self.of(one) for one in reversed(self._folder.index.label_versions(image_id, tag))]

    def find(self, image_id: str, sha256: str) -> Version | None:
        """Return a version by its checksum, None where it is not there any more."""
        found = self._folder.index.find_label(image_id, sha256)
        if found is None or not self._folder.labels.file(found).is_file():
            return None
        return self.of(found)

    def of(self, version: LabelVersion) -> Version:
        """Return a version of the store with where it lies."""
        return Version(self._folder.labels.file(version), version.sha256, version.info)
