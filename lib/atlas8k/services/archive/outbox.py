"""Current labels, sent to the archive as DICOM SEG; what could not be sent is sent later.

There is no list of what to send that could get lost: it is what is current and not what
was sent last. The label itself is in the working folder before anybody thinks of sending.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from atlas8k.core.errors import Atlas8kError, EmptyVolumeError
from atlas8k.core.volume import read_label
from atlas8k.formats.dicom_seg_writing import write_segmentation
from atlas8k.services.archive.client import Archive
from atlas8k.services.archive.folder import ArchiveFolder
from atlas8k.services.errors import UpstreamError
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.store.series_index import Sent, SeriesIndex

logger = logging.getLogger(__name__)

SHOWN = 20
RETRY_S = (10.0, 60.0, 600.0, 3600.0)
"""Pauses after an archive has refused a label; while it does not answer, every look is a try."""
NOTHING_TO_SEND = ""
"""In place of a series' UID: no organ has a voxel, and DICOM SEG cannot say so."""


class Due(NamedTuple):
    """A current label that the archive does not have."""

    volume: str
    submission: int
    sha256: str
    path: Path


class Outbox:
    """Sends what is current.

    Parameters
    ----------
    write
        Makes a SEG object of a label, of the headers of its series, in a folder.
    """

    def __init__(
        self,
        folder: ArchiveFolder,
        write: Callable[[Due, list[Dataset], Path], Dataset] | None = None,
    ) -> None:
        self._folder = folder
        self._archive: Archive = folder.archive
        self._series_index: SeriesIndex = folder.series_index
        self._write = write or segmentation

    def due(self) -> list[Due]:
        """Return what is to be sent, in the order of the submissions.

        A case that is read twice waits for the second reading: who opens the study must not
        find the first.
        """
        catalogue, sent, found = self._folder.now(), self._series_index.sent(), []
        with catalogue.lock:
            labels = list(catalogue.labels.get(FINAL, {}).items())
            listed = set(catalogue.images)
        listed -= {*self._folder.ledger.read_twice()}
        for volume, label in labels:
            info: dict[str, Any] = json.loads(label.info)
            number, sha256 = info.get("submission"), info.get("checksum")
            if volume not in listed or not isinstance(number, int) or not sha256:
                continue  # not a series of this archive, or no submission (yet)
            last = sent.get(volume)
            done = last is not None and last.series is not None
            if done and last is not None and (last.submission, last.sha256) == (number, sha256):
                continue
            # The kept file: the one in place may be that of the submission before for a moment.
            kept = self._folder.index.label_version(volume, FINAL)
            if kept is None or f"SHA256:{kept.sha256}" != sha256:
                continue  # another one is current by now: the next look sees it
            found.append(Due(volume, number, str(sha256), self._folder.labels.file(kept)))
        return sorted(found, key=lambda one: one.submission)

    def send(self) -> int:
        """Send what is due; how many labels the archive has taken.

        Raises
        ------
        UpstreamError
            The archive does not answer; the rest waits.
        """
        count, sent = 0, self._series_index.sent()
        for one in self.due():
            last = sent.get(one.volume)
            tries = 0
            if last is not None and (last.submission, last.sha256) == one[1:3]:
                tries = last.tries
                if last.at + RETRY_S[min(tries, len(RETRY_S)) - 1] > time.time():
                    continue
            try:
                series, reason = self._send(one), ""
            except EmptyVolumeError as err:
                series, reason = NOTHING_TO_SEND, err.reason
            except UpstreamError:
                raise
            except (Atlas8kError, OSError) as err:
                logger.error("%s: submission %d not sent: %s", one.volume, one.submission, err)
                series, reason = None, str(err)
            now = time.time()
            self._series_index.write_sent(
                Sent(one.volume, one.submission, one.sha256, series, tries + 1, reason, now)
            )
            count += bool(series)
        return count

    def _send(self, one: Due) -> str:
        row = self._folder.row(one.volume)
        headers = self._archive.headers(row.study, row.uid)
        folder = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self._folder.path))
        try:
            made = self._write(one, headers, folder)
            self._archive.store(made)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        logger.info("%s: submission %d is in the archive", one.volume, one.submission)
        return str(made.SeriesInstanceUID)

    def status(self) -> dict[str, Any]:
        """How many labels the archive has, how many wait, and why the first of those."""
        sent, due = self._series_index.sent(), self.due()
        why = {
            one.volume: sent[one.volume].reason
            if one.volume in sent and sent[one.volume].submission == one.submission
            else ""
            for one in due
        }
        return {
            "sent": sum(1 for one in sent.values() if one.series),
            "waiting": len(due),
            "waiting_for": dict(list(why.items())[:SHOWN]),
        }


def segmentation(one: Due, headers: list[Dataset], folder: Path) -> Dataset:
    """Make the SEG object of a current label.

    Its UIDs follow from what it holds: sent twice, as after a reply that got lost, it is
    one object.

    Raises
    ------
    VolumeError
        The label is not on the series, or no organ has a voxel.
    """
    label = read_label(one.path)
    path = folder / "seg.dcm"
    write_segmentation(
        label.array,
        label.grid,
        headers,
        path,
        description=f"atlas8k organs, submission {one.submission}",
    )
    made = dcmread(path)
    what = [one.volume, str(one.submission), one.sha256]
    made.SeriesInstanceUID = generate_uid(entropy_srcs=["series", *what])
    made.SOPInstanceUID = generate_uid(entropy_srcs=["instance", *what])
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made
