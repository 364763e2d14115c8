"""Image files: taken in whole, never over another one, and their checksums."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.files import publish, sha256_of
from atlas8k.services.errors import ConflictError, NotFoundError
from atlas8k.services.studies.labels import LabelFiles
from atlas8k.services.studies.names import check_id, require_suffix
from atlas8k.services.studies.plain import merged
from atlas8k.services.studies.scan import SETTLED_NS, ImageFile, probe
from atlas8k.store import FileIdentity, FolderIndex

logger = logging.getLogger(__name__)

_TRIES = 3


class ImageFiles:
    """The images of a studies folder.

    Parameters
    ----------
    root
        The studies folder, links resolved.
    suffixes
        Image suffixes, in order of preference.
    """

    def __init__(
        self, root: Path, suffixes: tuple[str, ...], index: FolderIndex, labels: LabelFiles
    ) -> None:
        self.root, self.suffixes = root, suffixes
        self._index, self._labels = index, labels

    def checksum(self, image_id: str, file: ImageFile) -> str:
        """``SHA256:<hex>`` of an image's file.

        Kept under the file's size, time and inode. A file that changed a moment ago is
        not kept: within one tick of the clock it may change again unnoticed.

        Raises
        ------
        NotFoundError, UnreadableVolumeError, ConflictError
            It is gone; cannot be read; is being written.
        """
        path = self.root / file.path
        for _ in range(_TRIES):
            before = FileIdentity.of(path)
            if before is None:
                raise NotFoundError("image", image_id)
            known = self._index.checksum(file.path, before)
            if known is None:
                known = _sha256(path)
                if FileIdentity.of(path) != before:
                    continue
                if before.mtime_ns + SETTLED_NS < time.time_ns():
                    self._index.keep_checksum(file.path, before, known)
            return f"SHA256:{known}"
        raise ConflictError(f"image {image_id!r} is being written; try again in a moment")

    def add(self, image_id: str | None, source: Path, info: Mapping[str, Any] | None) -> str:
        """Copy an image into the folder under its id.

        Raises
        ------
        BadNameError
            Id or suffix is not allowed.
        ConflictError
            There is another image of that id.
        """
        stem, ext = require_suffix("image file", source.name, self.suffixes)
        image_id = check_id(image_id or stem)
        handle, name = tempfile.mkstemp(prefix=".incoming-", dir=self.root)
        temporary = Path(name)
        try:
            digest = hashlib.sha256()
            with open(source, "rb") as reader, os.fdopen(handle, "wb") as writer:
                while block := reader.read(1 << 20):
                    digest.update(block)
                    writer.write(block)
                writer.flush()
                os.fsync(writer.fileno())
            sha256 = digest.hexdigest()
            with self._labels.lock(image_id):
                there = probe(self.root, image_id, self.suffixes)
                if there is not None:
                    self._same(image_id, there, sha256)
                    self._index.update_image(image_id, lambda known: merged(known, info))
                    return image_id
                row = self._index.image(image_id)
                other = row is not None and row.removed not in (None, sha256)
                if other:
                    self._labels.remove_all(image_id)
                target = self.root / (image_id + ext.lower())
                identity = FileIdentity.of(temporary)
                _publish_new(temporary, target, image_id)
                known = {"ts": int(time.time()), **(info or {})}
                self._index.update_image(
                    image_id, lambda before: merged(before, known), fresh=other, added=sha256
                )
                if identity is not None:
                    self._index.keep_checksum(target.name, identity, sha256)
        finally:
            temporary.unlink(missing_ok=True)
        return image_id

    def _same(self, image_id: str, there: ImageFile, sha256: str) -> None:
        if self.checksum(image_id, there) != f"SHA256:{sha256}":
            raise ConflictError(f"image {image_id!r} exists with other content; use a new id")

    def remove(self, image_id: str, file: ImageFile) -> None:
        """Delete an image's file; of a link, the link. The mark says which image it was.

        Raises
        ------
        ConflictError
            It lies outside the studies folder: a folder on the way there is a link.
        """
        where = (self.root / file.path).parent.resolve()
        if not where.is_relative_to(self.root):
            raise ConflictError(
                f"image {image_id!r} lies in {where}, outside the studies folder, by a link: it is "
                "not deleted from here; take the link out of the studies folder"
            )
        with self._labels.lock(image_id):
            sha256 = "unknown"
            with contextlib.suppress(UnreadableVolumeError, ConflictError):
                sha256 = self.checksum(image_id, file).removeprefix("SHA256:")
            (self.root / file.path).unlink(missing_ok=True)
            self._index.update_image(image_id, dict, removed=sha256)


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UnreadableVolumeError(path, f"cannot be read ({error})") from error


def _publish_new(temporary: Path, target: Path, image_id: str) -> None:
    """As :func:`~atlas8k.core.volume.publish`, but never over a file that is there."""
    try:
        os.link(temporary, target)  # also claims the name against a copy from outside
    except FileExistsError as error:
        raise ConflictError(f"a file of image {image_id!r} is there already") from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        if os.path.lexists(target):
            raise ConflictError(f"a file of image {image_id!r} is there already") from error
    # Renaming onto a link to itself does nothing: the name stays, the other is unlinked.
    publish(temporary, target)
