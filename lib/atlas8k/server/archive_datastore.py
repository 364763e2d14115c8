"""MONAI Label's datastore interface over an archive's series."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from atlas8k.core.errors import SettingsError
from atlas8k.server.datastore import StudiesDatastore
from atlas8k.services.archive.client import Archive
from atlas8k.services.archive.folder import ArchiveFolder
from atlas8k.services.archive.keeper import Keeper
from atlas8k.services.archive.outbox import Outbox
from atlas8k.services.errors import RequestError, UpstreamError
from atlas8k.services.studies.folder import StudiesFolder

logger = logging.getLogger(__name__)

SHOWN = 20
BRIEF_S = 2.0
_NO_IMAGES = "images come from the DICOM archive; "


class ArchiveDatastore(StudiesDatastore):
    """As :class:`StudiesDatastore`; images are series of an archive, fetched when needed.

    Parameters
    ----------
    archive
        The archive.
    folder
        The working folder.
    poll_s
        Between two looks at the archive's list.
    show_personal
        Say of an image whose it is and when it was taken, as MONAI Label does.
    options
        Keywords of :class:`StudiesDatastore` and
        :class:`~atlas8k.services.archive.folder.ArchiveFolder`.
    """

    studies: ArchiveFolder

    def __init__(
        self,
        archive: Archive,
        folder: Path,
        *,
        poll_s: float = 5.0,
        show_personal: bool = False,
        **options: Any,
    ) -> None:
        self.archive, self._show_personal = archive, show_personal
        super().__init__(folder, series_settle_s=min(3.0, 2 * poll_s), **options)
        self.outbox = Outbox(self.studies)
        self._brief: tuple[float, dict[str, Any]] = (-BRIEF_S, {})
        self._keeper = Keeper(self.studies, self.outbox, poll_s)

    def _open(self, path: Path, **options: Any) -> StudiesFolder:
        return ArchiveFolder(path, self.archive, **options)

    def begin(self) -> None:
        """Ask the archive what it has, for the start.

        Raises
        ------
        SettingsError
            It does not answer, and has never done so: the URL may be wrong.
        """
        self.studies.refresh()
        self.studies.cache.sweep()
        error = self.studies.register.said("error")
        if error and not self.studies.register.said("answered_at"):
            raise SettingsError(f"--studies {self.archive.url}: {error}")

    def keep_up(self) -> None:
        """Look at the archive in the background from now on; for the server alone."""
        if not self._keeper.is_alive():
            self._keeper.start()

    def wake(self) -> None:
        """Send what is to be sent soon."""
        self._keeper.wake()

    def close(self) -> None:
        self._keeper.stop()
        super().close()

    def name(self) -> str:
        return self.studies.state.meta("name") or self.archive.url

    def description(self) -> str:
        return self.studies.state.meta("description") or "CT series of a DICOM archive"

    # --- images -----------------------------------------------------------------------

    def answers(self) -> None:
        """Raise :class:`UpstreamError` where the archive does not answer."""
        self.archive.answers()

    def fingerprint(self, image_id: str) -> str | None:
        """As the archive lists it; nothing is fetched."""
        row = self.studies.register.one(image_id)
        return row.fingerprint if row is not None and row.state == "volume" else None

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        info = super().get_image_info(image_id)
        if not self._show_personal:
            return info
        try:
            return {**info, **self.archive.personal(image_id)}
        except UpstreamError:
            return info

    def add_image(
        self, image_id: str | None, image_filename: str, image_info: dict[str, Any] | None
    ) -> str:
        raise RequestError(_NO_IMAGES + "send the series there")

    def remove_image(self, image_id: str) -> None:
        raise RequestError(_NO_IMAGES + "delete the series there")

    # --- all of them ------------------------------------------------------------------

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        self._fetch_finished(None)
        return super().datalist(full_path)

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        self._fetch_finished(limit_cases)
        return super().get_dataset_archive(limit_cases)

    def _fetch_finished(self, limit: int | None) -> None:
        for volume in self.get_labeled_images()[: limit or None]:
            self.studies.known_image(volume)

    def keep(
        self, *, held: Callable[[], Collection[str]], learnt: Callable[[], Collection[str]]
    ) -> None:
        """Say which CTs stay here; see :class:`~atlas8k.services.archive.cache.CtCache`."""
        self.studies.cache.held, self.studies.cache.learnt = held, learnt

    def headers(self, image_id: str) -> list[Any]:
        """Headers of a series' instances, for a DICOM SEG object of it.

        Raises
        ------
        NotFoundError, NotAVolumeError, UpstreamError
            As :meth:`ArchiveFolder.known_image`.
        """
        row = self.studies.row(image_id)
        return self.archive.headers(row.study, row.uid)

    def patients(self) -> dict[str, str]:
        """What stands for whose they are, by series; nothing that names a patient."""
        register = self.studies.register
        firsts = register.patients()
        return {uid: firsts.get(row.study, row.study) for uid, row in register.series().items()}

    def brief_status(self) -> dict[str, Any]:
        """:meth:`archive_status`, of some seconds ago at the most: it is asked for often."""
        made, status = self._brief
        if time.monotonic() > made + BRIEF_S:
            status = self.archive_status()
            self._brief = (time.monotonic(), status)
        return status

    def archive_status(self, most: int | None = SHOWN) -> dict[str, Any]:
        """Where things stand with the archive.

        Parameters
        ----------
        most
            So many refused series are named, ``None``: all.
        """
        register = self.studies.register
        rows = register.series().values()
        refused = {row.uid: row.reason for row in rows if row.state == "refused"}
        error = str(register.said("error") or "")
        return {
            "url": self.archive.url,
            "answers": not error,
            **({"error": error} if error else {}),
            "answered_at": register.said("answered_at"),
            "series": len(rows),
            "volumes": sum(row.state == "volume" for row in rows),
            "to_be_inspected": sum(row.state == "waiting" for row in rows),
            "refused": len(refused),
            "refused_series": dict(sorted(refused.items())[:most]),
            "cached_gb": round(self.studies.cache.bytes() / 1e9, 3),
            "labels": self.outbox.status(),
        }
