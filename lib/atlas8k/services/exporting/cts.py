"""Put a volume's CT beside its labels: linked, copied with a bare header, or as a DICOM series."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas8k.core.errors import VolumeError
from atlas8k.core.files import sha256_of
from atlas8k.core.grid import Grid
from atlas8k.core.rewriting import is_bare, rewrite
from atlas8k.core.volume import read_ct
from atlas8k.labels.licences import Purpose, forbids, registered
from atlas8k.services.exporting import dicom
from atlas8k.services.exporting.selection import Wanted
from atlas8k.services.studies.folder import StudiesFolder


class NotExportedError(VolumeError):
    """A volume is left out; the message is the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__("", reason)

    def __str__(self) -> str:
        return self.reason


class CtWriter:
    """Puts CTs into an export.

    Parameters
    ----------
    work
        Folder of the export as it is written.
    how
        ``none``, ``link`` or ``copy``.
    purpose, maps
        See :class:`~atlas8k.services.exporting.export.ExportSettings`.

    Attributes
    ----------
    writing
        Files of the CT that was put last.
    """

    def __init__(
        self, folder: StudiesFolder, work: Path, how: str, purpose: Purpose, maps: str | None
    ) -> None:
        self._folder, self._work, self._how = folder, work, how
        self._purpose, self._maps = purpose, maps
        self.writing: list[Path] = []

    def sha256(self, volume: str) -> str:
        """Return the hash of the study's own file, hex."""
        own = self._folder.images.checksum(volume, self._folder.known_image(volume))
        return own.removeprefix("SHA256:")

    def put(self, one: Wanted, ct: Path, grid: Grid, name: str) -> dict[str, Any]:
        """Put a CT to a place below the export; return what the manifest says of it."""
        said: dict[str, Any] = {"sha256": self.sha256(one.volume)}
        self.writing = []
        if self._how == "none":
            return said
        source = registered(one.record.get("dataset"), self._maps)
        if why := forbids(source, self._purpose, adapted=False):
            return {**said, "left_out": why}
        target = self._work / name
        self.writing = [target]
        target.parent.mkdir(parents=True, exist_ok=True)
        served = self._folder.served_image(one.volume)
        plain = self._folder.path / served.path == ct and ct.name.endswith(".nii.gz")
        target.unlink(missing_ok=True)
        if plain and is_bare(ct):
            if self._how == "link":
                target.symlink_to(ct)
                return {**said, "file": name, "how": "link"}
            shutil.copyfile(ct, target)
            return {**said, "file": name, "how": "copy"}
        if why := forbids(source, self._purpose, adapted=True):
            return {**said, "left_out": why}
        rewrite(ct, target, grid.served, bare=True)
        return {**said, "file": name, "how": "bare copy", "file_sha256": sha256_of(target)}

    def put_series(
        self, one: Wanted, ct: Path, name: str, identity: dicom.Identity
    ) -> dict[str, Any]:
        """Put a CT as a new DICOM series into a folder below the export.

        Raises
        ------
        NotExportedError
            Its licence forbids it: a DICOM SEG object would refer to nothing.
        VolumeError
            It cannot be read, or its grid is sheared.
        """
        source = registered(one.record.get("dataset"), self._maps)
        if why := forbids(source, self._purpose, adapted=True):
            raise NotExportedError(f"its CT may not be passed on as a DICOM series: {why}")
        volume = read_ct(ct)
        self.writing = [
            self._work / file for file in dicom.series_files(name, volume.grid.shape[2])
        ]
        slices = dicom.write_ct(self._work / name, volume, identity)
        return {
            "sha256": identity.ct_sha256,
            "folder": name,
            "slices": slices,
            "series": identity.series,
            "how": "DICOM series",
        }


def ct_files(said: Mapping[str, Any]) -> list[str]:
    """Return the files of a CT below the export, by what :meth:`CtWriter.put` said of it."""
    if "folder" in said:
        return dicom.series_files(said["folder"], said["slices"])
    return [said["file"]] if "file" in said else []
