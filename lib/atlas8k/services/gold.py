"""Measure each annotator by labels that the owner of a campaign knows.

Their CTs, gold cases, lie in the studies folder as all others; the labels lie elsewhere. The server
knows whose CTs they are (:mod:`atlas8k.store.gold`), mixes them in with each annotator's samples,
and reads the labels for measuring alone. What protects them from being told apart: an annotator
gets each once, sees nobody else's reading of it (:mod:`atlas8k.server.blind`), and is answered by
the code that answers of any other case. Annotators who compare their lists with each other can
tell one that several of them have read, and a reviewer sees all readings and gets none.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from atlas8k.core.errors import Atlas8kError, EvaluationError, SettingsError
from atlas8k.core.files import locked, read_json, sha256_of, write_json
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import NIFTI_SUFFIXES, read_label
from atlas8k.metrics.overlap import dsc
from atlas8k.metrics.surface import TOLERANCE_MM, nsd, tolerances
from atlas8k.reports.folders import onto_truth
from atlas8k.services.labels.reviews import Revision
from atlas8k.services.labels.service import LabelService
from atlas8k.services.overview import name_of
from atlas8k.store import BLIND

logger = logging.getLogger(__name__)

ASSESSED = ("confirmed", "revised", "absent")
READINGS = ("revise", *BLIND)
KEPT = "gold.json"
"""Beside the ledger: what was measured, by what it was measured of."""

Figures = dict[str, list[float]]
"""DSC and NSD by organ, of those that are in one of two labels."""


class GoldLine(NamedTuple):
    """How an annotator drew an organ in volumes whose label is known.

    ``dsc`` and ``nsd`` are means over the ``readings`` in which the organ was assessed and is in
    the known label or in the annotator's; 0 where it is in one of them only.
    """

    annotator: str
    organ: str
    readings: int
    dsc: float
    nsd: float


class GoldReader(NamedTuple):
    """How an annotator read gold cases: so many, the means over the organs' means, and by organ."""

    annotator: str
    readings: int
    dsc: float | None
    nsd: float | None
    organs: tuple[GoldLine, ...]


class GoldTable(NamedTuple):
    """What is known of all annotators.

    ``waiting`` readings are not measured yet; ``running``: they are being measured now.
    ``failed``: why some cannot be, by volume.
    """

    readers: tuple[GoldReader, ...]
    waiting: int
    running: bool
    failed: dict[str, str]


class GoldCases:
    """The gold cases of a campaign, and what is measured of their readings; once of each pair.

    Parameters
    ----------
    service
        The labels of the studies.
    known
        Folder of the known labels, ``NAME.nii.gz`` after their volumes.
    kept
        File of what was measured; made where missing.

    Raises
    ------
    EvaluationError
        There is no label of a volume of these studies in the folder, or it lies within them.
    """

    def __init__(
        self, service: LabelService, known: Path, kept: Path, tolerance_mm: float = TOLERANCE_MM
    ) -> None:
        self._service, self._kept, self._tolerance_mm = service, kept, tolerance_mm
        self.labels = dict(labels_in(known, service))
        self._hashes: dict[tuple[Path, int, int], str] = {}
        self._failed: dict[str, str] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ends = threading.Event()

    def close(self) -> None:
        """End measuring after the reading in work."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join()

    def table(self, *, names: bool) -> GoldTable:
        """Return what was measured so far, and have the rest measured in the background."""
        figures = read_json(self._kept)
        left = [(key, volume) for key, volume, _ in self._readings() if key not in figures]
        failed = {volume: self._failed[key] for key, volume in left if key in self._failed}
        waiting = sum(key not in self._failed for key, _ in left)
        with self._lock:
            running = self._thread is not None and self._thread.is_alive()
            if waiting and not running and not self._ends.is_set():
                self._thread = threading.Thread(target=self._measure, name="gold", daemon=True)
                self._thread.start()
                running = True
        return GoldTable(self._readers(figures, names), waiting, running, failed)

    def measured(self, *, names: bool) -> tuple[GoldReader, ...]:
        """Return every annotator's figures; what was not measured yet is measured first."""
        self._measure(raises=True)
        return self._readers(read_json(self._kept), names)

    def _measure(self, *, raises: bool = False) -> None:
        for key, volume, one in self._readings():
            if self._ends.is_set() or key in read_json(self._kept):
                continue
            assert one.file is not None
            try:
                found = compare(self.labels[volume], one.file, self._tolerance_mm)
            except (Atlas8kError, OSError) as err:
                if raises:
                    raise
                self._failed[key] = str(err).replace(f"{self.labels[volume].parent}/", "")
                logger.warning("%s: its reading cannot be measured: %s", volume, err)
                continue
            with locked(self._kept.with_suffix(".lock")):
                write_json(self._kept, {**read_json(self._kept), key: found})

    def _readings(self) -> Iterator[tuple[str, str, Revision]]:
        """Yield the first reading of each volume by each annotator, and the key of its figures.

        Who first corrects what another has drawn has not read it.
        """
        for volume, path in self.labels.items():
            if not self._service.ledger.is_known(volume):
                continue
            seen, drawn_on = set(), set()
            for one in self._service.reviews.history(volume):
                made, who = one.submission, one.submission.holder
                if made.purpose != "adopted":
                    drawn_on.add(made.id)
                reads = made.purpose in READINGS and made.restored is None
                # What crossed another's began without that.
                corrects = made.start_submission in drawn_on and not made.conflict
                if not reads or corrects or one.file is None or who in seen:
                    continue
                seen.add(who)
                drawn = made.sha256 or self._hash(one.file)
                yield (
                    f"{volume} {self._hash(path)} {drawn} {self._tolerance_mm:g}",
                    volume,
                    one,
                )

    def _hash(self, path: Path) -> str:
        stat = path.stat()
        key = path, stat.st_size, stat.st_mtime_ns
        if key not in self._hashes:
            self._hashes[key] = sha256_of(path)
        return self._hashes[key]

    def _readers(self, figures: dict[str, Figures], names: bool) -> tuple[GoldReader, ...]:
        order = self._service.ledger.annotators()
        found: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
        count: dict[str, int] = defaultdict(int)
        for key, _, one in self._readings():
            if key not in figures:
                continue
            who = one.submission.holder
            count[who] += 1
            for organ, pair in figures[key].items():
                if organ in one.organs and one.organs[organ].state in ASSESSED:
                    found[who][organ].append(pair)
        holders = sorted(count, key=lambda who: (who not in order, who))
        holders.sort(key=lambda who: order.index(who) if who in order else len(order))
        return tuple(
            _reader(name_of(who, order, names=names), count[who], found[who]) for who in holders
        )


