"""Keeping the catalogue in step with the folder while it is in use.

Folders are looked at again only when their time of change says so (network mounts have no
reliable notifications), case folders as a whole from time to time, and every single image
when it is asked for. A difference is checked on disk once more when it is applied: what
the API did meanwhile is never undone by an older listing.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from atlas8k.core.errors import Atlas8kError
from atlas8k.services.studies.catalogue import Catalogue, Label
from atlas8k.services.studies.inspection import Inspections
from atlas8k.services.studies.labels import LabelFiles
from atlas8k.services.studies.scan import (
    ImageFile,
    probe,
    scan_images,
    scan_labels,
    scan_tags,
    stamp,
)
from atlas8k.store import Changes, CurrentLabel, FileIdentity, FolderIndex

logger = logging.getLogger(__name__)

_MANY_WAITING = 1000
_SHARE = 20
"""Looking around takes at most one part in so many of the time."""


class Sync:
    """Bring what is on disk and in the store into the catalogue.

    Parameters
    ----------
    suffixes
        Image suffixes, in order of preference.
    settle_s
        A volume that appears in a running server is listed when its file has not
        changed for so long: copying a CT takes a while.
    """

    def __init__(
        self,
        root: Path,
        suffixes: tuple[str, ...],
        index: FolderIndex,
        labels: LabelFiles,
        catalogue: Catalogue,
        settle_s: float,
        inspections: Inspections,
    ) -> None:
        self.root = root
        self.suffixes = suffixes
        self._index, self._labels, self._catalogue = index, labels, catalogue
        self.inspections = inspections
        self._settle_ns = int(settle_s * 1e9)
        self._rows: dict[tuple[str, str], CurrentLabel] = {}
        self._seq = 0
        self._version = (-1, -1)
        self._version_lock = threading.Lock()
        self._look_lock = threading.Lock()
        self._stamps: dict[Path, int] = {}
        self._waiting: list[str] = []
        self._growing: dict[str, tuple[ImageFile, FileIdentity, int]] = {}
        self._told: set[str] = set()

    # --- what other processes wrote ---------------------------------------------------

    def catch_up(self) -> None:
        """Take in what anybody has written through the API since; microseconds if nothing."""
        version = self._index.ledger.data_version()
        if version == self._version:
            return
        with self._version_lock:
            changes = self._index.changes(self._seq)
            self._apply(changes)
            self._seq, self._version = changes.seq, version

    def _apply(self, changes: Changes) -> None:
        for image in changes.images:
            self._catalogue.set_info(image.id, image.info)
            if image.removed is not None or image.id not in self._catalogue.images:
                self.look_at(image.id, settled=True)
        for row in changes.labels:
            self._rows[row.image, row.tag] = row
            self._look_at_label(row.image, row.tag)
        for found in changes.remarks:
            self.inspections.learn(found)

    def load(self) -> None:
        """Everything at once, for the start: names from disk, the rest from the store."""
        with self._look_lock, self._version_lock:
            version = self._index.ledger.data_version()
            changes = self._index.changes()
            for row in changes.labels:
                self._rows[row.image, row.tag] = row
            for image in changes.images:
                self._catalogue.set_info(image.id, image.info)
            for found in changes.remarks:
                self.inspections.learn(found)
            self._seq, self._version = changes.seq, version
            self._look(deep=True, settle=False, breathe=False)

    # --- what is on disk --------------------------------------------------------------

    def look(self, *, deep: bool = False, settle: bool = True, breathe: bool = True) -> None:
        """Look around for what has appeared and vanished.

        Parameters
        ----------
        deep
            Also into folders whose time of change says nothing.
        settle
            Wait for new files to stop growing.
        """
        self.catch_up()
        with self._look_lock:
            self._look(deep=deep, settle=settle, breathe=breathe)

    def _look(self, *, deep: bool, settle: bool, breathe: bool) -> None:
        try:
            self._look_for_images(deep, settle, breathe)
            stored = {tag for _, tag in self._rows}
            for tag in sorted({*scan_tags(self._labels.folder), *stored}):
                self._look_for_labels(tag, deep, breathe)
        except OSError as error:
            # A mount that is away for a moment must not empty the list.
            self._tell(f"look {error.errno}", f"{self.root}: cannot be looked through ({error})")

    def _changed(self, folder: Path, deep: bool) -> Callable[[], None] | None:
        """Whether to read a folder now; if so, what to call afterwards."""
        changed, trusted = stamp(folder)
        if not deep and self._stamps.get(folder) == changed:
            return None

        def note() -> None:
            self._stamps[folder] = changed if trusted else -1

        return note

    def _look_for_images(self, deep: bool, settle: bool, breathe: bool) -> None:
        note = self._changed(self.root, deep)
        if note is not None:
            known = None if deep else dict(self._catalogue.images)
            scan = scan_images(self.root, self.suffixes, known, breathe=breathe)
            self._catalogue.not_listed = scan.refused
            for name, reason in scan.refused.items():
                self._tell(name, f"{name}: not listed, {reason}")
            self._waiting = scan.waiting
            images = self._catalogue.images
            for image_id, file in scan.files.items():
                if images.get(image_id) != file:
                    self._appeared(image_id, file, settle)
            for image_id in [i for i in list(images) if i not in scan.files]:
                self.look_at(image_id, settled=True)
            note()
        else:
            # Filling a case folder leaves no trace in the folder it lies in.
            for name in self._waiting[:_MANY_WAITING]:
                if probe(self.root, name, self.suffixes) is not None:
                    self._stamps[self.root] = -1
                    break
            for image_id, (file, _, _) in list(self._growing.items()):
                self._appeared(image_id, file, settle)

    def _appeared(self, image_id: str, file: ImageFile, settle: bool) -> None:
        if settle and not self._settled(image_id, file):
            return
        self._growing.pop(image_id, None)
        # At the start everything is new and was seen a moment ago.
        if not settle or probe(self.root, image_id, self.suffixes) == file:
            self._catalogue.set_image(image_id, file)

    def _settled(self, image_id: str, file: ImageFile) -> bool:
        identity, now = FileIdentity.of(self.root / file.path), time.time_ns()
        if identity is None:
            self._growing.pop(image_id, None)
            return False
        if identity.mtime_ns + self._settle_ns < now:
            return True
        # A file stamped by another machine's clock, ahead of ours: watch it instead.
        seen = self._growing.get(image_id)
        if seen is None or seen[:2] != (file, identity):
            self._growing[image_id] = (file, identity, time.monotonic_ns())
            return self._settle_ns <= 0
        return seen[2] + self._settle_ns <= time.monotonic_ns()

    def look_at(self, image_id: str, *, settled: bool = False) -> ImageFile | None:
        """One image as it is now; the id must have been checked."""
        file = probe(self.root, image_id, self.suffixes)
        if file is None:
            self._catalogue.drop_image(image_id)
        elif self._catalogue.images.get(image_id) != file:
            if not settled and not self._settled(image_id, file):
                return None
            self._catalogue.set_image(image_id, file)
        return file

    def _look_for_labels(self, tag: str, deep: bool, breathe: bool) -> None:
        folder = self._labels.folder / tag
        note = self._changed(folder, deep) if folder.is_dir() else lambda: None
        if note is None:
            return
        preferred = {
            i: row.ext
            for (i, t), row in self._rows.items()
            if t == tag and row.ext and row.version is not None
        }
        found = {**scan_labels(folder, preferred, breathe=breathe), **preferred}
        known = self._catalogue.labels.get(tag, {})
        if not known:  # the start: nothing can have changed meanwhile
            for label_id, ext in found.items():
                self._catalogue.set_label(label_id, tag, self._label(label_id, tag, ext))
        else:
            for label_id, ext in found.items():
                label = known.get(label_id)
                if label is None or label.ext != ext:
                    self._look_at_label(label_id, tag)
            for label_id in [i for i in list(known) if i not in found]:
                self._look_at_label(label_id, tag)
        note()

    def _look_at_label(self, label_id: str, tag: str) -> None:
        row = self._rows.get((label_id, tag))
        label = None
        if row is not None and row.version is not None:
            # The store says so; its file is put in place where it is not.
            label = Label(row.ext or "", row.info)
        elif there := self._labels.on_disk(label_id, tag):
            ext = row.ext if row is not None and row.ext in there else there[0]
            label = self._label(label_id, tag, ext)
        self._catalogue.set_label(label_id, tag, label)

    def _label(self, label_id: str, tag: str, ext: str) -> Label:
        row = self._rows.get((label_id, tag))
        return Label(ext, row.info if row is not None and row.ext == ext else "{}")

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            logger.warning("%s", message)


class Watcher(threading.Thread):
    """Looks around now and then, until its datastore is gone.

    Parameters
    ----------
    every_s
        Between two looks at folders' times of change.
    deep_every_s
        Between two looks into everything.
    """

    def __init__(self, sync: Sync, every_s: float, deep_every_s: float) -> None:
        super().__init__(name="studies-watcher", daemon=True)
        self._sync = weakref.ref(sync)
        self._every_s, self._deep_every_s = every_s, deep_every_s
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Look around; errors are logged and do not end it."""
        pause, deep_at = self._every_s, time.monotonic() + self._deep_every_s
        first = True
        while first or not self._stop_event.wait(pause):
            sync = self._sync()
            if sync is None:
                return
            started = time.monotonic()
            deep = started > deep_at
            try:
                if not first:  # the folder was looked through when it was opened
                    sync.look(deep=deep)
                sync.inspections.look(deep=deep)
            except (OSError, Atlas8kError, json.JSONDecodeError):
                logger.exception("looking through %s failed; the list stays as it was", sync.root)
            first, took = False, time.monotonic() - started
            if deep:
                deep_at = time.monotonic() + max(self._deep_every_s, took * _SHARE)
            pause = max(self._every_s, took * _SHARE)
            del sync

    def stop(self) -> None:
        """End it soon."""
        self._stop_event.set()
