"""What lies in a folder, re-read only after it has changed."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from atlas8k.volume import NIFTI_SUFFIXES

SETTLED_NS = 2_000_000_000
"""A listing taken this soon after the folder's last change is not trusted: file systems
stamp folders with clock ticks, and another change within the same tick leaves no trace."""


@dataclass(frozen=True)
class NiftiFile:
    """One image or label file; `id` names it in every request."""

    id: str
    path: Path
    ext: str

    @property
    def name(self) -> str:
        """File name that is unique in the folder, also for ``case/ct.nii.gz``."""
        return self.id + self.ext


def split_suffix(name: str) -> tuple[str, str] | None:
    """``("case", ".nii.gz")`` for ``"case.nii.gz"``, ``None`` where it is no NIfTI name."""
    for suffix in NIFTI_SUFFIXES:
        if name.endswith(suffix) and len(name) > len(suffix) and not name.startswith("."):
            return name.removesuffix(suffix), suffix
    return None


class Listing:
    """NIfTI files of a folder by id: ``case.nii.gz``, ``case.nii`` and, with `tree`,
    ``case/ct.nii.gz``. Safe to use from several threads.

    Where two files claim one id, the first of that order is taken and the others are
    in :attr:`shadowed`.
    """

    def __init__(self, folder: Path, *, tree: bool = False) -> None:
        self.folder = folder
        self.shadowed: list[Path] = []
        self._tree = tree
        self._files: dict[str, NiftiFile] = {}
        self._stamp = -1
        self._waiting: list[Path] = []
        self._lock = threading.Lock()

    def files(self) -> dict[str, NiftiFile]:
        """The files by id, sorted; a new dict after a change, the same one otherwise."""
        with self._lock:
            try:
                changed = self.folder.stat().st_mtime_ns
            except FileNotFoundError:
                self._files, self._stamp = {}, -1
                return self._files
            settled = changed + SETTLED_NS < time.time_ns()
            # A case folder exists before its CT does; filling it leaves the parent's stamp.
            filled = any((folder / "ct.nii.gz").is_file() for folder in self._waiting)
            if self._stamp != changed or filled:
                self._read()
                self._stamp = changed if settled else -1
            return self._files

    def _read(self) -> None:
        found: list[NiftiFile] = []
        waiting: list[Path] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                parts = split_suffix(entry.name)
                if parts is not None:
                    found.append(NiftiFile(parts[0], Path(entry.path), parts[1]))
                elif self._tree and not entry.name.startswith(".") and entry.is_dir():
                    inner = Path(entry.path) / "ct.nii.gz"
                    if inner.is_file():
                        found.append(NiftiFile(entry.name, inner, ".nii.gz"))
                    elif entry.name != "labels":
                        waiting.append(Path(entry.path))
        found.sort(key=lambda f: (f.id, f.path.parent != self.folder, f.ext != ".nii.gz"))
        files: dict[str, NiftiFile] = {}
        shadowed: list[Path] = []
        for file in found:
            if file.id in files:
                shadowed.append(file.path)
            else:
                files[file.id] = file
        self._files, self._waiting, self.shadowed = files, waiting, shadowed
