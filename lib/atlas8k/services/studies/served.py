"""What clients get of an image: its file, or a copy that every program reads alike.

Most files are given out as they are. One that programs read in different ways (two
geometries, a sheared form, other units than mm, a stated orientation, a name that does not
say how it is packed) is given out as a copy with one geometry, made when it is first asked
for, beside the ledger. The study's own file is never touched, and it is what is predicted and
learned from. Copies can be made again with the same bytes, so that the oldest go when they
take too much of the disk.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from atlas8k.core.errors import GeometryError, VolumeError
from atlas8k.core.nifti_file import is_packed
from atlas8k.core.nifti_geometry import Geometry
from atlas8k.core.remarks import Remark
from atlas8k.core.rewriting import rewrite
from atlas8k.core.stated_geometry import stated_for
from atlas8k.core.volume import read_geometry
from atlas8k.services.studies.scan import ImageFile
from atlas8k.store import FileIdentity

logger = logging.getLogger(__name__)

SUFFIX = ".nii.gz"
IN_USE_S = 3600.0
"""A copy that was asked for so recently is not removed: somebody may be reading it."""


class _Known(NamedTuple):
    """What was made of a file's header."""

    print: FileIdentity
    stated: str
    geometry: Geometry | None
    plain: bool


def named_as_packed(path: Path) -> bool:
    """Whether a file's name says how it is packed, in the letters that all programs know."""
    try:
        return path.name.endswith(SUFFIX if is_packed(path) else ".nii")
    except OSError:
        return True


def geometry_stamp(path: Path) -> str:
    """Return what changes with what is stated about a file, and with the rules of this release."""
    try:
        return f"1 {stated_for(path) or ''}"
    except GeometryError as err:
        return f"1 {err.reason}"


def file_fingerprint(path: Path, read: Callable[[Path], Mapping[str, str]] | None = None) -> str:
    """Return something that changes with a file's content and with what is stated about it.

    `read`: see :func:`~atlas8k.core.stated_geometry.stated_for`.
    """
    stat = path.stat()
    try:
        stated = stated_for(path, read)
    except GeometryError:
        stated = None
    return f"{stat.st_size}-{stat.st_mtime_ns}" + (f"-{stated}" if stated else "")


def geometry_remarks(path: Path) -> tuple[Remark, ...]:
    """Find what is odd about how a file says where its voxels lie, and about its name.

    Raises
    ------
    VolumeError
        It cannot be used.
    """
    remarks = read_geometry(path).remarks
    if named_as_packed(path):
        return remarks
    what = "packed (gzip)" if is_packed(path) else "not packed"
    text = f"its name does not say that it is {what}, or says so in capitals; served as {SUFFIX}"
    return (*remarks, Remark("packing", text, "note"))


class ServedFiles:
    """The files that clients get.

    Parameters
    ----------
    root
        The studies folder, links resolved.
    folder
        Where copies go, on a local disk; made when it is needed.
    limit_gb
        Copies may take this; those in use stay.
    """

    def __init__(self, root: Path, folder: Path, limit_gb: float) -> None:
        self._root, self._folder, self._limit = root, folder, int(limit_gb * 1e9)
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def of(self, image_id: str, file: ImageFile) -> ImageFile:
        """Return the file to give out; the path of a copy is absolute.

        Raises
        ------
        GeometryError
            The file does not say where its voxels lie, and nobody has stated it: every
            program would guess.
        UnreadableVolumeError
            No copy can be made, since the file is damaged.
        """
        path = self._root / file.path
        known = self._look(image_id, path)
        if known is None or known.plain or known.geometry is None:
            return file
        key = hashlib.sha256(repr((file.path, *known.print, known.stated)).encode()).hexdigest()
        copy = self._folder / key[:24] / (image_id + SUFFIX)
        with self._lock:
            if copy.is_file():
                os.utime(copy)
            else:
                copy.parent.mkdir(parents=True, exist_ok=True)
                rewrite(path, copy, known.geometry.grid.served)
                self._make_room(copy)
        return ImageFile(str(copy), SUFFIX)

    def _look(self, image_id: str, path: Path) -> _Known | None:
        identity = FileIdentity.of(path)
        if identity is None:
            return None
        stated = geometry_stamp(path)
        known = self._known.get(image_id)
        if known is None or (known.print, known.stated) != (identity, stated):
            geometry, plain = None, True
            try:
                geometry = read_geometry(path)
                plain = geometry.plain and named_as_packed(path)
            except GeometryError:
                raise
            except VolumeError:
                pass  # given out as it is: whoever reads it has the better reason
            known = self._known[image_id] = _Known(identity, stated, geometry, plain)
        return known

    def _make_room(self, newest: Path) -> None:
        """Remove the copies that were asked for longest ago, and those of files that changed."""
        found = []
        for copy in self._folder.glob(f"*/*{SUFFIX}"):
            try:
                stat = copy.stat()
            except OSError:
                continue
            older = copy.name == newest.name and copy != newest
            found.append((not older, stat.st_mtime, stat.st_size, copy, older))
        taken, now = sum(size for _, _, size, _, _ in found), time.time()
        for _, used, size, copy, older in sorted(found):
            idle = used + IN_USE_S < now
            if copy == newest or not idle or not (older or taken > self._limit):
                continue
            shutil.rmtree(copy.parent, ignore_errors=True)
            taken -= size
            logger.info("%s: copy removed, it is made again when asked for", copy.name)
