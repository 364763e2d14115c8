"""Label files that are there and not booked: of killed processes, and put in the folder by hand."""

from __future__ import annotations

import logging

import numpy as np

from atlas8k.errors import VolumeError
from atlas8k.labels.ingest import Submitted
from atlas8k.labels.provenance import Provenance, read_provenance
from atlas8k.labels.submission_diff import changes
from atlas8k.ledger import Begun, Submission
from atlas8k.organs import ORGAN_NAMES
from atlas8k.server.desk.submitting import Submitting
from atlas8k.server.studies.catalogue import FINAL
from atlas8k.server.studies.versions import Version
from atlas8k.volume import read_label

logger = logging.getLogger(__name__)


class Adopting(Submitting):
    """Submissions that come from files alone."""

    def adopt(self, volume: str) -> list[Submission]:
        """Book what killed processes had written; alone with the volume."""
        booked = []
        for one in self._ledger.reserved(volume):
            found = self._unbooked(volume, one.number)
            if found is None:
                self._ledger.forget(one.number)
                continue
            kept, origin = found
            logger.info("%s: submission %d was written but not booked", volume, one.number)
            booked.append(self._submit(volume, kept, origin))
        return booked

    def _unbooked(self, volume: str, number: int) -> tuple[Version, Provenance] | None:
        for kept in self._versions.kept(volume, FINAL):
            try:
                origin = read_provenance(kept.path)
            except VolumeError:
                continue
            if origin is not None and origin.submission == number:
                return kept, origin
        return None

    def describe(self, volume: str, submission: Submission) -> None:
        """Find out what an adopted label says, file against start label; without names."""
        kept = self._versions.find(volume, FINAL, submission.sha256 or "")
        if kept is None:
            return
        try:
            label = read_label(kept.path)
        except VolumeError as error:
            logger.warning("%s: its submitted label cannot be read: %s", volume, error)
            return
        begun = Begun(None, None, False, 0, None, "revise", False)
        before = self._assembly.array(volume, self.start(volume, begun), label.grid)
        present = frozenset(ORGAN_NAMES[i - 1] for i in np.unique(label.array) if 1 <= i <= 9)
        submitted = Submitted(label.array, label.grid, present, "organ ids", {})
        self._ledger.describe(submission.id, changes(before, submitted))
