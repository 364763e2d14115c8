"""Which series of an archive are CT volumes, found out once and kept in the series index.

An archive is asked for its list now and then, which is cheap; a series' headers are asked
for once, and again when the number of its instances changes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydicom.dataset import Dataset

from atlas8k.core.files import only_one
from atlas8k.services.archive.client import Archive, Found
from atlas8k.services.archive.series import Verdict, verdict
from atlas8k.services.errors import NotFoundError, UpstreamError
from atlas8k.store.series_index import Series, SeriesIndex

logger = logging.getLogger(__name__)

AT_ONCE = 2
"""Series whose headers are fetched side by side: annotators come first."""
NO_IMAGES = frozenset(
    {"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "FID", "DOC"}
)
"""Modalities of what is said about images; not listed, not even as refused."""


class Lister:
    """Keeps the series index in step with the archive, in one process at a time.

    Parameters
    ----------
    lock
        File that the process holds which does it.
    judge
        Says of headers what the series is.
    settle_s
        A series that comes in is looked at when its number of instances has stayed for so
        long.
    """

    def __init__(
        self,
        archive: Archive,
        series_index: SeriesIndex,
        lock: Path,
        judge: Callable[[Iterable[Dataset]], Verdict] = verdict,
        settle_s: float = 3.0,
    ) -> None:
        self._settle_s = settle_s
        self._archive, self._series_index, self._judge = archive, series_index, judge
        self._lock_file, self._held = lock, contextlib.ExitStack()
        self._mine = False
        self._working = threading.Lock()
        self._seen: dict[str, tuple[int, float]] = {}
        self._first = True

    def in_charge(self) -> bool:
        """Whether this process keeps the series index, now or from now on."""
        with self._working:
            if not self._mine:
                self._mine = self._held.enter_context(only_one(self._lock_file))
            return self._mine

    def close(self) -> None:
        """Leave it to another process."""
        with self._working:
            self._held.close()
            self._mine = False

    def poll(self) -> None:
        """Ask for the list and note what is new, has changed, or is gone.

        Raises
        ------
        UpstreamError
            The archive does not answer; the series index stays as it was.
        """
        with self._working:
            try:
                found = self._archive.series()
            except UpstreamError as err:
                self._series_index.record_answer(str(err))
                raise
            self._series_index.record_answer()
            known, now = self._series_index.series(), time.monotonic()
            rows = [row for one in found.values() if (row := self._row(one, known, now))]
            gone = [uid for uid in known if uid not in found]
            for uid in gone:
                logger.info("series %s is no longer in the archive", uid)
                self._seen.pop(uid, None)
            self._series_index.write_series(rows, gone)
            self._series_index.write_patients(
                same_patient(found.values(), self._series_index.patients())
            )
            self._first = False

    def _row(self, one: Found, known: dict[str, Series], now: float) -> Series | None:
        """Return what is to be stored of a series, ``None`` where nothing is."""
        before = known.get(one.uid)
        if one.modality in NO_IMAGES:
            return None
        if one.modality and one.modality != "CT":
            return _refused(one, f"its modality is {one.modality}, not CT", before)
        if before is not None and before.instances == one.instances:
            if before.state == "waiting" and one.uid not in self._seen:
                self._seen[one.uid] = (one.instances, now - self._settle_s if self._first else now)
            return None
        self._seen[one.uid] = (one.instances, now - self._settle_s if self._first else now)
        return Series(one.uid, one.study, one.instances, "waiting")

    def inspect(self, limit_s: float) -> int:
        """Look at headers of series that wait for it and have stopped growing; how many.

        Raises
        ------
        UpstreamError
            The archive does not answer.
        """
        end, before = time.monotonic() + limit_s, time.monotonic() - self._settle_s
        waiting = [
            row
            for row in self._series_index.series().values()
            if row.state == "waiting" and self._seen.get(row.uid, (row.instances, 0.0))[1] <= before
        ]
        done = 0
        with ThreadPoolExecutor(AT_ONCE, "archive") as pool:
            while waiting and time.monotonic() < end:
                now, waiting = waiting[: AT_ONCE * 4], waiting[AT_ONCE * 4 :]
                rows = list(pool.map(self._inspected, now))
                self._series_index.write_series(row for row in rows if row is not None)
                done += len(rows)
        return done

    def _inspected(self, row: Series) -> Series | None:
        try:
            headers = self._archive.headers(row.study, row.uid)
        except NotFoundError:
            return None  # deleted since; the next list says so
        said = self._judge(headers)
        if said.reason:
            logger.warning("series %s is not offered: %s", row.uid, said.reason)
            return row._replace(state="refused", reason=said.reason)
        return row._replace(state="volume", reason="", fingerprint=said.fingerprint)

    def ask_for(self, uid: str) -> Series | None:
        """One series that somebody asks for by its UID, looked at now.

        Raises
        ------
        UpstreamError
            The archive does not answer.
        """
        one = self._archive.one(uid)
        if one is None or one.modality in NO_IMAGES:
            return None
        row = _refused(one, f"its modality is {one.modality}, not CT", None)
        if one.modality in {"CT", ""}:
            row = self._inspected(Series(one.uid, one.study, one.instances, "waiting"))
        if row is not None:
            self._series_index.write_series([row])
        return row


def same_patient(found: Iterable[Found], known: Mapping[str, str]) -> dict[str, str]:
    """Studies that are new, with the study that stands for their patient.

    It is the one that was listed first, so that whose a study is stays what it was when
    others come, and no id of a patient has to be kept. Where the archive gives none, every
    study is of another patient.
    """
    studies: dict[str, set[str]] = {}
    for one in found:
        studies.setdefault(one.patient or one.study, set()).add(one.study)
    new: dict[str, str] = {}
    for group in studies.values():
        first = min((known[study] for study in group if study in known), default=min(group))
        new |= {study: first for study in group if known.get(study) != first}
    return new


def _refused(one: Found, reason: str, before: Series | None) -> Series | None:
    row = Series(one.uid, one.study, one.instances, "refused", reason)
    return None if before == row else row
