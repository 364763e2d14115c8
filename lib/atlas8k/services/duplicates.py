"""Find duplicates and near-duplicates among the CTs of a campaign.

Each CT is read once, then all are compared. A fingerprint is kept as soon as it is made, and CTs
are entered as compared together with the pairs that were found: stopped at any moment, by the
command or by a server, it goes on with the rest. Of fingerprints, some hundred are in memory at a
time. A CT that cannot be compared gets a remark, which is shown wherever the CT is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from atlas8k.content.likeness import LEAST_MM, Fingerprint, compare, fingerprint
from atlas8k.core.errors import Atlas8kError, VolumeError
from atlas8k.core.remarks import Remark
from atlas8k.core.volume import read_ct
from atlas8k.services.errors import NotFoundError
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.inspection import Inspector
from atlas8k.store import FileIdentity, alike

logger = logging.getLogger(__name__)

Progress = Callable[[Iterable[Any]], Iterable[Any]]

BATCH = 64
"""So many new CTs are compared with all others at a time."""
LOOK_S = 60.0
SHARE = 3
"""In a server, one part of the time is worked and so many are waited."""
NOT_COMPARED = "not_compared"
"""Kind of the remark of a CT that is compared with no other."""
_SOURCE = "duplicates"


def missing(folder: StudiesFolder, among: Iterable[str] | None = None) -> list[str]:
    """Return the volumes whose fingerprint is missing, or is that of another file.

    Those that could not be read are left out until their file changes.

    Parameters
    ----------
    among
        Look at these alone.
    """
    with folder.ledger.read() as tx:
        known = alike.files(tx)
    found = []
    for volume in folder.now().ids() if among is None else among:
        file = folder.fingerprint(volume)
        if file is not None and known.get(volume) != file and _unreadable(folder, volume) != file:
            found.append(volume)
    return found


def not_compared(folder: StudiesFolder) -> dict[str, str]:
    """Return the volumes that are compared with no other, and why."""
    remarks = folder.now().all_remarks()
    return {
        volume: remark.text
        for volume, found in remarks.items()
        for remark in found
        if remark.kind == NOT_COMPARED
    }


def uncompared(folder: StudiesFolder) -> set[str]:
    """Return the volumes of which near-duplicates are not known.

    New ones and changed ones that wait, and those that cannot be compared.
    """
    with folder.ledger.read() as tx:
        done = alike.compared_files(tx)
    cannot = not_compared(folder)
    return {
        volume
        for volume in folder.now().ids()
        if volume in cannot or volume not in done or done[volume] != folder.fingerprint(volume)
    }


def _unreadable(folder: StudiesFolder, volume: str) -> str | None:
    """Return which file of a volume could not be read."""
    for remark in folder.catalogue.remarks(volume):
        if remark.kind == NOT_COMPARED and "file" in remark.figures:
            return str(remark.figures["file"])
    return None


def take_fingerprint(folder: StudiesFolder, volume: str) -> bool:
    """Make and keep a volume's fingerprint; False where it is gone or cannot be read.

    Raises
    ------
    UpstreamError
        The archive does not answer.
    """
    file = folder.fingerprint(volume)
    if file is None:
        return False
    try:
        folder.ask(Inspector(_SOURCE, partial(_take, folder, volume, file), lambda _: file), volume)
    except (NotFoundError, VolumeError) as error:  # gone meanwhile, or no CT volume after all
        logger.warning("%s: was not compared with other CTs: %s", volume, error)
        return False
    with folder.ledger.read() as tx:
        return alike.files(tx, volume).get(volume) == file


def _take(folder: StudiesFolder, volume: str, file: str, path: Path) -> list[Remark]:
    try:
        found = fingerprint(read_ct(path))
    except VolumeError as error:
        text = f"cannot be compared with other CTs, to find near-duplicates: {error.reason}"
        return [Remark(NOT_COMPARED, text, "note", {"file": file})]
    with folder.ledger.write() as tx:
        alike.keep(tx, volume, file, found.to_bytes())
    if found.is_high_enough:
        return []
    text = (
        f"shows less than {LEAST_MM / 10:.0f} cm of height, too little to be compared with other "
        "CTs: near-duplicates of it are not found"
    )
    return [Remark(NOT_COMPARED, text, "note")]


def take_fingerprints(folder: StudiesFolder, progress: Progress = iter) -> list[str]:
    """Make the fingerprint of every CT that is new or changed; return which.

    One that cannot be read has none, see :func:`not_compared`.
    """
    return [volume for volume in progress(missing(folder)) if take_fingerprint(folder, volume)]


def find_duplicates(folder: StudiesFolder, progress: Progress = iter) -> list[alike.Pair]:
    """Compare the CTs that were not compared yet with all others; return all pairs there are."""
    for _ in progress(compare_batches(folder)):
        pass
    with folder.ledger.read() as tx:
        return alike.pairs(tx)


class Summary(NamedTuple):
    """Groups of near-duplicates, CTs in them, CTs that were compared, and that cannot be."""

    groups: int
    volumes: int
    compared: int
    not_compared: int = 0


def summary(folder: StudiesFolder) -> Summary:
    """Return how many near-duplicates are known."""
    with folder.ledger.read() as tx:
        groups, compared = alike.groups(tx), alike.counts(tx)[1]
    return Summary(len({*groups.values()}), len(groups), compared, len(not_compared(folder)))


def compare_batches(folder: StudiesFolder) -> Iterator[int]:
    """Compare until nothing waits; yield how many pairs each batch has found."""
    while True:
        with folder.ledger.read() as tx:
            new = alike.not_compared(tx, BATCH)
        if not new:
            return
        yield _compare(folder, new)


def _compare(folder: StudiesFolder, new: dict[int, bytes]) -> int:
    """Compare some CTs with each other and with all that were compared before."""
    prints = {row: Fingerprint.from_bytes(cells) for row, cells in new.items()}
    found, seen, last = [], set(new), 0
    for i, (first, one) in enumerate(prints.items()):
        others = list(prints.items())[:i]
        found += list(_pairs(first, one, others))
    while True:
        with folder.ledger.read() as tx:
            part = alike.compared(tx, last, BATCH)
        if not part:
            break
        seen |= part.keys()
        last = max(part)
        before = [(row, Fingerprint.from_bytes(cells)) for row, cells in part.items()]
        for first, one in prints.items():
            found += list(_pairs(first, one, [pair for pair in before if pair[0] != first]))
    with folder.ledger.write() as tx:
        return len(found) if alike.keep_compared(tx, new, seen, found) else 0


def _pairs(
    first: int, one: Fingerprint, others: Iterable[tuple[int, Fingerprint]]
) -> Iterator[tuple[int, int, str, float, float]]:
    for second, two in others:
        if (likeness := compare(one, two)) is not None:
            yield (first, second, *likeness)


class DuplicateWatch:
    """Finds near-duplicates while a folder is served, in a thread that takes its time.

    A file is asked for its time only where the folder's own look around has found it new or
    changed since; where it has found nothing, no file is.

    Parameters
    ----------
    look_s
        Between two looks for CTs that are new.
    share
        For each second of work, so many are waited.
    """

    def __init__(
        self,
        folder: StudiesFolder,
        *,
        look_s: float = LOOK_S,
        share: float = SHARE,
    ) -> None:
        self._folder, self._look_s, self._share = folder, look_s, share
        self._stop = threading.Event()
        self._done: tuple[int, tuple[int, int]] | None = None
        self._seen: dict[str, FileIdentity] = {}

    def start(self, begin: Callable[[], object] = bool) -> threading.Thread:
        """Look from now on, until :meth:`stop`.

        Parameters
        ----------
        begin
            Called in the thread first, to have it run behind others.
        """
        thread = threading.Thread(target=self._run, args=(begin,), name="duplicates", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End it soon."""
        self._stop.set()

    def look(self) -> None:
        """Take the fingerprints that are missing, and compare what was not compared."""
        folder = self._folder
        folder.now()  # with what other processes have found
        state = folder.changes(), folder.ledger.data_version()
        if state == self._done and folder.inspections.finds_changes:
            return
        identities = folder.identities()
        new = [v for v, it in identities.items() if it is None or it != self._seen.get(v)]
        for volume in missing(folder, new):
            started = time.monotonic()
            take_fingerprint(folder, volume)
            if self._rest(started):
                return
        self._seen = {volume: known for volume, known in identities.items() if known is not None}
        started = time.monotonic()
        for pairs in compare_batches(folder):
            if pairs:
                logger.info(
                    "%d pairs of CTs are near-duplicates; see atlas8k cts duplicates --known", pairs
                )
            if self._rest(started):
                return
            started = time.monotonic()
        self._done = state

    def _rest(self, started: float) -> bool:
        """Wait in proportion to what the work took; return whether it is to end."""
        return self._stop.wait(self._share * (time.monotonic() - started))

    def _run(self, begin: Callable[[], object]) -> None:
        begin()
        while not self._stop.is_set():
            try:
                self.look()
            except (Atlas8kError, OSError, MemoryError) as error:
                logger.warning("near-duplicates were not looked for: %s", error)
            self._stop.wait(self._look_s)
