"""Small pictures of CTs: drawn when somebody looks, one at a time, some of them remembered."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas8k.attention.explain import Place
from atlas8k.reports.thumbnail import Spot, draw
from atlas8k.services.errors import NotFoundError
from atlas8k.services.studies.versions import Version

if TYPE_CHECKING:
    from atlas8k.services.context import Context

LIMIT_BYTES = 32 << 20
"""Of all pictures that are remembered: some three thousand."""


@dataclass(frozen=True)
class Wanted:
    """What a picture shows; ``key`` changes with any of it."""

    ct: Path
    label: Path | None
    spot: Spot | None
    key: str


def wanted(context: Context, volume: str, label: Version | None, *, place: bool = True) -> Wanted:
    """Return what the picture of a volume shows; nothing of the CT is read for it.

    Parameters
    ----------
    label
        The label to draw, None for none.
    place
        Show the first place to look at.

    Raises
    ------
    NotFoundError
        There is no such volume, or its CT is still in the archive: it is not fetched for a
        picture.
    """
    file = context.studies.image(volume)
    if file is None:
        raise NotFoundError("image", volume)
    ct = context.studies.path / file.path
    if not ct.is_file():
        raise NotFoundError("picture", f"{volume}: its CT is still in the archive")
    stat = ct.stat()
    model_version = context.ranked_by()
    noted = (context.ledger.explanation(volume, model_version) if model_version else None) or {}
    spot = spot_of(noted) if place else None
    parts = (volume, stat.st_size, stat.st_mtime_ns, label and label.sha256, spot)
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    return Wanted(ct, label.path if label else None, spot, key)


def spot_of(explanation: dict[str, Any]) -> Spot | None:
    """Return the first place to look at, of what was noted with a score; None: nowhere."""
    for region in explanation.get("regions", ()):
        if (place := Place.from_dict(region.get("place"))) is not None:
            box = (tuple(region.get("start", ())), tuple(region.get("stop", ())))
            return Spot(place.axis, place.file_slice, *box)
    return None


class Thumbnails:
    """Draws pictures one at a time, and remembers them up to so many bytes.

    A CT may take a second and some planes' memory to read: of several that are asked for at
    once, the others wait.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit, self._bytes = limit_bytes, 0
        self._known: OrderedDict[str, bytes] = OrderedDict()
        self._lock, self._drawing = threading.Lock(), threading.Lock()

    def get(self, what: Wanted) -> bytes:
        """Return the picture of a volume, JPEG; as :meth:`drawn`."""
        return self.drawn(what.key, lambda: draw(what.ct, what.label, what.spot))

    def drawn(self, key: str, make: Callable[[], bytes]) -> bytes:
        """Return a picture that is remembered under a key, or make it.

        Raises
        ------
        VolumeError
            The CT cannot be read.
        """
        if (found := self._remembered(key)) is not None:
            return found
        with self._drawing:
            if (found := self._remembered(key)) is not None:  # by who was before us
                return found
            made = make()
        with self._lock:
            self._known[key] = made
            self._bytes += len(made)
            while self._bytes > self._limit:
                self._bytes -= len(self._known.popitem(last=False)[1])
        return made

    def _remembered(self, key: str) -> bytes | None:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    @property
    def bytes(self) -> int:
        """Bytes of what is remembered."""
        return self._bytes
