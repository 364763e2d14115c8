"""One studies folder's label files kept in step with its ledger, one volume at a time."""

from __future__ import annotations

import contextlib
import logging
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from atlas8k.errors import Atlas8kError
from atlas8k.labels.public import UNKNOWN_TAG
from atlas8k.ledger import Ledger, OrganSource, is_url, locate
from atlas8k.server.desk.adopting import Adopting
from atlas8k.server.desk.assembling import PSEUDO, PUBLIC, Assembly
from atlas8k.server.desk.existing import ADOPTED, ExistingLabels
from atlas8k.server.errors import NotFoundError
from atlas8k.server.studies.catalogue import FINAL
from atlas8k.server.studies.disk import locked
from atlas8k.server.studies.folder import ORIGINAL, StudiesFolder
from atlas8k.server.studies.versions import Version, Versions

logger = logging.getLogger(__name__)

MANAGED = (FINAL, ORIGINAL, PSEUDO, PUBLIC, UNKNOWN_TAG)
"""Tags of labels that only the desk writes."""


class Settling:
    """Locks, and files as the ledger says; see :class:`~atlas8k.server.desk.desk.Desk`.

    Parameters
    ----------
    folder
        The studies folder.
    ledger
        Its ledger.
    review_percent, double_read_percent
        Share of the submissions that a reviewer looks at, of the volumes that two people
        read; chosen by a hash, so that it is the same wherever it is asked.
    """

    def __init__(
        self,
        folder: StudiesFolder,
        ledger: Ledger,
        *,
        review_percent: float = 0.0,
        double_read_percent: float = 0.0,
    ) -> None:
        self.folder, self.ledger = folder, ledger
        self.review_percent, self.double_read_percent = review_percent, double_read_percent
        self.versions = Versions(folder)
        self._assembly = Assembly(folder, ledger, self.versions)
        self._submitting = Adopting(ledger, self.versions, self._assembly)
        self._locks = folder.state.path.parent / "locks"
        self.existing = ExistingLabels(
            folder, ledger, self.versions, self._submitting, self.alone, self._settle
        )

    @classmethod
    def open(cls, studies: str | Path, ledger: Path | None = None) -> Self:
        """Open a studies folder, or what is known of an archive, for a command: unwatched.

        Parameters
        ----------
        studies
            Folder of CTs, or the URL of a DICOMweb server that a server has been started on.
            That is asked for nothing but the CTs that are needed.
        ledger
            Its ledger; where the server has it by default.

        Raises
        ------
        StudiesFolderError, LedgerFileError
            Folder or ledger cannot be used.
        """
        path = ledger or locate(str(studies))
        if is_url(str(studies)):
            from atlas8k.server.archive.client import Archive
            from atlas8k.server.archive.folder import WORKING, ArchiveFolder

            archive = Archive(str(studies).strip())
            series = ArchiveFolder(
                path.parent / WORKING, archive, state_dir=path.parent, watch=False
            )
            series.look()
            return cls(series, Ledger(path))
        folder = StudiesFolder(studies, state_dir=path.parent, watch=False)
        folder.refresh()
        return cls(folder, Ledger(path))

    def close(self) -> None:
        """Close files; any further use opens them again."""
        self.folder.close()
        self.ledger.close()

    @contextlib.contextmanager
    def alone(self, volume: str) -> Iterator[None]:
        """Alone with one volume's labels, between threads and processes."""
        stripe = zlib.crc32(volume.encode()) % 64
        with locked(self._locks / f"booking-{stripe:02d}"):
            yield

    # --- files as the ledger says -------------------------------------------------------

    def reassemble(self, volume: str) -> dict[str, OrganSource]:
        """Put the assembled label in force as the start label; where each organ comes from."""
        with self.alone(volume):
            self._settle(volume, anew=True)
        return self.ledger.sources(volume)

    def settle(self, volume: str) -> None:
        """Finish what a killed process began with a volume; next to nothing where nothing."""
        if self.ledger.unsettled(volume) or self.ledger.reserved(volume):
            with self.alone(volume):
                self._settle(volume)

    def _settle(
        self,
        volume: str,
        *,
        anew: bool = False,
        drawn: tuple[int, npt.NDArray[np.uint8]] | None = None,
    ) -> None:
        """Adopt what is not booked, then both labels; `drawn`: a submission's array, at hand."""
        self._submitting.adopt(volume)
        seen = self.ledger.unsettled(volume).get(volume)
        if seen is None and not anew:
            return
        current = self.ledger.in_force(volume)
        if current is not None:
            if not self.ledger.changes(current.id) and current.holder == ADOPTED.key:
                self._submitting.describe(volume, current)
                seen = self.ledger.unsettled(volume).get(volume)
            self._assembly.put_final(volume, current)
            self.folder.now().let_in(volume)
        array = drawn[1] if drawn and current and drawn[0] == current.id else None
        self._assembly.put_original(volume, current, array)
        if seen is not None:
            self.ledger.settled(volume, seen)

    def recover(self) -> None:
        """Finish what killed processes began, volume by volume; for the start of a server."""
        todo = {one.volume for one in self.ledger.reserved()} | set(self.ledger.unsettled())
        for volume in sorted(todo):
            try:
                self.settle(volume)
            except NotFoundError:
                continue  # its image is gone; its labels stay as they are
            except (Atlas8kError, OSError) as error:
                logger.error("%s: its labels cannot be brought up to date: %s", volume, error)

    def take_up_later(self) -> threading.Thread:
        """:meth:`recover` and :meth:`adopt_folder` beside the requests.

        After an upgrade, or over a folder with labels, they have every label to do. What is
        yet to be checked counts nowhere when this returns.
        """
        self.existing.hold_back()
        thread = threading.Thread(target=self._take_up, name="labels", daemon=True)
        thread.start()
        return thread

    def _take_up(self) -> None:
        self.recover()
        self.existing.import_held_back()

    def adopt_folder(self) -> int:
        """Import labels in ``labels/final`` that the ledger does not know; how many.

        They come from an earlier use of the folder. Those that fail the checks are set
        aside, see :class:`~atlas8k.server.desk.existing.ExistingLabels`.
        """
        for volume in {one.volume for one in self.ledger.reserved()}:
            with self.alone(volume):
                self._submitting.adopt(volume)
        return self.existing.import_all()

    def blind_start(self, volume: str) -> Version | None:
        """The start label to show instead of the one in force, while somebody reads blind."""
        if not self.ledger.read_blind(volume):
            return None
        return self._submitting.first_start(volume)
