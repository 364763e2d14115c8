"""The look through a whole collection: the outlines of every label, fine or flagged.

Several people go through one list: what one of them was given is nobody else's for some minutes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from atlas8k.services.errors import ConflictError, NotFoundError
from atlas8k.store import Holder, Ledger, SweepOrder, Verdict, Waiting

if TYPE_CHECKING:
    from atlas8k.services.context import Context
    from atlas8k.services.studies.versions import Version

MOST = 50
"""Volumes that are given out at once."""
HELD_S = 300.0
"""So long they are for who got them; no longer than one looks at them, and nothing is lost."""


class Sweep:
    """Gives out the volumes to look at, and keeps what was seen."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._lock = ledger, threading.Lock()
        self._held: dict[str, tuple[str, float]] = {}

    def next(
        self,
        holder: Holder,
        order: SweepOrder,
        model_version: str | None,
        *,
        count: int = MOST,
        seen: bool = False,
        without: Collection[str] = (),
    ) -> tuple[list[Waiting], int]:
        """Return the next volumes for this holder, and how many wait in all.

        Parameters
        ----------
        order, model_version, seen
            As :func:`atlas8k.store.sweeps.waiting`.
        without
            Volumes that are not for this holder, or that it has at hand already.
        """
        self._ledger.ensure_sweep_seed()
        now = time.monotonic()
        with self._lock:
            self._held = {name: held for name, held in self._held.items() if held[1] > now}
            waiting = [
                one
                for one in self._ledger.sweep_waiting(order, model_version, seen=seen)
                if one.volume not in without
            ]
            free = [
                one
                for one in waiting
                if self._held.get(one.volume, (holder.key, 0.0))[0] == holder.key
            ]
            given = free[: min(count, MOST)]
            self._held |= {one.volume: (holder.key, now + HELD_S) for one in given}
        return given, len(waiting)

    def look(self, volume: str, sha256: str, verdict: Verdict, holder: Holder) -> int:
        """Record a look; return its number.

        Raises
        ------
        ConflictError
            The label is not the one that was looked at.
        """
        number = self._ledger.sweep_look(volume, sha256, verdict, holder)
        if number is None:
            raise ConflictError(f"{volume}: has another label by now; look again")
        return number

    def undo(self, look: int, holder: Holder) -> str:
        """Take a look back; return the volume.

        Raises
        ------
        NotFoundError
            There is no such look of this holder's.
        """
        volume = self._ledger.sweep_undo(look, holder)
        if volume is None:
            raise NotFoundError("look of yours", look)
        return volume


def shown_label(context: Context, volume: str, sha256: str) -> Version:
    """Return the label of a volume with that hash.

    Raises
    ------
    NotFoundError
        It has none.
    """
    found = context.label_service.versions.find(volume, sha256)
    if found is None:
        raise NotFoundError(f"label of {volume}", sha256)
    return found