def _reader(name: str, count: int, found: dict[str, list[list[float]]]) -> GoldReader:
    lines = tuple(
        GoldLine(name, organ, len(pairs), *(float(value) for value in np.mean(pairs, axis=0)))
        for organ in ORGAN_NAMES
        if (pairs := found.get(organ))
    )
    if not lines:
        return GoldReader(name, count, None, None, ())
    means = fmean(one.dsc for one in lines), fmean(one.nsd for one in lines)
    return GoldReader(name, count, *means, lines)


def compare(known: Path, drawn: Path, tolerance_mm: float = TOLERANCE_MM) -> Figures:
    """Return DSC and NSD by organ of a label beside the known one; 0 where one of them lacks it.

    Raises
    ------
    EvaluationError
        They are on different grids.
    """
    mine, truth = onto_truth(read_label(drawn), read_label(known))
    overlap = dsc(mine.array, truth.array)
    surface = nsd(mine.array, truth.array, truth.grid.spacing, tolerances(tolerance_mm))
    found = {}
    for number, organ in enumerate(ORGAN_NAMES, start=1):
        if np.isfinite(overlap[number - 1]):
            found[organ] = [float(overlap[number - 1]), float(surface[number - 1])]
        elif (mine.array == number).any():
            found[organ] = [0.0, 0.0]
    return found


def measure(
    service: LabelService,
    known: Path,
    *,
    names: bool = False,
    tolerance_mm: float = TOLERANCE_MM,
) -> list[GoldLine]:
    """Return every annotator's lines, in the order in which they came, by organ.

    Of several submissions of one volume by one person the first counts: it was made before
    anybody said what is wrong with it.

    Parameters
    ----------
    known
        Folder of the known labels, ``NAME.nii.gz`` after their volumes.
    names
        Show names in place of numbers.

    Raises
    ------
    EvaluationError
        There is no label of a volume of this ledger in the folder.
    """
    cases = GoldCases(service, known, service.ledger.path.parent / KEPT, tolerance_mm)
    return [line for one in cases.measured(names=names) for line in one.organs]


def open_gold(service: LabelService, known: Path, *, signed_in: bool) -> GoldCases:
    """Open the gold cases of a server, and have its store know their names.

    Raises
    ------
    SettingsError
        The folder cannot be used, or nobody signs in: then everybody may review, and would see
        them.
    """
    if not signed_in:
        raise SettingsError(
            f"--conf gold {known}: turn sign-in on (MONAI_LABEL_AUTH_ENABLE); without it everybody "
            "may see everybody's labels, and with them which cases are gold"
        )
    if not known.is_dir():
        raise SettingsError(f"--conf gold {known}: there is no such folder")
    try:
        cases = GoldCases(service, known, service.ledger.path.parent / KEPT)
    except EvaluationError as err:
        raise SettingsError(f"--conf gold {known}: {err.reason}") from err
    service.ledger.set_gold(cases.labels)
    return cases


def names_in(known: Path) -> list[str]:
    """Return whose known labels are in a folder, whatever volumes there are."""
    suffixes = ((one, path) for path in sorted(known.iterdir()) for one in NIFTI_SUFFIXES)
    return [path.name.removesuffix(one) for one, path in suffixes if path.name.endswith(one)]


def labels_in(known: Path, service: LabelService) -> Iterator[tuple[str, Path]]:
    """Yield volumes of the studies and their known labels, by name.

    Raises
    ------
    EvaluationError
        There is none, or the folder lies within the studies, where the server would find it.
    """
    if known.resolve().is_relative_to(service.folder.path.resolve()):
        raise EvaluationError(
            known, "lies within the studies folder: anybody could read it; move it out"
        )
    none, there = True, frozenset(service.folder.now().ids())
    for path in sorted(known.iterdir()) if known.is_dir() else ():
        suffix = next((one for one in NIFTI_SUFFIXES if path.name.endswith(one)), None)
        volume = path.name.removesuffix(suffix or "")
        if suffix and (volume in there or service.ledger.is_known(volume)):
            none = False
            yield volume, path
    if none:
        raise EvaluationError(known, "holds no label NAME.nii.gz of a volume of this ledger")
