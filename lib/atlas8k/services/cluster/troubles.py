"""Who is to blame for what went wrong: the volume, or the worker that had it.

A volume that went wrong at one worker is given to another, on another node where there is one.
Where that one fails, too, the volume is. Where it succeeds, the first worker was at fault, and one
that was so several times in a row has no more work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

MOST = 3
"""So many troubles in a row, and a worker has no more work."""


class Place(Protocol):
    """Where a worker is."""

    @property
    def key(self) -> str:
        """Of its node."""


class Troubles:
    """Volumes that went wrong once, and the workers that had them."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[Place, str]] = {}
        self._proven: dict[Place, dict[str, bool]] = {}

    def had(self, volume: str) -> bool:
        """Return whether a volume went wrong once and is to be tried again."""
        return volume in self._of

    def may_take(self, place: Place, volume: str, places: Sequence[Place]) -> bool:
        """Return whether a worker of `places` may be given a volume.

        One that had trouble with several volumes waits until others have tried these.
        """
        if volume not in self._of:
            others = any(one is not place for one in places)
            return len(self._proven.get(place, ())) < MOST or not others
        before, _ = self._of[volume]
        if any(one.key != before.key for one in places):
            return place.key != before.key
        return place is not before or all(one is before for one in places)

    def met(self, place: Place, volume: str, why: str, *, proven: bool) -> str:
        """Note that a volume went wrong at a worker.

        Parameters
        ----------
        proven
            That it is the worker's fault needs no proof.

        Returns
        -------
        str
            Why the volume is not tried again; empty where it is.
        """
        if proven:
            self._proven.setdefault(place, {})[volume] = True
            if self.useless(place):  # what it says of this volume, too, counts for nothing
                return ""
        if volume in self._of:
            _, first = self._of.pop(volume)
            for known in self._proven.values():
                if not known.get(volume, True):  # the volume's, then
                    del known[volume]
            return f"tried twice: {first}; {why}" if why != first else f"tried twice: {why}"
        self._of[volume] = place, why
        self._proven.setdefault(place, {})[volume] = proven
        return ""

    def done(self, place: Place, volume: str, *, scored: bool) -> None:
        """Note that a worker has returned a result of a volume."""
        self._proven.pop(place, None)
        if volume not in self._of:
            return
        before, _ = self._of.pop(volume)
        known = self._proven.get(before, {})
        if volume in known:
            known[volume] = known[volume] or scored
            if not known[volume]:
                del known[volume]

    def useless(self, place: Place) -> bool:
        """Return whether a worker had so much trouble in a row that it gets no more work."""
        return sum(self._proven.get(place, {}).values()) >= MOST

    def gone(self, place: Place) -> None:
        """Note that a worker is no longer there."""
        self._proven.pop(place, None)
