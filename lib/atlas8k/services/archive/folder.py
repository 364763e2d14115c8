"""The working folder of an archive: a studies folder whose images are the archive's series."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from atlas8k.services.archive.cache import SUFFIX, CtCache
from atlas8k.services.archive.client import Archive, is_uid
from atlas8k.services.archive.listing import Lister
from atlas8k.services.archive.series import NotAVolumeError
from atlas8k.services.errors import NotFoundError, UpstreamError
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.names import check_id
from atlas8k.services.studies.scan import ImageFile
from atlas8k.services.studies.watch import Sync
from atlas8k.store import Ledger
from atlas8k.store.series_index import Series, SeriesIndex

logger = logging.getLogger(__name__)

WORKING = "studies"
"""Name of the working folder, beside the ledger."""
SLICE_BYTES = 1 << 19
"""Of an image of 512 x 512 voxels, before it is packed."""
REFRESH_S = 20.0
"""Looking around on request inspects series for so long; the rest follows in the background."""


class ArchiveSync(Sync):
    """Takes its images from the series index in place of the disk."""

    series_index: SeriesIndex
    cache: CtCache

    def _look_for_images(self, deep: bool, settle: bool, breathe: bool) -> None:
        seq = self.series_index.seq()
        if seq == getattr(self, "_series_seq", -1):
            return
        rows = self.series_index.series()
        listed = {uid: row for uid, row in rows.items() if row.state == "volume"}
        known: dict[str, Series] = getattr(self, "_listed", {})
        for uid, row in listed.items():
            if known.get(uid) != row:
                self._catalogue.set_image(uid, _file(uid))
        for uid in [uid for uid in list(self._catalogue.images) if uid not in listed]:
            self._catalogue.drop_image(uid)
        for uid in known.keys() - rows.keys():  # deleted in the archive: so here
            self.cache.forget(uid)
        self._listed, self._series_index_seq = listed, seq

    def look_at(self, image_id: str, *, settled: bool = False) -> ImageFile | None:
        row = self.series_index.one(image_id)
        if row is None or row.state != "volume":
            self._catalogue.drop_image(image_id)
            return None
        if image_id not in self._catalogue.images:
            self._catalogue.set_image(image_id, _file(image_id))
        return _file(image_id)


class ArchiveFolder(StudiesFolder):
    """Series of an archive and their labels; ids are SeriesInstanceUIDs.

    A series is an image when its headers say that it is a CT volume. Its file is fetched
    when somebody asks where it is, and may go again when nobody uses it.

    Parameters
    ----------
    path
        The working folder, made if missing; only its owner may read it.
    archive
        The archive.
    limit_gb, days
        See :class:`~atlas8k.services.archive.cache.CtCache`.
    series_settle_s
        See :class:`~atlas8k.services.archive.listing.Lister`.
    options
        Keywords of :class:`StudiesFolder`.
    """

    def __init__(
        self,
        path: Path,
        archive: Archive,
        *,
        ledger: Ledger,
        limit_gb: float = 50.0,
        days: float = 30.0,
        series_settle_s: float = 3.0,
        **options: Any,
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        self.archive = archive
        self.series_index = SeriesIndex(ledger)
        self.cache = CtCache(
            path.resolve(),
            archive,
            self.series_index,
            ledger.path.parent / "locks",
            limit_gb=limit_gb,
            days=days,
        )
        lock = ledger.path.parent / "archive.lock"
        self.lister = Lister(archive, self.series_index, lock, settle_s=series_settle_s)
        super().__init__(path, ledger=ledger, **options)

    def _new_sync(self, settle_s: float) -> Sync:
        sync = ArchiveSync(
            self.path,
            self.suffixes,
            self.index,
            self.labels,
            self.catalogue,
            settle_s,
            self.inspections,
        )
        sync.series_index, sync.cache = self.series_index, self.cache
        return sync

    def size(self, image_id: str) -> int:
        """By the number of images that the archive lists; nothing is fetched."""
        row = self.series_index.one(image_id)
        return 0 if row is None else row.instances * SLICE_BYTES

    def fingerprint(self, image_id: str) -> str | None:
        """As the archive lists it; nothing is fetched."""
        row = self.series_index.one(image_id)
        return row.fingerprint if row is not None and row.state == "volume" else None

    def fingerprints(self, image_ids: Iterable[str]) -> Iterator[tuple[str, str]]:
        """See :meth:`fingerprint`."""
        for image_id in image_ids:
            if (found := self.fingerprint(image_id)) is not None:
                yield image_id, found

    def refresh(self) -> None:
        """Ask the archive for its list now, and look at what is new for a while.

        An archive that does not answer is noted in the log; what was known stays.
        """
        try:
            if self.lister.in_charge():
                self.lister.poll()
                self.lister.inspect(REFRESH_S)
        except UpstreamError as err:
            logger.warning("%s", err)
        super().refresh()

    def look(self) -> None:
        """Take over what the series index says, without asking the archive."""
        super().refresh()

    def close(self) -> None:
        """Stop looking around and close files; any further use opens them again."""
        super().close()
        self.lister.close()

    # --- images -----------------------------------------------------------------------

    def image(self, image_id: str) -> ImageFile | None:
        """Return a series that is listed; its file need not be here.

        Raises
        ------
        BadNameError
            That cannot be an id.
        """
        image_id = check_id(image_id)
        return self.now().images.get(image_id) or self._sync.look_at(image_id)

    def known_image(self, image_id: str) -> ImageFile:
        """As :meth:`image`, and its file is here.

        Raises
        ------
        NotFoundError
            The archive has no such series.
        NotAVolumeError
            It has, but that is no CT volume.
        UpstreamError
            The archive does not answer.
        """
        self.cache.have(self.row(image_id))
        return _file(image_id)

    def row(self, image_id: str) -> Series:
        """Return what is known about a series; ask for one that is not listed yet.

        Raises
        ------
        NotFoundError, NotAVolumeError, UpstreamError
            As :meth:`known_image`.
        """
        row = self.series_index.one(check_id(image_id))
        if row is None or row.state == "waiting":
            row = self.lister.ask_for(image_id) if is_uid(image_id) else None
            if row is not None:
                self.look()
        if row is None:
            raise NotFoundError("image", image_id)
        if row.state == "refused":
            raise NotAVolumeError(f"series {image_id}", row.reason)
        return row

    def patients(self) -> dict[str, str]:
        """Return what stands for whose they are, by series; nothing that names a patient."""
        firsts = self.series_index.patients()
        rows = self.series_index.series()
        return {uid: firsts.get(row.study, row.study) for uid, row in rows.items()}

    def image_info(self, image_id: str) -> dict[str, Any]:
        """Return what is known about a series, with its UIDs as MONAI Label says them."""
        row = self.row(image_id)
        own = {
            "SeriesInstanceUID": row.uid,
            "StudyInstanceUID": row.study,
            "Modality": "CT",
        }
        return {**super().image_info(image_id), "ts": int(time.time()), **own}


def _file(uid: str) -> ImageFile:
    return ImageFile(f"{uid}{SUFFIX}", SUFFIX)
