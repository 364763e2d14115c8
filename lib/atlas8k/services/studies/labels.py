"""Label files: written under their hash first, put in place complete or not at all.

``labels/.history/<tag>/<id>/<time>-<sha256>.nii.gz`` is a label file for good: no tool takes
that folder for a tag's labels. ``labels/<tag>/<id>.nii.gz`` is the current label, MONAI
Label's own layout: a copy of the file that the store says is current, never that file itself.
It shares that file's size and time of change. A file that does not is held against the hashes:
a studies folder that was copied has other times. One that is none of the image's own was put
there by other means, and is kept before it is replaced.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atlas8k.core.files import locked, publish, sha256_of, sync_folder
from atlas8k.services.studies.errors import DamagedLabelError, StudiesFolderError
from atlas8k.services.studies.names import LABEL_SUFFIXES, LABELS_FOLDER
from atlas8k.services.studies.scan import scan_tags
from atlas8k.store import CurrentLabel, FileIdentity, FolderIndex, LabelVersion, NewLabel

logger = logging.getLogger(__name__)

HISTORY = ".history"
_INCOMING = ".incoming"
"""Folder of files that are being written: whatever is in it after an hour is of a process that
was killed."""
_LEFT_OVER_S = 3600.0
_STRIPES = 64
TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"
"""Of the moments in file names, UTC."""

_DERIVED = frozenset({"pseudo"})
"""Tags whose file in place nobody waits for the disk for: what the networks predict."""


class LabelFiles:
    """The ``labels`` folder of a studies folder.

    Parameters
    ----------
    root
        The studies folder, links resolved.
    index
        What is known about the labels.

    Attributes
    ----------
    wait_for_disk
        Whether each file put in place is on disk before the next; a restore waits once for all.
    """

    wait_for_disk = True

    def __init__(self, root: Path, index: FolderIndex) -> None:
        self.root = root
        self.folder = root / LABELS_FOLDER
        self._index = index
        self._locks = index.ledger.path.parent / "locks"

    @contextlib.contextmanager
    def lock(self, image_id: str) -> Iterator[None]:
        """Hold one image's files alone, between threads and processes."""
        stripe = zlib.crc32(image_id.encode()) % _STRIPES
        with locked(self._locks / f"{stripe:02d}"):
            yield

    # --- where files are ----------------------------------------------------------------

    def path(self, label_id: str, tag: str, ext: str) -> Path:
        """Return where a current label lies; id and tag must have been checked."""
        return self.folder / tag / (label_id + ext)

    def file(self, version: LabelVersion | NewLabel) -> Path:
        """Return where a kept label file lies."""
        return self.root / version.file

    def on_disk(self, label_id: str, tag: str) -> list[str]:
        """Return suffixes under which a label lies in place now, preferred ones first."""
        return [s for s in LABEL_SUFFIXES if self.path(label_id, tag, s).is_file()]

    def writable(self, tag: str) -> Path:
        """Return the folder of a tag, made if missing.

        Raises
        ------
        StudiesFolderError
            It is, or lies behind, a link that leads elsewhere, or cannot be made.
        """
        return self.inside(self.folder / tag)

    def inside(self, folder: Path) -> Path:
        """Return a folder below the labels, made if missing; as :meth:`writable`."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudiesFolderError(folder, f"cannot be made ({error})") from error
        if folder.resolve() != folder:
            raise StudiesFolderError(
                folder, "leads out of the labels folder by a link; labels are not written there"
            )
        return folder

    # --- kept files ---------------------------------------------------------------------

    @contextlib.contextmanager
    def incoming(self, tag: str, suffix: str = "") -> Iterator[Path]:
        """Give a new empty file, which no tool takes for a label, to write one to."""
        folder = self.inside(self.folder / _INCOMING)
        handle, name = tempfile.mkstemp(prefix=f"{tag}-", suffix=suffix, dir=folder)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def keep(
        self,
        image_id: str,
        tag: str,
        written: Path,
        ext: str,
        info: Mapping[str, Any],
        at: float | None = None,
    ) -> NewLabel:
        """Move a complete file to where it is kept; on disk when this returns.

        Parameters
        ----------
        written
            From :meth:`incoming`.
        at
            When it was made, UTC seconds since 1970, where not now.
        """
        moment = time.time() if at is None else at
        # A whole microsecond: what file systems and archives keep of a time.
        changed = time.time_ns() // 1000 * 1000
        os.utime(written, ns=(changed, changed))
        sha256 = sha256_of(written)
        return self._keep(image_id, tag, written, ext, info, moment, sha256)

    def _keep(
        self,
        image_id: str,
        tag: str,
        written: Path,
        ext: str,
        info: Mapping[str, Any],
        moment: float,
        sha256: str,
    ) -> NewLabel:
        folder = self.inside(self.folder / HISTORY / tag / image_id)
        name = f"{datetime.fromtimestamp(moment, UTC).strftime(TIME_FORMAT)}-{sha256}{ext}"
        publish(written, folder / name)
        found = FileIdentity.of(folder / name)
        assert found is not None
        file = str((folder / name).relative_to(self.root))
        return NewLabel(tag, file, ext, sha256, found.stamp, dict(info))

    def keep_foreign_files(self, image_id: str, tag: str, *, under: str | None = None) -> None:
        """Keep files that were put in place by other means and are about to be replaced.

        Hold the image's lock.

        Parameters
        ----------
        under
            The tag to keep them under, where not `tag`.
        """
        known = self._index.label(image_id, tag)
        for ext, found in self.foreign_files(image_id, tag):
            path = self.path(image_id, tag, ext)
            if self._index.is_kept(image_id, ext, found.stamp):
                continue
            here = known is not None and (known.ext, known.stamp) == (ext, found.stamp)
            info = json.loads(known.info) if here and known is not None else {}
            kept = self.copy_of(image_id, under or tag, path, ext, info)
            self._index.add_foreign_version(image_id, kept)
            if known is not None and known.version is not None:
                logger.warning(
                    "%s: labels/%s was changed by other means than a submission; what lay there "
                    "is kept as %s",
                    *(image_id, tag, kept.file),
                )

    def foreign_files(self, image_id: str, tag: str) -> list[tuple[str, FileIdentity]]:
        """Return suffix and identity of each file in place that was put there by other means."""
        return [
            (ext, found)
            for ext in self.on_disk(image_id, tag)
            if (found := FileIdentity.of(self.path(image_id, tag, ext))) is not None
            and not self._is_own(image_id, tag, ext, found)
        ]

    def _is_own(self, image_id: str, tag: str, ext: str, found: FileIdentity) -> bool:
        """Return whether a file in place is one of the image's own, by its stamp or its hash.

        A studies folder that was copied, or came back from a backup, has other times of change.
        The file then gets the time that the store knows, so that this is asked once.
        """
        if self._index.is_own(image_id, ext, found.stamp):
            return True
        sizes = {one.stamp.size for one in self._index.label_versions(image_id) if one.ext == ext}
        if found.size not in sizes:
            return False
        path = self.path(image_id, tag, ext)
        try:
            own = self._index.find_label(image_id, sha256_of(path))
        except OSError:
            return False
        if own is None:
            return False
        self.give_time(path, own)
        now = FileIdentity.of(path)
        return now is not None and self._index.is_own(image_id, ext, now.stamp)

    def give_time(self, path: Path, version: LabelVersion) -> None:
        """Give a file that has a version's hash the time of change that the store knows of it.

        Where it cannot be given, or the file system keeps coarser times, the store takes the
        file's own.
        """
        with contextlib.suppress(OSError):
            os.utime(path, ns=(version.stamp.mtime_ns, version.stamp.mtime_ns))
        found = FileIdentity.of(path)
        if found is not None and found.stamp != version.stamp:
            self._index.set_stamp(version, found.stamp)

    def copy_of(
        self, image_id: str, tag: str, path: Path, ext: str, info: Mapping[str, Any]
    ) -> NewLabel:
        """Keep a copy of a file under its hash, with its time of change; arguments as in `keep`."""
        with self.incoming(tag, ext) as temporary:
            shutil.copy2(path, temporary)  # what a link leads to, with its times
            return self._keep(
                image_id, tag, temporary, ext, info, time.time(), sha256_of(temporary)
            )

    def adopt_foreign_file(self, image_id: str, tag: str) -> None:
        """Enter a current file, which was put in place by other means, as it is.

        Hold the image's lock.
        """
        for ext in self.on_disk(image_id, tag)[:1]:
            path = self.path(image_id, tag, ext)
            kept = self.copy_of(image_id, tag, path, ext, self._noted(image_id, tag, ext))
            self._index.save_label(image_id, kept)

    def _noted(self, image_id: str, tag: str, ext: str) -> dict[str, Any]:
        known, found = (
            self._index.label(image_id, tag),
            FileIdentity.of(self.path(image_id, tag, ext)),
        )
        if known is None or found is None or (known.ext, known.stamp) != (ext, found.stamp):
            return {}
        return dict(json.loads(known.info))

    # --- current files ------------------------------------------------------------------

    def save(self, label_id: str, tag: str, source: Path, ext: str, info: dict[str, Any]) -> None:
        """Copy `source` and make it the current label.

        Raises
        ------
        OSError
            `source` cannot be read, or the disk is full; the current label stays.
        """
        with self.incoming(tag, ext) as temporary:
            shutil.copyfile(source, temporary)
            sha256 = sha256_of(temporary)
            with self.lock(label_id):
                current = self._index.label(label_id, tag)
                version = self._index.label_version(label_id, tag)
                self.keep_foreign_files(label_id, tag)
                if current is not None and version is not None and version.sha256 == sha256:
                    known = {"ts": int(time.time()), **info, "checksum": f"SHA256:{sha256}"}
                    self._index.update_label(current, lambda _: known)
                else:
                    self._index.save_label(label_id, self.keep(label_id, tag, temporary, ext, info))
                self.put_in_place(label_id, tag)

    def put_in_place(self, label_id: str, tag: str) -> None:
        """Make the file in place what the store says is current; hold the image's lock.

        A file that was put there by other means is kept before it is replaced; where nothing is
        current it stays. Where nothing is to be done nothing is.
        """
        label = self._index.label(label_id, tag)
        if label is None or (label.version is None and label.ext is not None):
            return
        if self.is_alone_in_place(label):
            return
        if label.ext is not None:
            self.keep_foreign_files(label_id, tag)
        version = self._index.label_version(label_id, tag)
        if version is not None and not self.is_in_place(label):
            try:
                self.copy_in_place(version, tag)
            except DamagedLabelError as error:
                logger.error("%s: %s", label_id, error)
                return
        for ext in self.on_disk(label_id, tag):
            path = self.path(label_id, tag, ext)
            found = FileIdentity.of(path)
            if ext != label.ext and found and self._is_own(label_id, tag, ext, found):
                path.unlink(missing_ok=True)

    def is_alone_in_place(self, label: CurrentLabel) -> bool:
        """Return whether what is in place is what the store says, and nothing else."""
        there = [] if label.ext is None else [label.ext]
        if self.on_disk(label.image, label.tag) != there:
            return False
        return label.ext is None or self.is_in_place(label)

    def is_in_place(self, label: CurrentLabel) -> bool:
        """Return whether the file in place is the one that the store says is current."""
        if label.ext is None:
            return False
        found = FileIdentity.of(self.path(label.image, label.tag, label.ext))
        return found is not None and found.stamp == label.stamp

    def copy_in_place(self, version: LabelVersion, tag: str) -> None:
        """Make the file in place a copy of a kept file; hold the image's lock.

        Raises
        ------
        DamagedLabelError
            The kept file is not there any more, or is not what was kept; what is in place stays.
        """
        self._copy(self.file(version), version, self.path(version.image, tag, version.ext), tag)

    def _copy(self, kept: Path, of: LabelVersion | NewLabel, target: Path, tag: str) -> None:
        self.writable(tag)
        with self.incoming(tag) as temporary:
            try:
                shutil.copyfile(kept, temporary)
            except FileNotFoundError:
                raise DamagedLabelError(kept, "is not there any more") from None
            if sha256_of(temporary) != of.sha256:
                raise DamagedLabelError(kept, "is not what was kept: its hash is another")
            # The store's own time: that of a kept file which was copied may be another.
            os.utime(temporary, ns=(of.stamp.mtime_ns, of.stamp.mtime_ns))
            publish(temporary, target, sync=self.wait_for_disk and tag not in _DERIVED)

    def replace_link_by_copy(self, label_id: str, label: NewLabel | LabelVersion, tag: str) -> None:
        """Put a copy in place where a link leads to the kept file itself; hold the image's lock.

        Releases before linked them.
        """
        kept, target = self.file(label), self.path(label_id, tag, label.ext)
        if target.exists() and kept.exists() and target.samefile(kept):
            self._copy(kept, label, target, tag)

    def remove(self, label_id: str, tag: str) -> bool:
        """Have no label current for `tag`; its file is kept. Return whether there was one.

        Hold the image's lock.
        """
        there = bool(self.on_disk(label_id, tag))
        if there:
            self.writable(tag)
        self.keep_foreign_files(label_id, tag)
        self._index.remove_label(label_id, tag)
        self.put_in_place(label_id, tag)
        return there

    def move_out(self, label_id: str, tag: str, ext: str, target: Path) -> None:
        """Move a current label to `target`, outside of all tags, as it is.

        Hold the image's lock.
        """
        path = self.path(label_id, tag, ext)
        self._index.remove_label(label_id, tag)
        os.replace(path, target)
        sync_folder(target.parent)
        sync_folder(path.parent)

    def remove_all(self, label_id: str) -> None:
        """Have no label of an image current; hold the image's lock."""
        for tag in scan_tags(self.folder):
            if self.on_disk(label_id, tag):
                self.remove(label_id, tag)

    def clear_left_overs(self) -> None:
        """Clear away files that were never kept, of processes that were killed."""
        for path in (self.folder / _INCOMING).glob("*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _LEFT_OVER_S:
                    path.unlink()
