"""Cache prepared volumes on disk, so that a CT is resampled once a training, not once an epoch.

Three networks that work on one grid share a file, and so do the measurements between
epochs. Where not all volumes fit into memory, the next ones are read instead of resampled.
MONAI's PersistentDataset has no bound on its size, and unpickles any file in its folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atlas8k.core.files import publishing
from atlas8k.models.checkpoint import Preprocessing
from atlas8k.training.data import Case, Loadable, Prepared, TrainingCase

logger = logging.getLogger(__name__)

SUFFIX = ".prepared.npz"
RESERVE = 5_000_000_000
"""Bytes that stay free on the disk, for labels above all."""


@dataclass
class PreparedCache:
    """A folder of prepared volumes, of bounded size.

    Parameters
    ----------
    folder
        Made when the first volume is stored.
    limit
        Bytes; what does not fit is prepared anew each time.
    """

    folder: Path
    limit: float
    _off: bool = field(default=False, repr=False)

    def store(self, path: Path, prepared: Prepared) -> None:
        """Write a volume, complete or not at all; a full disk stops caching, not training."""
        if self._off or self.used_bytes() + prepared.nbytes > self.limit:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free - prepared.nbytes < RESERVE:
                return
            with publishing(path) as temporary, open(temporary, "wb") as stream:
                np.savez(stream, **_arrays(prepared))
        except OSError as error:
            self._off = True
            logger.warning("prepared volumes are not cached any more: %s", error)

    def used_bytes(self) -> int:
        """Return the size of all stored volumes, bytes."""
        try:
            return sum(entry.stat().st_size for entry in os.scandir(self.folder))
        except OSError:
            return 0


@dataclass(frozen=True)
class CachedCase:
    """A case whose prepared volume is read from the cache, and prepared and stored otherwise."""

    case: TrainingCase
    cache: PreparedCache

    @property
    def name(self) -> str:
        """Name of the volume."""
        return self.case.name

    def load(self, preprocessing: Preprocessing) -> Prepared:
        """Load the prepared volume, as :meth:`TrainingCase.load` does."""
        path = self.cache.folder / f"{self._key(preprocessing)}{SUFFIX}"
        try:
            with np.load(path) as stored:
                return _prepared(stored)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s is made anew: %s", path, error)
        prepared = self.case.load(preprocessing)
        self.cache.store(path, prepared)
        return prepared

    def _key(self, preprocessing: Preprocessing) -> str:
        """Return a hash of the files, the labeled organs, the grid and the intensities."""
        files = [self.case.ct_path]
        if not self.case.content:
            files += [path for path in (self.case.label_path, self.case.ignore_path) if path]
        stated = [self.case.orientation] if self.case.orientation else []
        stats = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        label = (self.case.content, self.case.known_organs, self.case.pseudo_organs)
        grid = (preprocessing.spacing_mm, preprocessing.hu_window)
        text = repr((self.case.name, files, stats, label, grid, *stated))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def cached(cases: Sequence[Case], cache: PreparedCache | None) -> list[Loadable]:
    """Return the cases; those of files load through the cache."""
    if cache is None or cache.limit <= 0:
        return list(cases)
    return [CachedCase(case, cache) if isinstance(case, TrainingCase) else case for case in cases]


def _arrays(prepared: Prepared) -> dict[str, Any]:
    points = {f"points_{organ}": points for organ, points in prepared.points.items()}
    tensors = ("image", "label", "known", "pseudo")
    return {**{key: getattr(prepared, key).numpy() for key in tensors}, **points}


def _prepared(stored: Any) -> Prepared:
    tensors = {k: torch.from_numpy(stored[k]) for k in ("image", "label", "known", "pseudo")}
    names = [key for key in stored.files if key.startswith("points_")]
    return Prepared(**tensors, points={int(key[7:]): stored[key] for key in sorted(names)})
