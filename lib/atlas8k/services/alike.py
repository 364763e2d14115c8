"""Find CTs that are alike in a studies folder: each is read once, then all are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from atlas8k.content.likeness import Fingerprint, compare, fingerprint
from atlas8k.core.errors import VolumeError
from atlas8k.core.volume import read_ct
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import alike

Progress = Callable[[Iterable[Any]], Iterable[Any]]


def take_fingerprints(folder: StudiesFolder, progress: Progress = iter) -> list[str]:
    """Make the fingerprint of every CT that is new or changed; return which.

    One that cannot be read has none. Each is kept at once: stopped, it goes on with the rest.
    """
    with folder.ledger.read() as tx:
        known = alike.files(tx)
    made = []
    for volume in progress(folder.now().ids()):
        file = folder.fingerprint(volume)
        if file is None or known.get(volume) == file:
            continue
        try:
            found = fingerprint(read_ct(folder.image_path(volume)))
        except VolumeError:
            continue
        with folder.ledger.write() as tx:
            alike.keep(tx, volume, file, found.to_bytes())
        made.append(volume)
    return made


def find_alike(
    folder: StudiesFolder, new: Iterable[str] | None = None, progress: Progress = iter
) -> list[alike.Pair]:
    """Compare CTs with each other and keep the pairs that are alike; return all there are.

    Parameters
    ----------
    new
        Only pairs with one of these are compared; None: all.
    """
    with folder.ledger.read() as tx:
        every = [(name, Fingerprint.from_bytes(data)) for name, data in alike.fingerprints(tx)]
    names = {name for name, _ in every}
    wanted = names if new is None else names & {*new}
    for i, (first, one) in enumerate(progress(every)):
        if first not in wanted:
            continue
        # Of two that are new, the later one is compared with the earlier.
        others = [pair for j, pair in enumerate(every) if j < i or pair[0] not in wanted]
        found = [
            alike.Pair(first, second, *likeness)
            for second, two in others
            if (likeness := compare(one, two)) is not None
        ]
        if found:
            with folder.ledger.write() as tx:
                alike.keep_pairs(tx, found)
    with folder.ledger.read() as tx:
        return alike.pairs(tx)
