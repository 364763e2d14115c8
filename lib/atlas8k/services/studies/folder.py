"""A studies folder as one thing: files, store, catalogue and watcher together."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.remarks import Remark
from atlas8k.core.stated_geometry import read_statements
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.services.errors import NotFoundError
from atlas8k.services.studies.catalogue import FINAL, Catalogue
from atlas8k.services.studies.errors import StudiesFolderError
from atlas8k.services.studies.images import ImageFiles
from atlas8k.services.studies.import_state import import_state
from atlas8k.services.studies.inspection import Inspections, Inspector
from atlas8k.services.studies.labels import LabelFiles
from atlas8k.services.studies.names import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    check_id,
    require_suffix,
    suffixes_of,
)
from atlas8k.services.studies.opening import open_ledger
from atlas8k.services.studies.plain import merged
from atlas8k.services.studies.scan import ImageFile
from atlas8k.services.studies.served import ServedFiles, file_fingerprint
from atlas8k.services.studies.watch import Sync, Watcher
from atlas8k.store import CurrentLabel, FileIdentity, FolderIndex, Ledger, locate

logger = logging.getLogger(__name__)

ORIGINAL = "original"
SERVED_FOLDER = "served"
"""Beside the store."""
_CHUNK, _LOOKS_AT_ONCE = 64, 16


class StudiesFolder:
    """CT volumes and their labels, safe between threads and processes.

    Volumes that appear in the folder or vanish from it do so here a few seconds later, and
    at once where they are asked for by id. Labels of an image that is gone stay on disk.

    Parameters
    ----------
    path
        Existing folder; `labels` is made in it.
    extensions
        Image suffixes, in order of preference, also in MONAI Label's form ``"*.nii.gz"``.
    ledger
        The store; where it lies by default, if not given.
    watch
        Look around in the background; without it, only :meth:`refresh` and requests for
        single images look at the disk.
    shown
        See :class:`~atlas8k.services.studies.catalogue.Catalogue`.
    inspectors
        Look into every image, behind what is asked for; see :meth:`remarks`.
    served_gb
        See :class:`~atlas8k.services.studies.served.ServedFiles`.
    every_s, deep_every_s, settle_s
        See :class:`~atlas8k.services.studies.watch.Watcher` and
        :class:`~atlas8k.services.studies.watch.Sync`.

    Raises
    ------
    StudiesFolderError
        The folder is missing, or its labels lie behind a link that leads elsewhere.
    LedgerFileError
        The store cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        extensions: str | Iterable[str] = IMAGE_SUFFIXES,
        ledger: Ledger | None = None,
        watch: bool = True,
        every_s: float = 2.0,
        deep_every_s: float = 60.0,
        settle_s: float = 2.0,
        shown: Callable[[str], str] = str,
        inspectors: Sequence[Inspector] = (),
        served_gb: float = 20.0,
    ) -> None:
        if not Path(path).is_dir():
            raise StudiesFolderError(
                Path(path), "no such folder; give an existing one with --studies"
            )
        self.path = Path(path).resolve()
        self.suffixes = suffixes_of(extensions)
        self.ledger = ledger or open_ledger(self.path, locate(str(self.path)))
        place = self.ledger.path.parent
        self.index = FolderIndex(self.ledger)
        import_state(self.index, self.path)
        self.catalogue = Catalogue(int(time.time()), shown)
        self.labels = LabelFiles(self.path, self.index)
        self.images = ImageFiles(self.path, self.suffixes, self.index, self.labels)
        self.served = ServedFiles(self.path, place / SERVED_FOLDER, served_gb)
        self.inspections = Inspections(self.path, self.index, self.catalogue, inspectors)
        for tag in (FINAL, ORIGINAL):
            self.labels.writable(tag)
        self.labels.clear_left_overs()
        self._sync = self._new_sync(settle_s)
        self._sync.load()
        self._watching = (every_s, deep_every_s) if watch else None
        self._watcher: Watcher | None = None
        self._pid = -1
        logger.info("%s: %s", self.path, self.catalogue.status())

    def _new_sync(self, settle_s: float) -> Sync:
        return Sync(
            self.path,
            self.suffixes,
            self.index,
            self.labels,
            self.catalogue,
            settle_s,
            self.inspections,
        )

    def now(self) -> Catalogue:
        """Return the catalogue, with what any process has written through the API."""
        if self._pid != os.getpid():  # first use, or a fork, which no thread survives
            self._pid = os.getpid()
            if self._watching:
                self._watcher = Watcher(self._sync, *self._watching)
                self._watcher.start()
        self._sync.catch_up()
        return self.catalogue

    def refresh(self) -> None:
        """Look through the whole folder now; whatever is there is listed."""
        self._sync.look(deep=True, settle=False, breathe=False)

    def close(self) -> None:
        """Stop looking around and close files; any further use opens them again."""
        if self._watcher is not None:
            self._watcher.stop()
        self.ledger.close()

    # --- images -----------------------------------------------------------------------

    def image(self, image_id: str) -> ImageFile | None:
        """Return an image that is there now; look for one that is not known yet.

        Raises
        ------
        BadNameError
            That cannot be an id.
        """
        image_id = check_id(image_id)
        file = self.now().images.get(image_id)
        if file is not None and (self.path / file.path).is_file():
            return file
        return self._sync.look_at(image_id)

    def known_image(self, image_id: str) -> ImageFile:
        """As :meth:`image`.

        Raises
        ------
        NotFoundError
            There is none.
        """
        file = self.image(image_id)
        if file is None:
            raise NotFoundError("image", image_id)
        return file

    def image_path(self, image_id: str) -> Path:
        """Return the study's own file of an image, which is predicted and learned from.

        Raises
        ------
        NotFoundError
            There is none.
        """
        return self.path / self.known_image(image_id).path

    def size(self, image_id: str) -> int:
        """Return about how large an image is, bytes, without reading it; 0: it is not known."""
        file = self.now().images.get(image_id)
        try:
            return 0 if file is None else (self.path / file.path).stat().st_size
        except OSError:
            return 0

    def fingerprint(self, image_id: str) -> str | None:
        """Return something that changes with an image's content; ``None``: it is gone."""
        try:
            return file_fingerprint(self.image_path(image_id))
        except (OSError, NotFoundError):
            return None

    def fingerprints(self, image_ids: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield :meth:`fingerprint` of many images; those that are gone are left out.

        Several are looked at at once: on a network file system each look takes a while, and
        100,000 of them, one after the other, minutes.
        """
        images, read = self.now().images, cache(read_statements)

        def of(image_id: str) -> tuple[str, str | None]:
            try:
                return image_id, file_fingerprint(self.path / images[image_id].path, read)
            except (OSError, KeyError):  # gone from there, maybe to another place
                return image_id, self.fingerprint(image_id)

        def some(chunk: Sequence[str]) -> list[tuple[str, str | None]]:
            return [of(image_id) for image_id in chunk]

        wanted = list(image_ids)
        chunks = [wanted[at : at + _CHUNK] for at in range(0, len(wanted), _CHUNK)]
        with ThreadPoolExecutor(_LOOKS_AT_ONCE, "fingerprints") as pool:
            # A few at a time, since Python ends only when all that waits was done.
            for at in range(0, len(chunks), _LOOKS_AT_ONCE):
                group = pool.map(some, chunks[at : at + _LOOKS_AT_ONCE])
                for image_id, found in chain.from_iterable(group):
                    if found is not None:
                        yield image_id, found

    def changes(self) -> int:
        """Return a number that grows when an image appears, vanishes or is found changed."""
        return self.catalogue.changes + self.inspections.changes

    def identities(self) -> dict[str, FileIdentity | None]:
        """Return each image's file as the look around has last seen it; no file is touched.

        None: it was not looked into. Without inspectors, all are.
        """
        return {one: self.inspections.identity(one) for one in self.now().ids()}

    def checksum(self, image_id: str) -> str:
        """Return ``SHA256:<hex>`` of what clients get of an image; kept until it changes.

        Whoever has just read the file may call this, so that nobody waits for it later.
        """
        return self.images.checksum(image_id, self.served_image(image_id))

    def served_image(self, image_id: str) -> ImageFile:
        """Return what clients get of an image; see :meth:`ServedFiles.of`.

        Raises
        ------
        NotFoundError, GeometryError, UnreadableVolumeError
            There is none; it does not say where its voxels lie; it is damaged.
        """
        return self.served.of(image_id, self.known_image(image_id))

    def patients(self) -> dict[str, str]:
        """Return what stands for whose an image is, by id, where that is known: in an archive."""
        return {}

    def image_info(self, image_id: str) -> dict[str, Any]:
        """Return what is known about an image, as MONAI Label gives it.

        With ``name``, ``path`` and ``checksum`` of what clients get of it, and with ``remarks``
        where there are any.
        """
        file = self.served_image(image_id)
        path = self.path / file.path
        remarks = self.catalogue.remarks(image_id)
        checksum = self.images.checksum(image_id, file)
        written = 0
        with contextlib.suppress(OSError):
            written = int(path.stat().st_mtime)
        return {
            "ts": written,
            **self.catalogue.image_info(image_id),
            "name": image_id + file.ext,
            "path": str(path),
            "checksum": checksum,
            **({"remarks": [remark.text for remark in remarks]} if remarks else {}),
        }

    def remarks(self, image_id: str) -> tuple[Remark, ...]:
        """Return what was found in an image; look into one that was not looked into yet.

        Raises
        ------
        BadNameError, NotFoundError
            That cannot be an id; there is no such image.
        """
        self.inspections.inspect(image_id, self.known_image(image_id))
        return self.catalogue.remarks(image_id)

    def ask(self, inspector: Inspector, image_id: str) -> tuple[Remark, ...]:
        """Have an inspector look into an image now; return all that is known of the image.

        For what costs too much to be done to every image behind what is asked for.

        Raises
        ------
        BadNameError, NotFoundError
            That cannot be an id; there is no such image.
        """
        self.inspections.ask(inspector, image_id, self.known_image(image_id))
        return self.catalogue.remarks(image_id)

    def add_image(self, image_id: str | None, source: Path, info: Mapping[str, Any] | None) -> str:
        """Take in an image; see :meth:`~atlas8k.services.studies.images.ImageFiles.add`."""
        taken = self.images.add(image_id, source, info)
        self.now()
        self._sync.look_at(taken, settled=True)
        return taken

    def remove_image(self, image_id: str) -> None:
        """Delete an image; its labels stay."""
        self.images.remove(image_id, self.known_image(image_id))
        self.now()

    # --- labels -----------------------------------------------------------------------

    def label(self, label_id: str, tag: str) -> CurrentLabel | None:
        """Return the current label and what is known about *that file*; `tag` has been checked.

        What the store says is current is put in place first where it is not: a process was
        killed just then, or somebody deleted the file.
        """
        if self.image(label_id) is None:
            return None
        label = self.index.label(label_id, tag)
        if label is not None and label.ext and self.labels.is_alone_in_place(label):
            return label
        for ext, found in self.labels.foreign_files(label_id, tag):
            # Put there by other means: what is written down is about another file.
            return CurrentLabel(label_id, tag, None, ext, found.stamp, "{}")
        with self.labels.lock(label_id):
            self.labels.put_in_place(label_id, tag)
        label = self.index.label(label_id, tag)
        return label if label is not None and label.version is not None else None

    def known_label(self, label_id: str, tag: str) -> CurrentLabel:
        """As :meth:`label`.

        Raises
        ------
        NotFoundError
            There is none.
        """
        row = self.label(label_id, tag)
        if row is None:
            raise NotFoundError(f"label with tag {tag!r} of image", label_id)
        return row

    def save_label(
        self, image_id: str, tag: str, source: Path, info: Mapping[str, Any] | None
    ) -> None:
        """Make a copy of a label file current; the one it replaces goes to the history."""
        self.known_image(image_id)
        _, ext = require_suffix("label file", source.name, LABEL_SUFFIXES)
        self.labels.save(image_id, tag, source, ext, merged({}, info))
        self.now()

    def store_label(
        self,
        image_id: str,
        tag: str,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        info: Mapping[str, Any] | None,
    ) -> None:
        """Make a label map current; the one it replaces goes to the history.

        Parameters
        ----------
        array
            ``(X, Y, Z)`` uint8, organ ids 0 to 9, on the image's own grid `grid`.
        info
            JSON-able; kept beside the label and sent to clients.
        """
        self.known_image(image_id)
        with tempfile.TemporaryDirectory(prefix="atlas8k-label-") as folder:
            path = write_nifti(Path(folder) / "label.nii.gz", array, grid)
            self.save_label(image_id, tag, path, info)

    def remove_label(self, label_id: str, tag: str) -> None:
        """Take a label out of force; it goes to the history."""
        self.known_label(label_id, tag)
        with self.labels.lock(label_id):
            self.labels.remove(label_id, tag)
        self.now()

    def update_label_info(self, label_id: str, tag: str, info: Mapping[str, Any]) -> None:
        """Merge into what is known about a label; nobody's keys are lost."""
        label = self.known_label(check_id(label_id), tag)
        self.index.update_label(label, lambda known: merged(known, info))
        self.now()

    def update_image_info(self, image_id: str, info: Mapping[str, Any]) -> None:
        """Merge into what is known about an image; nobody's keys are lost."""
        self.index.update_image(image_id, lambda known: merged(known, info))
        self.now()
