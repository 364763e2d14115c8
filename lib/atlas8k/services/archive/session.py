"""An archive that is worked with: its working folder, its list, labels to be sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from atlas8k.core.errors import SettingsError
from atlas8k.services.archive.client import Archive
from atlas8k.services.archive.folder import ArchiveFolder
from atlas8k.services.archive.keeper import Keeper
from atlas8k.services.archive.outbox import Outbox

SHOWN = 20
BRIEF_S = 2.0


class ArchiveSession:
    """One archive and what is known of it here.

    Parameters
    ----------
    archive
        The archive.
    folder
        The working folder.
    poll_s
        Between two looks at the archive's list.
    options
        Keywords of :class:`~atlas8k.services.archive.folder.ArchiveFolder`.
    """

    def __init__(
        self, archive: Archive, folder: Path, *, poll_s: float = 5.0, **options: Any
    ) -> None:
        self.archive = archive
        settle_s = min(3.0, 2 * poll_s)
        self.folder = ArchiveFolder(folder, archive, series_settle_s=settle_s, **options)
        self.outbox = Outbox(self.folder)
        self._brief: tuple[float, dict[str, Any]] = (-BRIEF_S, {})
        self._keeper = Keeper(self.folder, self.outbox, poll_s)

    def begin(self) -> None:
        """Ask the archive what it has, for the start.

        Raises
        ------
        SettingsError
            It does not answer, and has never done so: the URL may be wrong.
        """
        self.folder.refresh()
        self.folder.cache.sweep()
        error = self.folder.series_index.error()
        if error and not self.folder.series_index.answered_at():
            raise SettingsError(f"--studies {self.archive.url}: {error}")

    def keep_up(self) -> None:
        """Look at the archive in the background from now on; for the server alone."""
        if not self._keeper.is_alive():
            self._keeper.start()

    def wake(self) -> None:
        """Send what is to be sent soon."""
        self._keeper.wake()

    def close(self) -> None:
        """Stop looking at the archive, and close the working folder."""
        self._keeper.stop()
        self.folder.close()

    def stay(
        self, *, held: Callable[[], Collection[str]], learnt: Callable[[], Collection[str]]
    ) -> None:
        """Say which CTs stay here; see :class:`~atlas8k.services.archive.cache.CtCache`."""
        self.folder.cache.held, self.folder.cache.learnt = held, learnt

    def headers(self, image_id: str) -> list[Any]:
        """Return headers of a series' instances, for a DICOM SEG object of it.

        Raises
        ------
        NotFoundError, NotAVolumeError, UpstreamError
            As :meth:`ArchiveFolder.known_image`.
        """
        row = self.folder.row(image_id)
        return self.archive.headers(row.study, row.uid)

    def study(self, image_id: str) -> str | None:
        """Return the StudyInstanceUID of a series; None where it is not listed."""
        row = self.folder.series_index.one(image_id)
        return None if row is None else row.study

    def volumes(self, study: str) -> list[str]:
        """Return the series of a study that are volumes of the campaign."""
        known = self.folder.ledger.is_known
        return [uid for uid in self.folder.series_index.of_study(study) if known(uid)]

    def written(self) -> set[str]:
        """Return the series of segmentations that were written to the archive from here."""
        return {one.series for one in self.folder.series_index.sent().values() if one.series}

    def patients(self) -> dict[str, str]:
        """Return what stands for whose they are, by series; nothing that names a patient."""
        return self.folder.patients()

    def brief_status(self) -> dict[str, Any]:
        """Return :meth:`status` of some seconds ago at the most: it is asked for often."""
        made, status = self._brief
        if time.monotonic() > made + BRIEF_S:
            status = self.status()
            self._brief = (time.monotonic(), status)
        return status

    def status(self, most: int | None = SHOWN) -> dict[str, Any]:
        """Return where things stand with the archive.

        Parameters
        ----------
        most
            So many refused series are named, ``None``: all.
        """
        index = self.folder.series_index
        rows = index.series().values()
        refused = {row.uid: row.reason for row in rows if row.state == "refused"}
        error = index.error()
        return {
            "url": self.archive.url,
            "answers": not error,
            **({"error": error} if error else {}),
            "answered_at": index.answered_at(),
            "series": len(rows),
            "volumes": sum(row.state == "volume" for row in rows),
            "to_be_inspected": sum(row.state == "waiting" for row in rows),
            "refused": len(refused),
            "refused_series": dict(sorted(refused.items())[:most]),
            "cached_gb": round(self.folder.cache.bytes() / 1e9, 3),
            "labels": self.outbox.status(),
        }
