"""Label files kept as the ledger says, one volume at a time, whoever was killed when."""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import Atlas8kError
from atlas8k.core.files import locked
from atlas8k.services.errors import NotFoundError
from atlas8k.services.labels.drafts import DraftLabels
from atlas8k.services.labels.submissions import IMPORTED_BY, Submissions
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import Ledger, OrganSource

logger = logging.getLogger(__name__)


class Reconciler:
    """Bring the label files of a studies folder to what its ledger says.

    Parameters
    ----------
    folder, ledger
        The studies folder and its ledger.
    drafts, submissions
        What writes label files, and what books them.
    """

    def __init__(
        self, folder: StudiesFolder, ledger: Ledger, drafts: DraftLabels, submissions: Submissions
    ) -> None:
        self._folder, self._ledger = folder, ledger
        self._drafts, self._submissions = drafts, submissions
        self._locks = folder.state.path.parent / "locks"

    @contextlib.contextmanager
    def lock(self, volume: str) -> Iterator[None]:
        """Hold one volume's labels alone, between threads and processes."""
        stripe = zlib.crc32(volume.encode()) % 64
        with locked(self._locks / f"booking-{stripe:02d}"):
            yield

    def remake_draft(self, volume: str) -> dict[str, OrganSource]:
        """Fuse the draft label anew; return where each organ comes from."""
        with self.lock(volume):
            self.reconcile_locked(volume, anew=True)
        return self._ledger.sources(volume)

    def reconcile(self, volume: str) -> None:
        """Finish what a killed process began with a volume; next to nothing where nothing."""
        if self._ledger.unsettled(volume) or self._ledger.reserved(volume):
            with self.lock(volume):
                self.reconcile_locked(volume)

    def reconcile_locked(
        self,
        volume: str,
        *,
        anew: bool = False,
        drawn: tuple[int, npt.NDArray[np.uint8]] | None = None,
    ) -> None:
        """Book what is not booked, then write both labels; the caller holds the lock.

        Parameters
        ----------
        anew
            Fuse the draft label even where nothing is left undone.
        drawn
            A submission's number and array, where they are at hand.
        """
        self._submissions.book_left_behind(volume)
        seen = self._ledger.unsettled(volume).get(volume)
        if seen is None and not anew:
            return
        current = self._ledger.in_force(volume)
        if current is not None:
            if not self._ledger.changes(current.id) and current.holder == IMPORTED_BY.key:
                self._submissions.describe(volume, current)
                seen = self._ledger.unsettled(volume).get(volume)
            self._drafts.make_current(volume, current)
            self._folder.now().let_in(volume)
        array = drawn[1] if drawn and current and drawn[0] == current.id else None
        self._drafts.make_draft(volume, current, array)
        if seen is not None:
            self._ledger.settled(volume, seen)

    def recover(self) -> None:
        """Finish what killed processes began, volume by volume; for the start of a server."""
        todo = {one.volume for one in self._ledger.reserved()} | set(self._ledger.unsettled())
        for volume in sorted(todo):
            try:
                self.reconcile(volume)
            except NotFoundError:
                continue  # its image is gone; its labels stay as they are
            except (Atlas8kError, OSError) as error:
                logger.error("%s: its labels cannot be brought up to date: %s", volume, error)

    def book_left_behind(self) -> None:
        """Book what killed processes had written; files are made of it later."""
        for volume in {one.volume for one in self._ledger.reserved()}:
            with self.lock(volume):
                self._submissions.book_left_behind(volume)
