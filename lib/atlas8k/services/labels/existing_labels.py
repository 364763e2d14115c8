"""Labels that lie in ``labels/final`` and came by no client: imported, or set aside.

They come from an earlier use of the folder, by stock MONAI Label for instance. Each passes
the checks of a submission and those of :mod:`atlas8k.labels.plausibility` before it counts as
anything; what fails is moved to ``labels/rejected`` with the reason.

A check takes a second or two, so a server does them beside the requests: what is to be
checked is held back from the catalogue first, which is quick. A killed process leaves each
label either as it was or done with, and the next start goes on with the rest.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import (
    Atlas8kError,
    GridMismatchError,
    LabelNameError,
    LabelValueError,
    VolumeError,
)
from atlas8k.core.files import locked, only_one, sha256_of
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS, find_organ
from atlas8k.core.volume import NIFTI_SUFFIXES, read_grid, read_label, write_nifti
from atlas8k.core.voxels import renamed
from atlas8k.labels.plausibility import find_impossible, findings_text
from atlas8k.labels.provenance import Provenance, read_provenance
from atlas8k.services.errors import NotFoundError
from atlas8k.services.labels.reconcile import Reconciler
from atlas8k.services.labels.submissions import IMPORTED_BY, Prepared, Submissions
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.rejected import Rejected, RejectedLabels
from atlas8k.services.studies.stock import StockLabel, stock_labels
from atlas8k.store import Holder, Submission

logger = logging.getLogger(__name__)

IMPORTED = "imported"
"""Folder of the history with the files as they were found."""

_DRAWN = ("confirmed", "revised")
_OPEN = ("open", "leased")
_NOTHING = StockLabel({}, None, None)
_ACCEPT = "atlas8k labels accept"
TELL_S = 60.0
"""How often the log says how far the checks are."""


@dataclass(frozen=True)
class Reading:
    """How a label is to be read that did not pass as it is.

    Attributes
    ----------
    values
        Organ by raw value, ``""`` for none; ``None``: as the file or its client says.
    force
        Take it although its organs are anatomically impossible, it says of itself that
        networks made it, or its header is up to one voxel off the CT's.
    """

    values: Mapping[int, str] | None = None
    force: bool = False


AS_IT_IS = Reading()


class ExistingLabels:
    """What ``labels/final`` of a studies folder holds that the ledger does not know.

    Parameters
    ----------
    submissions
        What books them.
    reconciler
        Locks a volume's labels, and makes files what the ledger says.
    """

    def __init__(
        self,
        folder: StudiesFolder,
        submissions: Submissions,
        reconciler: Reconciler,
    ) -> None:
        self._folder, self._ledger = folder, folder.ledger
        self._submissions, self._reconciler = submissions, reconciler
        self.rejected = RejectedLabels(folder.labels)
        self._lock = folder.ledger.path.parent / "existing-labels.lock"
        self._one_at_a_time = threading.Lock()
        self._pending: dict[str, None] = {}
        self._total = 0
        self._stock: Mapping[str, StockLabel] = {}

    def hold_back(self) -> int:
        """Find what is to be checked; return how many.

        It counts nowhere in this process from now on.
        """
        known = self._ledger.statuses()
        volumes = [
            volume
            for volume in self._folder.now().ids_by_label(FINAL, labeled=True)
            if known.get(volume, "open") in _OPEN
            and not (volume in known and self._ledger.submissions(volume))
        ]
        if volumes:
            self._ledger.add_volumes(volumes)
            self._folder.catalogue.hold_back(volumes)
            self._stock = stock_labels(self._folder.path, FINAL)
        with self._one_at_a_time:
            self._pending, self._total = dict.fromkeys(volumes), len(volumes)
        return len(volumes)

    def start(self) -> threading.Thread:
        """Finish what killed processes began and import, beside the requests.

        After an upgrade, or over a folder with labels, every label is to be done. What is
        yet to be checked counts nowhere when this returns.
        """
        self.hold_back()

        def run() -> None:
            self._reconciler.recover()
            self.import_held_back()

        thread = threading.Thread(target=run, name="labels", daemon=True)
        thread.start()
        return thread

    def progress(self) -> tuple[int, int]:
        """Return how many are checked, of how many; both 0 where nothing is to be checked."""
        left, total = len(self._pending), self._total
        return (total - left, total) if left else (0, 0)

    def import_all(self) -> int:
        """Import or set aside every such label; return how many were imported.

        One process does it at a time: where another one is at it, none is imported here.
        """
        with only_one(self._lock) as alone:
            if not alone:
                logger.info("another process checks the labels of labels/final")
                return 0
            self.hold_back()
            return self._check_all()

    def import_held_back(self) -> int:
        """As :meth:`import_all` after :meth:`hold_back`, once no other process is at it."""
        with locked(self._lock):
            return self._check_all()

    def _check_all(self) -> int:
        if not self._total:
            return 0
        logger.info("%d labels are in labels/final already; each is checked", self._total)
        found: Counter[bool | None] = Counter()
        told = time.monotonic()
        for volume in list(self._pending):
            found[self.check(volume)] += 1
            time.sleep(0)  # let threads that answer somebody go first
            if time.monotonic() > told + TELL_S:
                logger.info("%d of %d labels of labels/final are checked", *self.progress())
                told = time.monotonic()
        logger.info(
            "%d labels of labels/final were imported, %d were set aside in labels/rejected"
            " (atlas8k labels rejected)",
            found[True],
            found[False],
        )
        return found[True]

    def check(self, volume: str) -> bool | None:
        """Check a label that is held back now; as :meth:`_import`, ``None`` where none is."""
        with self._one_at_a_time:
            if volume not in self._pending:
                return None
            try:
                return self._import(volume, self._stock.get(volume, _NOTHING))
            except Exception:  # whatever it is, the others are checked
                logger.exception("%s: its label cannot be checked", volume)
                return None
            finally:
                del self._pending[volume]

    def _import(self, volume: str, stock: StockLabel) -> bool | None:
        """Return whether a volume's label was imported; ``None``: nothing was done with it."""
        if self._ledger.submissions(volume):
            self._folder.catalogue.let_in(volume)
            return None  # of somebody who was quicker
        row = self._folder.label(volume, FINAL)
        if row is None or row.ext is None:
            return None
        path = self._folder.labels.path(volume, FINAL, row.ext)
        params = dict(stock.params)
        try:
            self._ct_grid(volume)  # a CT that cannot be read is no fault of its label
            before = sha256_of(path)
            ready, at = self._prepare(volume, path, params, stock, AS_IT_IS)
        except VolumeError as error:
            if error.path == str(self._ct(volume)):
                logger.error("%s: its label is not checked: %s", volume, error)
                return None
            return self._set_aside(volume, row.ext, error.reason, params)
        except (Atlas8kError, OSError) as error:
            logger.error("%s: its label cannot be checked: %s", volume, error)
            return None
        with self._reconciler.lock(volume):
            if self._ledger.submissions(volume) or sha256_of(path) != before:
                self._folder.catalogue.let_in(volume)
                return None  # somebody was quicker
            with self._folder.labels.lock(volume):
                self._folder.labels.keep_foreign_files(volume, FINAL, under=IMPORTED)
            booked = self._submissions.record(ready, adopted=True, at=at)
        logger.info("%s: the label in the folder is submission %d", volume, booked.id)
        return True

    def _set_aside(self, volume: str, ext: str, reason: str, info: Mapping[str, Any]) -> bool:
        with self._reconciler.lock(volume), self._folder.labels.lock(volume):
            made = self.rejected.put(volume, FINAL, ext, reason, info)
        self._folder.now().let_in(volume)
        shown = made.path.relative_to(self._folder.path)
        logger.warning("%s: its label was set aside as %s: %s", volume, shown, reason)
        return False

    def accept(self, volume: str, reading: Reading = AS_IT_IS) -> Submission:
        """Make a submission of a label that was set aside; its file stays there.

        Raises
        ------
        NotFoundError
            None of that volume is there.
        VolumeError
            It fails the checks as before; the reason says what else to give.
        """
        one = self.rejected.find(volume)
        if one is None:
            raise NotFoundError("label in labels/rejected of image", volume)
        ready, at = self._prepare(volume, one.path, one.info, _NOTHING, reading)
        with self._reconciler.lock(volume):
            booked = self._submissions.record(ready, adopted=True, at=at)
            self.rejected.note_accepted(one, booked.id)
        return booked

    def waiting(self) -> list[Rejected]:
        """Return labels that were set aside and nobody has accepted."""
        return self.rejected.waiting()

    # --- checks -------------------------------------------------------------------------

    def _prepare(
        self,
        volume: str,
        path: Path,
        params: Mapping[str, Any],
        stock: StockLabel,
        reading: Reading,
    ) -> tuple[Prepared, float | None]:
        """Understand a label and check it; return what is to be booked, and when it was made."""
        stated = _stated(path)
        if stated is not None and stated.kind != "submission" and not reading.force:
            raise LabelNameError(path, _not_drawn(volume, stated))
        holder, at, more = _maker(stated, stock)
        with tempfile.TemporaryDirectory(prefix="atlas8k-label-") as scratch:
            file = _reread(path, self._ct_grid(volume), stated, reading, Path(scratch))
            sent = {**params, **more}
            if reading.force:
                sent["volume_is_right"] = list(ORGAN_IDS)
            if reading.values is not None:
                sent.pop("label_info", None)
            try:
                ready = self._submissions.prepare(volume, file, holder, sent)
            except VolumeError as error:
                advice = _advice(volume, error)
                raise type(error)(path, f"{error.reason}{advice}") from error
        if not reading.force:
            drawn = [
                o
                for o, change in ready.organs.items()
                if change.state in _DRAWN or change.drawn_unassessed
            ]
            gone = [o for o, change in ready.organs.items() if change.state == "absent"]
            table = np.zeros(256, np.uint8)
            table[[ORGAN_IDS[o] for o in drawn]] = [ORGAN_IDS[o] for o in drawn]
            found = find_impossible(renamed(ready.array, table), ready.grid, gone)
            if found:
                raise LabelValueError(
                    path,
                    f"{findings_text(found)}. Where its numbers mean other organs: {_ACCEPT} "
                    f"{volume} --map 1=liver,2=none,…; where it is right: {_ACCEPT} {volume} "
                    "--force",
                )
        if stated is not None:  # what an older rule has confirmed stays marked
            notes = {o: change.note for o, change in stated.changes.items() if change.note}
            organs = {
                organ: change._replace(note=notes[organ])
                if change.state == "confirmed" and organ in notes
                else change
                for organ, change in ready.organs.items()
            }
            ready = dataclasses.replace(ready, organs=organs)
        return ready, at

    def _ct(self, volume: str) -> Path:
        return self._folder.path / self._folder.known_image(volume).path

    def _ct_grid(self, volume: str) -> Grid:
        return read_grid(self._ct(volume))


