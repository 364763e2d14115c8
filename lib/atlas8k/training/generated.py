"""Generate synthetic CTs as training cases: phantoms, and CTs painted on real bodies, by seed.

Each is generated once, at the embedded networks' spacing, and stored as a file. Those that a
training needs first are generated before it begins (:func:`make_missing`), the rest by a
second process, in the order of their use (:func:`make_in_background`). A case that is needed
before its file exists generates itself: the weights do not depend on who was first.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from filelock import FileLock

import abdomen_phantom as phantom
from abdomen_phantom import STANDARD, Phantom, Setting, generate
from abdomen_phantom.bodies import Body, paint_body, read_bodies, subjects
from abdomen_phantom.bodies.draw import BODIES
from atlas8k.core.errors import TrainingError
from atlas8k.core.files import publishing
from atlas8k.core.structure_sets import NINE
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, Volume
from atlas8k.core.voxels import renamed
from atlas8k.models.checkpoint import Preprocessing
from atlas8k.training.data import Prepared, prepare_case
from atlas8k.training.scratch import SPACING_MM

SETTINGS = {
    setting.name: setting for setting in vars(phantom).values() if isinstance(setting, Setting)
}
"""Settings of phantoms by name; a case crosses processes, and a setting cannot."""

MAKING = ".making"
BESIDE_NICE = 5
"""The process beside a training leaves the processor to it."""


def _table() -> npt.NDArray[np.uint8]:
    """Return the value in the set in use of each value that generators draw with."""
    table = np.zeros(256, dtype=np.uint8)
    for value, organ in enumerate(NINE, start=1):
        table[value] = ORGAN_IDS.get(organ, 0)
    return table


@dataclass(frozen=True)
class GeneratedCase(ABC):
    """A synthetic CT of a seed, kept as a file in a folder."""

    seed: int
    folder: Path
    pseudo_organs: ClassVar[tuple[str, ...]] = ()
    patient: ClassVar[str] = ""

    @property
    def known_organs(self) -> tuple[str, ...]:
        """Structures in use that generators draw; others are unknown."""
        return tuple(organ for organ in NINE if organ in ORGAN_IDS)

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the case, the same for the same CT."""

    @property
    @abstractmethod
    def version(self) -> int:
        """Version of the generator; another version has another file."""

    @property
    def path(self) -> Path:
        """File of the generated CT."""
        return self.folder / f"{self.name}_v{self.version}_{SPACING_MM:g}mm.npz"

    @abstractmethod
    def generate(self) -> Phantom:
        """Generate the CT and its truth at :data:`~atlas8k.training.scratch.SPACING_MM`."""

    def load(self, preprocessing: Preprocessing) -> Prepared:
        """Load it prepared for a network; generate it if its file is missing or damaged."""
        try:
            with np.load(self.path) as stored:
                ct, label, affine = stored["ct"], stored["label"], stored["affine"]
        except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile):
            ct, label, affine = self.make()
        grid = Grid(ct.shape, affine)
        label = renamed(label, _table())
        return prepare_case(
            self.name, Volume(ct, grid), Volume(label, grid), self.known_organs, preprocessing
        )

    def make(self) -> tuple[Any, Any, Any]:
        """Generate and store the CT; return ``ct`` int16, ``label`` uint8 and ``affine``."""
        phantom_ct = self.generate()
        arrays = phantom_ct.ct.array, phantom_ct.label.array, phantom_ct.ct.grid.affine
        with publishing(self.path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, ct=arrays[0], label=arrays[1], affine=arrays[2])
        return arrays


@dataclass(frozen=True)
class PhantomTrainingCase(GeneratedCase):
    """A phantom of the setting of that name."""

    kind: str = STANDARD.name

    @property
    def name(self) -> str:
        """``phantom_000012``, with the setting's name where it is not the standard one."""
        setting = "" if self.kind == STANDARD.name else f"{self.kind}_"
        return f"phantom_{setting}{self.seed:06d}"

    @property
    def version(self) -> int:
        """Version of its setting."""
        return SETTINGS[self.kind].version

    def generate(self) -> Phantom:
        """Generate the phantom."""
        return generate(self.seed, SETTINGS[self.kind], grid_spacing_mm=SPACING_MM)


