"""Find CTs that are alike in a studies folder: each is read once, then all are compared.

A fingerprint is kept as soon as it is made, and CTs are entered as compared together with the
pairs that were found: stopped at any moment, by the command or by a server, it goes on with the
rest. Of fingerprints, some hundred are in memory at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from atlas8k.content.likeness import Fingerprint, compare, fingerprint
from atlas8k.core.errors import Atlas8kError, VolumeError
from atlas8k.core.volume import read_ct
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import Ledger, alike

logger = logging.getLogger(__name__)

Progress = Callable[[Iterable[Any]], Iterable[Any]]

BATCH = 64
"""So many new CTs are compared with all others at a time."""
LOOK_S = 60.0
SHARE = 3
"""In a server, one part of the time is worked and so many are waited."""


def waiting(folder: StudiesFolder) -> list[str]:
    """Return the volumes whose fingerprint is missing, or is that of another file."""
    with folder.ledger.read() as tx:
        known = alike.files(tx)
    found = []
    for volume in folder.now().ids():
        file = folder.fingerprint(volume)
        if file is not None and known.get(volume) != file:
            found.append(volume)
    return found


def take_fingerprint(folder: StudiesFolder, volume: str) -> bool:
    """Make and keep a volume's fingerprint; False where it is gone or cannot be read."""
    file = folder.fingerprint(volume)
    if file is None:
        return False
    try:
        found = fingerprint(read_ct(folder.image_path(volume)))
    except VolumeError:
        return False
    with folder.ledger.write() as tx:
        alike.keep(tx, volume, file, found.to_bytes())
    return True


def take_fingerprints(folder: StudiesFolder, progress: Progress = iter) -> list[str]:
    """Make the fingerprint of every CT that is new or changed; return which.

    One that cannot be read has none.
    """
    return [volume for volume in progress(waiting(folder)) if take_fingerprint(folder, volume)]


def find_alike(folder: StudiesFolder, progress: Progress = iter) -> list[alike.Pair]:
    """Compare the CTs that were not compared yet with all others; return all pairs there are."""
    for _ in progress(compare_batches(folder)):
        pass
    with folder.ledger.read() as tx:
        return alike.pairs(tx)


class FoundAlike(NamedTuple):
    """How many groups there are of CTs that are alike, CTs in them, and CTs that were compared."""

    groups: int
    volumes: int
    compared: int


def found_alike(ledger: Ledger) -> FoundAlike:
    """Return how much is alike."""
    with ledger.read() as tx:
        groups = alike.groups(tx)
        return FoundAlike(len({*groups.values()}), len(groups), alike.counts(tx)[1])


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


class AlikeWatch:
    """Finds CTs that are alike while a folder is served, in a thread that takes its time.

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
        self._unreadable: dict[str, str] = {}

    def start(self, begin: Callable[[], object] = bool) -> threading.Thread:
        """Look from now on, until :meth:`stop`.

        Parameters
        ----------
        begin
            Called in the thread first, to have it run behind others.
        """
        thread = threading.Thread(target=self._run, args=(begin,), name="alike-watch", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End it soon."""
        self._stop.set()

    def look(self) -> None:
        """Take the fingerprints that are missing, and compare what was not compared."""
        for volume in waiting(self._folder):
            file = self._folder.fingerprint(volume) or ""
            if self._unreadable.get(volume) == file:
                continue
            started = time.monotonic()
            if not take_fingerprint(self._folder, volume):
                self._unreadable[volume] = file
            if self._rest(started):
                return
        started = time.monotonic()
        for pairs in compare_batches(self._folder):
            if pairs:
                logger.info("%d pairs of CTs are alike; see atlas8k cts alike --known", pairs)
            if self._rest(started):
                return
            started = time.monotonic()

    def _rest(self, started: float) -> bool:
        """Wait in proportion to what the work took; return whether it is to end."""
        return self._stop.wait(self._share * (time.monotonic() - started))

    def _run(self, begin: Callable[[], object]) -> None:
        begin()
        while not self._stop.is_set():
            try:
                self.look()
            except (Atlas8kError, OSError, MemoryError) as error:
                logger.warning("CTs that are alike were not looked for: %s", error)
            self._stop.wait(self._look_s)