def _stated(path: Path) -> Provenance | None:
    """Return what a file says of itself, where it can say anything."""
    return read_provenance(path) if path.name.endswith(NIFTI_SUFFIXES) else None


def _not_drawn(volume: str, stated: Provenance) -> str:
    if stated.kind == "public":
        how = "bring it with `atlas8k labels import`"
    else:
        how = f"where somebody has looked at it: {_ACCEPT} {volume} --force"
    return f"it says of itself that it is a {stated.kind} label, nobody's own work; {how}"


def _maker(
    stated: Provenance | None, stock: StockLabel
) -> tuple[Holder, float | None, dict[str, Any]]:
    """Return who made a label and when, and what it says of its organs."""
    if stated is not None and stated.kind == "submission" and stated.holder:
        states = {organ: change.state for organ, change in stated.changes.items()}
        more = {
            "absent": [organ for organ, state in states.items() if state == "absent"],
            "looked_at": [organ for organ, state in states.items() if state == "confirmed"],
            "volume_is_right": [organ for organ, state in states.items() if state in _DRAWN],
        }
        return Holder(stated.holder, stated.anonymous), stated.at, more
    named = Holder.identify(client_id=stock.client)
    return IMPORTED_BY if named.anonymous else named, stock.at, {}


def _reread(
    path: Path, ct: Grid, stated: Provenance | None, reading: Reading, scratch: Path
) -> Path:
    """Return the file to read: other values, onto the CT's grid, without what was left."""
    submitted = stated is not None and stated.kind == "submission"
    if not (reading.force or submitted or reading.values is not None):
        return path
    if not path.name.endswith(NIFTI_SUFFIXES):
        if reading.values is not None:
            raise LabelNameError(
                path, "segments have names, which a mapping of values cannot change"
            )
        return path
    label = read_label(path)
    array, grid = label.array, label.grid
    if reading.values is not None:
        array = _mapped(path, array, reading.values)
    if submitted and stated is not None and stated.changes:
        # What its annotator has not touched is as the draft label had it.
        kept = np.zeros(256, np.uint8)
        for organ, change in stated.changes.items():
            if change.state in _DRAWN:
                kept[ORGAN_IDS[organ]] = ORGAN_IDS[organ]
        array = renamed(array, kept)
    if reading.force and _almost(grid, ct):
        grid = ct
    return write_nifti(scratch / "label.nii", array, grid)