@dataclass(frozen=True)
class BodyTrainingCase(GeneratedCase):
    """A CT painted on one of these subjects' maps, with organs of the others here and there."""

    bodies: Path
    subjects: tuple[str, ...]

    @property
    def name(self) -> str:
        """``body_000012_<hash of the subjects>``: other subjects, another CT."""
        return f"body_{self.seed:06d}_{zlib.crc32(' '.join(self.subjects).encode()):08x}"

    @property
    def version(self) -> int:
        """Version of the painter."""
        return BODIES.version

    def generate(self) -> Phantom:
        """Paint the CT."""
        return paint_body(_read(self.bodies, self.subjects), self.seed, grid_spacing_mm=SPACING_MM)


@lru_cache(maxsize=1)
def _read(folder: Path, names: tuple[str, ...]) -> list[Body]:
    """Read the bodies of a folder, once a process: seconds, and some 50 MB each."""
    return read_bodies(folder, names)


def body_cases(
    count: int, first_seed: int, folder: Path, bodies: Path, names: Sequence[str] = ()
) -> list[BodyTrainingCase]:
    """Return training cases of CTs painted on real bodies; none is generated yet.

    Parameters
    ----------
    count, first_seed
        Seeds ``first_seed`` to ``first_seed + count - 1``.
    bodies
        Folder of label maps, :func:`~abdomen_phantom.bodies.subjects`.
    names
        Names of the subjects; all in the folder where none is named.

    Raises
    ------
    VolumeError
        There are no such subjects.
    TrainingError
        `count` is below 1.
    """
    if count < 1:
        raise TrainingError(f"{count} painted CTs; give at least 1")
    known = subjects(bodies)
    missing = [name for name in names if name not in known]
    if missing:
        raise TrainingError(
            f"{bodies}: no subject {', '.join(missing)}; there are {', '.join(list(known)[:20])}"
        )
    chosen = tuple(names or known)
    folder.mkdir(parents=True, exist_ok=True)
    return [
        BodyTrainingCase(seed, folder, bodies, chosen)
        for seed in range(first_seed, first_seed + count)
    ]


def make_missing(
    cases: Sequence[GeneratedCase],
    processes: int = 1,
    on_case: Callable[[str], object] = str,
) -> None:
    """Generate the files of cases that have none yet.

    Parameters
    ----------
    processes
        Number of processes that generate them.
    on_case
        Called with the name of every case that is ready.
    """
    missing = [case for case in cases if not case.path.is_file()]
    for case in cases:
        if case not in missing:
            on_case(case.name)
    if min(processes, len(missing)) <= 1:
        for name in map(_make, missing):
            on_case(name)
        return
    # Forked processes inherit torch's thread pools in a state they cannot use.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for name in pool.map(_make, missing, chunksize=2):
            on_case(name)


def _make(case: GeneratedCase) -> str:
    if not case.path.is_file():
        case.make()
    return case.name


@contextmanager
def make_in_background(cases: Sequence[GeneratedCase]) -> Iterator[None]:
    """Generate missing files in a second process, in this order, while the block runs."""
    missing = [case for case in cases if not case.path.is_file()]
    if not missing:
        yield
        return
    process = get_context("spawn").Process(target=_make_all, args=(missing,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _make_all(cases: Sequence[GeneratedCase]) -> None:
    os.nice(BESIDE_NICE)
    with alone(cases[0].folder):
        for case in cases:
            _make(case)


def alone(folder: Path) -> FileLock:
    """Return a lock that keeps two trainings from generating CTs in a folder at once."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / MAKING)  # gone with the process that holds it
