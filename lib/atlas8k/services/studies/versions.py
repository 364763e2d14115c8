"""Versions of a volume's labels: kept first, made current from there, found again.

A submission's file lies in ``labels/.history/<tag>/<id>`` from the start, under the name
that replaced labels have there; the current label is a hard link to it (a copy where the
file system has none). Making another version current therefore loses nothing and takes
no time, and a killed process leaves either the old or the new one current.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atlas8k.core.files import copy_whole, sha256_of, sync_folder, write_json
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.labels import HISTORY, TIME_FORMAT
from atlas8k.services.studies.names import LABEL_SUFFIXES, split_suffix


@dataclass(frozen=True)
class Version:
    """A label file; ``sha256`` hex, ``info`` what is known about it."""

    path: Path
    sha256: str
    info: dict[str, Any]


class Versions:
    """The versions of every label of a studies folder."""

    def __init__(self, folder: StudiesFolder) -> None:
        self._folder, self._labels = folder, folder.labels

    @property
    def root(self) -> Path:
        """The studies folder."""
        return self._folder.path

    @contextlib.contextmanager
    def incoming(self, tag: str) -> Iterator[Path]:
        """A file to write a label to, gone after the block unless it was kept."""
        path = self._labels.incoming(tag, ".nii.gz")
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(
        self, image_id: str, tag: str, written: Path, info: Mapping[str, Any], at: float
    ) -> Version:
        """Make a complete, synced file one of the versions; it is not current yet.

        Parameters
        ----------
        written
            From :meth:`incoming`; it is moved.
        at
            When it was made, UTC seconds.
        """
        sha256 = sha256_of(written)
        folder = self._labels.inside(self._labels.folder / HISTORY / tag / image_id)
        stem = f"{datetime.fromtimestamp(at, UTC).strftime(TIME_FORMAT)}-{sha256}"
        write_json(folder / f"{stem}.json", info)
        path = folder / f"{stem}.nii.gz"
        os.replace(written, path)
        sync_folder(folder)
        return Version(path, sha256, dict(info))

    def keep_current(self, image_id: str, tag: str) -> Version | None:
        """Make the current label, which came by other means, one of the versions."""
        with self._labels.lock(image_id):
            current = self.current(image_id, tag)
            if current is not None:
                self._labels.keep(current.path, image_id, tag)
        return current

    def put_in_force(
        self, image_id: str, tag: str, path: Path, sha256: str, info: Mapping[str, Any]
    ) -> None:
        """Make a version, or a label of another tag, the current label of `tag`."""
        parts = split_suffix(path.name, LABEL_SUFFIXES)
        assert parts is not None
        temporary = self._labels.incoming(tag)
        try:
            temporary.unlink()
            try:
                os.link(path, temporary)
            except OSError:  # a file system without hard links
                copy_whole(path, temporary)
            self._labels.commit(image_id, tag, temporary, parts[1], dict(info), sha256)
        finally:
            # Where this very file is current already, renaming leaves both names.
            temporary.unlink(missing_ok=True)
        self._folder.now()

    def current(self, image_id: str, tag: str) -> Version | None:
        """The current label, None where there is none."""
        row = self._folder.label(image_id, tag)
        if row is None:
            return None
        path = self._labels.path(image_id, tag, row.ext or "")
        info = json.loads(row.info)
        known = str(info.get("checksum", "")).removeprefix("SHA256:")
        try:
            return Version(path, known or sha256_of(path), info)
        except FileNotFoundError:
            return None  # replaced at this moment

    def at(self, image_id: str, tag: str, moment: float) -> Version | None:
        """The label that was current at a moment, UTC seconds."""
        for one in self._labels.history(image_id, tag):
            if one.replaced_at > moment:
                return Version(one.path, one.sha256, one.info)
        return self.current(image_id, tag)

    def kept(self, image_id: str, tag: str) -> list[Version]:
        """Every version that is kept, the newest first."""
        known = self._labels.history(image_id, tag)
        return [Version(one.path, one.sha256, one.info) for one in reversed(known)]

    def find(self, image_id: str, tag: str, sha256: str) -> Version | None:
        """A version by its checksum, None where it is not there any more."""
        wanted = sha256.removeprefix("SHA256:")
        for one in self._labels.history(image_id, tag):
            if one.sha256 == wanted:
                return Version(one.path, one.sha256, one.info)
        current = self.current(image_id, tag)
        return current if current is not None and current.sha256 == wanted else None
