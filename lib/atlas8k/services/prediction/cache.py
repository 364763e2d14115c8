"""What the networks said, kept in a folder of bounded size: nobody waits for it twice.

::

    cache/<model version>/<volume>-<fingerprint>.answers   labels, regions: a tenth of a MB
    cache/<model version>/<volume>-<fingerprint>.codes     probabilities as bytes: some MB

Names are hashes, so that a volume's name may be anything. Files are written whole, so that
several processes may use one folder; the one that adds a file makes room for it. A file
that is gone or damaged is a miss, never an error.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from atlas8k.core.errors import Atlas8kError
from atlas8k.core.files import locked, publish

logger = logging.getLogger(__name__)

GB = 10**9
RESERVE_BYTES = 2 * GB
"""The cache leaves this much of the disk free: labels and the ledger must be written."""

ROOM = 0.95
"""Once full, room is made down to this part of the limit, not for each file anew."""

LEFTOVER_SECONDS = 3600
Kind = Literal["answers", "codes"]


class Key(NamedTuple):
    """What a kept file belongs to.

    ``fingerprint`` is any text that changes with the CT's file, or with a setting that
    changes what is kept.
    """

    volume: str
    fingerprint: str
    model_version: str


class _Kept(NamedTuple):
    path: Path
    size: int
    used: float


class PredictionCache:
    """A folder of kept predictions.

    Parameters
    ----------
    folder
        Made when something is kept.
    limit_gb
        Bound of all files, in 1e9 bytes; 0 keeps nothing.
    wanted
        Names of the volumes that are to stay, most wanted first: those in somebody's
        hands, then the top of the priority list. Asked only when room has to be made.
    reserve_bytes
        The disk is not filled beyond this.
    """

    def __init__(
        self,
        folder: Path,
        limit_gb: float,
        wanted: Callable[[], Sequence[str]] = tuple,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self.folder = folder
        self.limit = int(limit_gb * GB)
        self._wanted = wanted
        self._reserve = reserve_bytes
        self._refused = False

    def read(self, key: Key, kind: Kind) -> bytes | None:
        """Return a stored file; ``None`` where it is not there. Reading makes it the newest."""
        path = self._path(key, kind)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def has(self, key: Key, kind: Kind) -> bool:
        """Return whether a file is stored; nothing counts as used by it."""
        return self._path(key, kind).is_file()

    def latest(self, volume: str, model_version: str, kind: Kind) -> bytes | None:
        """Return what was stored last of a volume, whatever state and settings it belongs to.

        For figures over what there is: nothing counts as used by it. ``None``: nothing.
        """
        kept = (self.folder / _folder(model_version)).glob(f"{_hashed(volume)}-*.{kind}")
        try:
            return max(kept, key=lambda path: path.stat().st_mtime).read_bytes()
        except (OSError, ValueError):  # none, or gone at this moment
            return None

    def forget(self, key: Key, kind: Kind) -> None:
        """Remove a file, say a damaged one."""
        self._path(key, kind).unlink(missing_ok=True)

    def keep(self, key: Key, kind: Kind, data: bytes) -> bool:
        """Store a file where there is room for it; return False where there is not.

        What was kept of another state of the same CT goes. A disk that is nearly full, or
        a folder that cannot be written, is said in the log once and refused from then on
        until there is room.
        """
        if self.limit <= 0:
            return False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / ".lock"):
                return self._keep(key, kind, data)
        except OSError as err:
            self._say(f"cannot be written ({err.strerror or err})")
            return False

    def _keep(self, key: Key, kind: Kind, data: bytes) -> bool:
        path = self._path(key, kind)
        for old in path.parent.glob(f"{_hashed(key.volume)}-*"):
            if old.name.partition(".")[0] != path.name.partition(".")[0]:
                old.unlink(missing_ok=True)
        if not self._make_room(len(data), key):
            return False
        free = shutil.disk_usage(self.folder).free
        if free - len(data) < self._reserve:
            self._say(f"has {free / GB:.1f} GB left on its disk, {self._reserve / GB:g} stay free")
            return False
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
        temporary = Path(name)
        try:
            with open(handle, "wb") as stream:
                stream.write(data)
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        self._refused = False
        return True

    def _make_room(self, needed: int, key: Key) -> bool:
        """Remove what is wanted least until there is room; False: all else is wanted more."""
        kept = self._files()
        total = sum(entry.size for entry in kept)
        if total + needed <= self.limit:
            return True
        try:
            wanted = self._wanted()
        except Atlas8kError as err:  # better nothing new than what somebody waits for gone
            self._say(f"is full, and what to keep is not known ({err})")
            return False
        place = {_hashed(name): number for number, name in enumerate(wanted)}
        last = len(place)

        def worth(path: Path) -> int:
            """0: superseded networks; 1: nobody waits for it; above: by its place."""
            if path.parent.name != _folder(key.model_version):
                return 0
            return 1 + last - place.get(path.name.partition("-")[0], last)

        own = worth(self._path(key, "codes"))
        target = int(self.limit * ROOM)
        # Answers are small and what people wait for: of equals, codes go first.
        order = sorted(kept, key=lambda e: (worth(e.path), e.path.suffix == ".answers", e.used))
        for entry in order:
            if total + needed <= target or worth(entry.path) > own:
                break
            entry.path.unlink(missing_ok=True)
            total -= entry.size
        return total + needed <= self.limit

    def _files(self) -> list[_Kept]:
        found = []
        for path in self.folder.glob("*/*"):
            try:
                stat = path.stat()
            except OSError:  # gone at this moment
                continue
            if not path.name.startswith("."):
                found.append(_Kept(path, stat.st_size, stat.st_mtime))
            elif time.time() - stat.st_mtime > LEFTOVER_SECONDS:  # of a process that was killed
                path.unlink(missing_ok=True)
        return found

    def _path(self, key: Key, kind: Kind) -> Path:
        name = f"{_hashed(key.volume)}-{_hashed(key.fingerprint)}.{kind}"
        return self.folder / _folder(key.model_version) / name

    def _say(self, what: str) -> None:
        if not self._refused:
            logger.warning("%s %s; predictions are not kept", self.folder, what)
        self._refused = True


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _folder(model_version: str) -> str:
    return model_version if model_version.isalnum() else _hashed(model_version)
