"""CTs of an archive as files, fetched when they are needed and let go of by use.

Nothing of DICOM stays: a file holds voxels and where they are, under the series' UID. Its
time of change follows from what the series holds, so that one fetched again is the same
file to everything that goes by size and time; its time of access says when it was used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

from atlas8k.core.errors import VolumeError
from atlas8k.core.files import locked, publish
from atlas8k.core.volume import write_nifti
from atlas8k.services.archive.client import Archive
from atlas8k.services.archive.series import read
from atlas8k.services.errors import NotFoundError, UpstreamError
from atlas8k.store.series_index import Series, SeriesIndex

logger = logging.getLogger(__name__)

SUFFIX = ".nii.gz"
IN_USE_S = 600.0
"""What was used so recently is not let go of."""
LEARNT_S = 86400.0
"""The same of CTs with a submission: a training reads them again and again."""
_INCOMING = ".incoming-"
_LEFT_OVER_S = 3600.0
_SPARE_BYTES = 512 << 20


class CtCache:
    """The CTs of a working folder.

    Parameters
    ----------
    root
        The working folder.
    locks
        Folder of locks between processes.
    limit_gb
        CTs may take this, GB; those that are held or in use count but stay.
    days
        CTs not used for so long go.

    Attributes
    ----------
    held
        Gives the volumes that somebody holds: their CTs stay in any case.
    learnt
        Gives the volumes that a training may be reading.
    """

    def __init__(
        self,
        root: Path,
        archive: Archive,
        series_index: SeriesIndex,
        locks: Path,
        *,
        limit_gb: float = 50.0,
        days: float = 30.0,
    ) -> None:
        self.root, self._archive, self._locks = root, archive, locks
        self._series_index = series_index
        self.limit_bytes, self.days = limit_gb * 1e9, days
        self.held: Callable[[], Collection[str]] = tuple
        self.learnt: Callable[[], Collection[str]] = tuple

    def path(self, uid: str) -> Path:
        """Where the CT of a series lies when it is there."""
        return self.root / f"{uid}{SUFFIX}"

    def there(self, row: Series) -> bool:
        """Whether the CT is there, as the series is now."""
        try:
            return self.path(row.uid).stat().st_mtime_ns == mark(row)
        except OSError:
            return False

    def have(self, row: Series) -> Path:
        """Return the CT of a series, fetched where it is not there.

        Raises
        ------
        UpstreamError
            The archive does not answer.
        NotFoundError
            The series is no longer there.
        VolumeError
            Its voxels cannot be read; it is refused from now on.
        """
        path = self.path(row.uid)
        if not self.there(row):
            with locked(self._locks / f"fetch-{zlib.crc32(row.uid.encode()) % 64:02d}"):
                if not self.there(row):
                    self._fetch(row, path)
            self.sweep()
        with contextlib.suppress(OSError):
            os.utime(path, ns=(time.time_ns(), mark(row)))
        return path

    def _fetch(self, row: Series, path: Path) -> None:
        started = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.root))
        try:
            count = self._archive.download(row.study, row.uid, folder)
            if count < row.instances:
                raise UpstreamError(
                    f"the DICOM archive sent {count} of {row.instances} instances of series "
                    f"{row.uid}; nothing is lost: do the same again"
                )
            volume = read(row.uid, folder)
            made = write_nifti(folder / f"ct{SUFFIX}", volume.array, volume.grid)
            os.utime(made, ns=(time.time_ns(), mark(row)))
            publish(made, path)
        except NotFoundError:
            self._series_index.write_series((), [row.uid])
            raise
        except VolumeError as err:
            logger.warning("series %s is not offered any more: %s", row.uid, err.reason)
            self._series_index.write_series([row._replace(state="refused", reason=err.reason)])
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        seconds = time.monotonic() - started
        logger.info("series %s: %d instances fetched in %.1f s", row.uid, count, seconds)

    def forget(self, uid: str) -> None:
        """Delete a CT."""
        self.path(uid).unlink(missing_ok=True)

    def bytes(self) -> int:
        """Return the bytes that the CTs take."""
        return sum(size for _, size, _ in self._files())

    def _files(self) -> list[tuple[float, int, Path]]:
        """Last use (UTC seconds), bytes and path of every CT, the longest unused first."""
        found = []
        for path in self.root.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                found.append((stat.st_atime, stat.st_size, path))
        return sorted(found)

    def sweep(self) -> list[str]:
        """Let go of what is too old or too much; their UIDs."""
        self._clear_away()
        files, now = self._files(), time.time()
        left = sum(size for _, size, _ in files)
        old = now - self.days * 86400
        if left <= self.limit_bytes and not any(used < old for used, _, _ in files):
            return []
        stay, learnt, gone = set(self.held()), set(self.learnt()), []
        for used, size, path in files:
            uid = path.name.removesuffix(SUFFIX)
            idle_s = LEARNT_S if uid in learnt else IN_USE_S
            too_much = left > self.limit_bytes and used < now - idle_s
            if uid not in stay and (used < old or too_much):
                path.unlink(missing_ok=True)
                left -= size
                gone.append(uid)
        if gone:
            logger.info("%d CTs let go of, %.1f GB are kept", len(gone), left / 1e9)
        return gone

    def _clear_away(self) -> None:
        """Remove what killed processes left: instances with patients' data among it."""
        for folder in self.root.glob(f"{_INCOMING}*"):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > _LEFT_OVER_S:
                    shutil.rmtree(folder, ignore_errors=True)


def mark(row: Series) -> int:
    """Time of change of a series' CT, ns: some moment of the past that its content decides."""
    return (1_000_000_000 + zlib.crc32(row.fingerprint.encode()) % 500_000_000) * 10**9