def _mapped(
    path: Path, array: npt.NDArray[np.uint8], values: Mapping[int, str]
) -> npt.NDArray[np.uint8]:
    there = {int(v) for v in np.unique(array)} - {0}
    if strange := sorted(there - values.keys()):
        raise LabelValueError(
            path, f"value {', '.join(map(str, strange))} is not in the mapping; name it, or none"
        )
    table = np.zeros(256, np.uint8)
    for value, organ in values.items():
        table[value] = ORGAN_IDS.get(organ, 0)
    return renamed(array, table)


def _almost(label: Grid, ct: Grid) -> bool:
    """Return whether two grids have the same voxels but for less than one voxel's shift."""
    if label.shape != ct.shape or label.orientation != ct.orientation:
        return False
    corners = np.array(list(product(*((0, n - 1) for n in ct.shape)))).T
    gap = np.linalg.solve(ct.affine, label.affine @ np.vstack([corners, np.ones(8)]))[:3] - corners
    return bool(np.abs(gap).max() < 1.0)


def _advice(volume: str, error: VolumeError) -> str:
    if isinstance(error, GridMismatchError):
        return f". Where only its header is off, by less than a voxel: {_ACCEPT} {volume} --force"
    if isinstance(error, LabelValueError | LabelNameError):
        return f". Say what its values are: {_ACCEPT} {volume} --map 1=liver,2=none,…"
    return ""


def parse_values(parts: Sequence[str]) -> dict[int, str]:
    """Return a mapping of values to organs, of texts such as ``5=liver`` or ``6=none``.

    Raises
    ------
    ValueError
        Names the part that is none.
    """
    found = {}
    for part in parts:
        value, _, name = part.partition("=")
        organ = find_organ(name)
        none = name.strip().lower() in ("none", "background", "")
        if not value.strip().isdigit() or not 1 <= int(value) <= 255 or not (organ or none):
            raise ValueError(f"{part!r}: VALUE=ORGAN is needed, such as 5=liver or 6=none")
        found[int(value)] = organ.name if organ else ""
    return found
