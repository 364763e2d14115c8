"""Every label file held against its hash: what does not match is named, set aside and mended.

Each label that is current lies twice in the studies folder: kept for good in
``labels/.history``, and in place. Either is mended from the other while one of them has the hash
that the store knows. Nothing is overwritten or deleted: a file that does not match is moved to
``labels/.set-aside`` first, and stays where it is while there is no better one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from atlas8k.core.files import publish
from atlas8k.services.studies.errors import DamagedLabelError
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.set_aside import SetAsideFiles
from atlas8k.store import CurrentLabel, FileIdentity, LabelVersion

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20
_BREATH = 512
SETTLE_S = 5.0
"""A file in place that changed so recently may be being written: it is left for the next look."""

_TO_DO = "mend it with `atlas8k doctor --fix`, from a backup where no copy is left"

Source = Callable[[str], Path | None]
"""Gives a file of a hash from elsewhere, such as a backup; None where it has none."""


@dataclass(frozen=True)
class Fault:
    """A label file that is not what the store says.

    Attributes
    ----------
    volume, tag
        Of which label.
    file
        Relative to the studies folder.
    found
        What is wrong with it.
    mended
        What was done about it; empty: it is as it was.
    """

    volume: str
    tag: str
    file: str
    found: str
    mended: str = ""

    @property
    def text(self) -> str:
        """The fault in one line, with what was done or is to be done."""
        return f"{self.volume}: {self.file} {self.found}; {self.mended or _TO_DO}"


class Pace:
    """Bounds how fast files are read in the background.

    Parameters
    ----------
    bytes_per_s
        None: as fast as the disk gives them.
    stopped
        Whether to end: :class:`StoppedError` is raised then.
    """

    def __init__(
        self, bytes_per_s: float | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._limit, self._stopped = bytes_per_s, stopped
        self._until = 0.0

    def read(self, size: int) -> None:
        """Account for bytes that were read; wait where that was too fast."""
        if self._stopped():
            raise StoppedError
        if self._limit is None:
            return
        now = time.monotonic()
        self._until = max(self._until, now) + size / self._limit
        if self._until > now:
            time.sleep(self._until - now)


class StoppedError(Exception):
    """The check was told to end."""


class LabelIntegrity:
    """Hold the label files of a studies folder against the hashes of its store.

    Parameters
    ----------
    settle_s
        See :data:`SETTLE_S`; 0 for a command that somebody waits for.
    source
        Where a file comes from that is damaged in both of its places.
    """

    def __init__(
        self,
        folder: StudiesFolder,
        *,
        settle_s: float = 0.0,
        source: Source | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._index, self._files = folder.index, folder.labels
        self.set_aside = SetAsideFiles(folder.labels)
        self._settle_s, self._source, self._pace = settle_s, source, pace or Pace()

    def volumes(self) -> list[str]:
        """Return volumes that have label files of the store."""
        return self._index.labeled_images()

    def check(self, volumes: Iterable[str], *, mend: bool) -> Iterator[Fault]:
        """Hold every label file of these volumes against its hash; yield what does not match.

        Parameters
        ----------
        mend
            Put back what can be; else it is only named.
        """
        for volume in volumes:
            yield from self.check_volume(volume, mend=mend)

    def suspects(self) -> list[str]:
        """Return volumes of which a file is gone or has another size or time of change.

        A look that opens no file: what was altered under the same size and time is found by
        :meth:`check` alone.
        """
        found: dict[str, None] = {}
        for number, (volume, tag, place, stamp) in enumerate(self._index.label_places()):
            path = self._files.path(volume, tag, place) if tag else self._files.root / place
            there = FileIdentity.of(path)
            if there is None or there.stamp != stamp:
                found[volume] = None
            if number % _BREATH == 0:
                self._pace.read(0)
                time.sleep(0)  # let threads that answer somebody go first
        return list(found)

    def check_volume(self, volume: str, *, mend: bool) -> list[Fault]:
        """As :meth:`check`, of one volume."""
        if not self._look(volume):
            return []
        # What is being changed at this moment looks like a fault; alone with it, it does not.
        with self._files.lock(volume):
            faults = self._look(volume)
            return [self._mend(one) for one in faults] if mend else [one.fault for one in faults]

    # --- looking ------------------------------------------------------------------------

    def _look(self, volume: str) -> list[_Wrong]:
        versions, current = self._index.labels_of(volume)
        by_number = {one.id: one for one in versions}
        wrong: list[_Wrong] = []
        for kept in {one.file: one for one in versions}.values():
            found = self._compare(self._files.file(kept), kept)
            if found:
                wrong.append(_Wrong(self._fault(kept.tag, kept, kept.file, found), kept, None))
        for label in current:
            version = by_number.get(label.version or -1)
            if version is None:
                continue  # removed, or put there by others: there is nothing to hold it against
            path = self._files.path(volume, label.tag, version.ext)
            found = self._compare(path, version)
            if not found and self._is_link(path, self._files.file(version)):
                found = _LINK
            if found and not self._being_written(path):
                place = str(path.relative_to(self._files.root))
                wrong.append(_Wrong(self._fault(label.tag, version, place, found), version, label))
        return wrong

    def _fault(self, tag: str, version: LabelVersion, file: str, found: str) -> Fault:
        return Fault(version.image, tag, file, found)

    def _compare(self, path: Path, version: LabelVersion) -> str:
        """Return what is wrong with a file; of one that is right, mend its time of change."""
        try:
            sha256 = self._sha256(path)
        except FileNotFoundError:
            return _GONE
        except OSError as error:
            return f"cannot be read ({error})"
        if sha256 != version.sha256:
            return _CHANGED
        found = FileIdentity.of(path)
        if found is not None and found.stamp != version.stamp:
            self._files.give_time(path, version)
        return ""

    def _sha256(self, path: Path) -> str:
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            while block := stream.read(_BLOCK):
                self._pace.read(len(block))
                digest.update(block)
        return digest.hexdigest()

    def _being_written(self, path: Path) -> bool:
        try:
            found = path.stat()
        except OSError:
            return False
        return time.time() - max(found.st_mtime, found.st_ctime) < self._settle_s

    @staticmethod
    def _is_link(path: Path, kept: Path) -> bool:
        try:
            return path.samefile(kept)
        except OSError:
            return False

    # --- mending ------------------------------------------------------------------------

    def _mend(self, wrong: _Wrong) -> Fault:
        """Put a file back from a copy that has its hash; the image's lock is held."""
        try:
            mended = self._put_back(wrong)
        except (OSError, DamagedLabelError) as error:
            return replace(
                wrong.fault, found=f"{wrong.fault.found}, and cannot be mended ({error})"
            )
        return replace(wrong.fault, mended=mended)

    def _put_back(self, wrong: _Wrong) -> str:
        version, fault = wrong.version, wrong.fault
        if wrong.label is not None:
            path, kept = self._files.root / fault.file, self._files.file(version)
            if self._compare(path, version) == "" and fault.found != _LINK:
                return "it is right by now"
            if self._compare(kept, version):
                return ""  # what is in place may be all there is
            aside = ""
            if fault.found != _LINK and path.exists() and not self._is_kept(version.image, path):
                made = self.set_aside.put(
                    version.image, fault.tag, path, fault.found, version.sha256
                )
                aside = f"set aside as {made.file}, and "
            self._files.copy_in_place(version, fault.tag)
            return f"{aside}put back from {version.file}"
        source, told = self._copy_of(version)
        if source is None:
            return ""
        path = self._files.file(version)
        aside = ""
        if path.exists():
            made = self.set_aside.put(version.image, version.tag, path, fault.found, version.sha256)
            aside = f"set aside as {made.file}, and "
        self._files.inside(path.parent)
        with self._files.incoming(version.tag) as temporary:
            shutil.copyfile(source, temporary)
            if self._sha256(temporary) != version.sha256:
                raise DamagedLabelError(source, "changed while it was copied")
            os.utime(temporary, ns=(version.stamp.mtime_ns, version.stamp.mtime_ns))
            publish(temporary, path)
        return f"{aside}put back from {told}"

    def _is_kept(self, volume: str, path: Path) -> bool:
        """Return whether a file is an earlier version, which is kept, too."""
        found = self._index.find_label(volume, self._sha256(path))
        return found is not None and not self._compare(self._files.file(found), found)

    def _copy_of(self, version: LabelVersion) -> tuple[Path | None, str]:
        """Return a file that has a version's hash, and where it is from."""
        versions, current = self._index.labels_of(version.image)
        places = [self._files.path(version.image, one.tag, version.ext) for one in current]
        places += [self._files.file(one) for one in versions if one.sha256 == version.sha256]
        for path in places:
            if path.is_file() and self._sha256(path) == version.sha256:
                return path, str(path.relative_to(self._files.root))
        found = None if self._source is None else self._source(version.sha256)
        return found, "the backup"


_GONE = "is gone"
_CHANGED = "is not what it was: its hash is another"
_LINK = "is the kept file itself, by a hard link: whoever changes it changes both"


@dataclass(frozen=True)
class _Wrong:
    """A fault, the version that was to be there, and the label where it is one in place."""

    fault: Fault
    version: LabelVersion
    label: CurrentLabel | None
