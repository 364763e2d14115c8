"""Label files: put in place complete or not at all, and every one that is replaced kept.

``labels/<tag>/<id>.nii.gz`` is the current label, MONAI Label's own layout. What it
replaced lies in ``labels/.history/<tag>/<id>/<time>-<sha256>.nii.gz`` with a JSON of what
was known about it: no tool takes that for a tag's labels.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atlas8k.core.files import copy_whole, locked, publish, sha256_of, sync_folder, write_json
from atlas8k.services.studies.errors import StudiesFolderError
from atlas8k.services.studies.names import LABEL_SUFFIXES, LABELS_FOLDER, split_suffix
from atlas8k.services.studies.rows import LabelRow, Print
from atlas8k.services.studies.scan import scan_tags
from atlas8k.services.studies.state import StateFile

logger = logging.getLogger(__name__)

HISTORY = ".history"
_INCOMING = ".incoming-"
_LEFT_OVER_S = 3600.0
_STRIPES = 64
TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"
"""Of the moments in file names, UTC."""


@dataclass(frozen=True)
class LabelVersion:
    """A label that was replaced or removed.

    ``replaced_at`` is UTC seconds since 1970, ``sha256`` hex, ``info`` what was known.
    """

    image_id: str
    tag: str
    path: Path
    replaced_at: float
    sha256: str
    info: dict[str, Any]


class LabelFiles:
    """The ``labels`` folder of a studies folder.

    Parameters
    ----------
    root
        The studies folder, links resolved.
    state
        What is known about the labels.
    """

    def __init__(self, root: Path, state: StateFile) -> None:
        self.root = root
        self.folder = root / LABELS_FOLDER
        self._state = state
        self._locks = state.path.parent / "locks"

    @contextlib.contextmanager
    def lock(self, image_id: str) -> Iterator[None]:
        """Alone with one image's files, between threads and processes."""
        stripe = zlib.crc32(image_id.encode()) % _STRIPES
        with locked(self._locks / f"{stripe:02d}"):
            yield

    def path(self, label_id: str, tag: str, ext: str) -> Path:
        """Where a label lies; id and tag must have been checked."""
        return self.folder / tag / (label_id + ext)

    def on_disk(self, label_id: str, tag: str) -> list[str]:
        """Suffixes under which a label lies on disk now, preferred ones first."""
        return [s for s in LABEL_SUFFIXES if self.path(label_id, tag, s).is_file()]

    def writable(self, tag: str) -> Path:
        """The folder of a tag, made if missing.

        Raises
        ------
        StudiesFolderError
            It is, or lies behind, a link that leads elsewhere, or cannot be made.
        """
        return self.inside(self.folder / tag)

    def inside(self, folder: Path) -> Path:
        """A folder below the labels, made if missing; as :meth:`writable`."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudiesFolderError(folder, f"cannot be made ({error})") from error
        if folder.resolve() != folder:
            raise StudiesFolderError(
                folder, "leads out of the labels folder by a link; labels are not written there"
            )
        return folder

    def incoming(self, tag: str, suffix: str = "") -> Path:
        """A new empty file in the tag's folder, which no tool takes for a label."""
        handle, name = tempfile.mkstemp(prefix=_INCOMING, suffix=suffix, dir=self.writable(tag))
        os.close(handle)
        return Path(name)

    def save(self, label_id: str, tag: str, source: Path, ext: str, info: dict[str, Any]) -> None:
        """Copy `source` and make it the current label.

        Raises
        ------
        OSError
            `source` cannot be read, or the disk is full; the current label stays.
        """
        temporary = self.incoming(tag)
        try:
            digest = hashlib.sha256()
            with open(source, "rb") as reader, open(temporary, "wb") as writer:
                while block := reader.read(1 << 20):
                    digest.update(block)
                    writer.write(block)
                writer.flush()
                os.fsync(writer.fileno())  # before the lock, where nobody waits for it
            self.commit(label_id, tag, temporary, ext, info, digest.hexdigest())
        finally:
            temporary.unlink(missing_ok=True)

    def commit(
        self, label_id: str, tag: str, temporary: Path, ext: str, info: dict[str, Any], sha256: str
    ) -> None:
        """Make a complete file of the tag's folder the current label."""
        target = self.path(label_id, tag, ext)
        self.writable(tag)
        known = {**info, "ts": int(time.time()), "checksum": f"SHA256:{sha256}"}
        with self.lock(label_id):
            self.recover(label_id)
            print_ = Print.of(temporary)
            assert print_ is not None
            row = LabelRow(label_id, tag, ext, json.dumps(known), print_)
            old = [self.path(label_id, tag, s) for s in self.on_disk(label_id, tag)]
            for path in old:
                self.keep(path, label_id, tag, unless=sha256)
            self._state.intend(row)
            publish(temporary, target)
            for path in old:
                if path != target:
                    path.unlink(missing_ok=True)
            self._state.update_label(label_id, tag, lambda _: row)

    def remove(self, label_id: str, tag: str) -> bool:
        """Take a label out of force; it goes to the history. Whether there was one.

        Hold the image's lock.
        """
        self.recover(label_id)
        paths = [self.path(label_id, tag, s) for s in self.on_disk(label_id, tag)]
        if paths:
            self.writable(tag)
        for path in paths:
            self.keep(path, label_id, tag)
            path.unlink(missing_ok=True)
        gone = LabelRow(label_id, tag, None, "{}", Print(0, 0, 0))
        self._state.update_label(label_id, tag, lambda _: gone)
        return bool(paths)

    def move_out(self, label_id: str, tag: str, ext: str, target: Path) -> None:
        """Move a current label to `target`, outside of all tags, as it is.

        Hold the image's lock.
        """
        self.recover(label_id)
        path = self.path(label_id, tag, ext)
        os.replace(path, target)
        sync_folder(target.parent)
        sync_folder(path.parent)
        gone = LabelRow(label_id, tag, None, "{}", Print(0, 0, 0))
        self._state.update_label(label_id, tag, lambda _: gone)

    def remove_all(self, label_id: str) -> None:
        """Take every label of an image out of force; hold the image's lock."""
        for tag in scan_tags(self.folder):
            if self.on_disk(label_id, tag):
                self.remove(label_id, tag)

    def recover(self, label_id: str) -> None:
        """Finish or forget what a killed process was doing; hold the image's lock."""
        for row in self._state.intents(label_id):
            self._finish(row)

    def recover_all(self) -> None:
        """The same for every label, and clear away files that were never put in place."""
        for row in self._state.intents():
            with self.lock(row.id):
                self.recover(row.id)
        for tag in scan_tags(self.folder):
            for path in (self.folder / tag).glob(f"{_INCOMING}*"):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > _LEFT_OVER_S:
                        path.unlink()

    def _finish(self, row: LabelRow) -> None:
        path = self.path(row.id, row.tag, row.ext or "")
        if Print.of(path) != row.print:
            self._state.drop_intent(row)
            return
        logger.info("label %r of %r: finishing what a killed process began", row.tag, row.id)
        for suffix in self.on_disk(row.id, row.tag):
            if suffix != row.ext:  # already in the history
                self.path(row.id, row.tag, suffix).unlink(missing_ok=True)
        self._state.update_label(row.id, row.tag, lambda _: row)

    def keep(self, path: Path, label_id: str, tag: str, *, unless: str | None = None) -> None:
        """Copy a current label to the history; readers keep finding it in place.

        Not where it is what replaces it, byte for byte, or where it is there already
        because a process was killed in between.
        """
        sha256 = sha256_of(path)
        if sha256 == unless:
            return
        folder = self.inside(self.folder / HISTORY / tag / label_id)
        parts = split_suffix(path.name, LABEL_SUFFIXES)
        suffix = parts[1] if parts else path.suffix
        if any(other.samefile(path) for other in folder.glob(f"*{sha256}{suffix}")):
            return
        moment = datetime.now(UTC).strftime(TIME_FORMAT)
        kept = folder / f"{moment}-{sha256}{suffix}"
        row = self._state.label(label_id, tag)
        info = json.loads(row.info) if row is not None and row.print == Print.of(path) else {}
        write_json(kept.with_name(f"{moment}-{sha256}.json"), info)
        try:
            if path.is_symlink():
                raise OSError("what a link leads to may change")
            os.link(path, kept)
            sync_folder(folder)
        except OSError:
            copy_whole(path, kept)

    def history(self, label_id: str, tag: str | None = None) -> list[LabelVersion]:
        """Labels of an image that were replaced or removed, the oldest first."""
        versions = []
        for one in [tag] if tag else scan_tags(self.folder / HISTORY):
            for path in (self.folder / HISTORY / one / label_id).glob("*"):
                parts = split_suffix(path.name, LABEL_SUFFIXES)
                if parts is None:
                    continue
                moment, _, sha256 = parts[0].partition("-")
                at = datetime.strptime(moment, TIME_FORMAT).replace(tzinfo=UTC).timestamp()
                try:
                    info = json.loads(path.with_name(f"{parts[0]}.json").read_bytes())
                except (OSError, ValueError):
                    info = {}
                versions.append(LabelVersion(label_id, one, path, at, sha256, info))
        return sorted(versions, key=lambda version: (version.replaced_at, version.tag))
