"""What is drawn on the page of a case, kept on the server until it is submitted.

A drawing is a label file in ``drawings`` beside the store, and a row that names it: a new file is
there before the row names it, and the one before goes a minute afterwards, so that a server killed
at any moment leaves one of the two whole, and a backup finds what the store that it has copied
names. Beside each lies what the row says, from which a store that is made anew has it. It belongs
to one person, who finds it wherever they go on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas8k.core.errors import GridMismatchError, LedgerError
from atlas8k.core.files import copy_whole, read_json, sha256_of, write_json
from atlas8k.core.parts import Part, whole
from atlas8k.core.volume import read_grid, write_nifti
from atlas8k.services.case_parts import pasted
from atlas8k.services.context import Context
from atlas8k.services.errors import ConflictError
from atlas8k.store import Drawing

logger = logging.getLogger(__name__)

FOLDER = "drawings"
"""Beside the store."""
LEFT_OVER_S = 3600.0
"""A file that no row names and that is older than this was left by a server that was killed."""
REPLACED_S = 60.0
"""How long the file of the version before stays."""
NOTE = ".json"
"""What the row says is in a file of the label's name and this."""


class Drawings:
    """The drawings of one person.

    Parameters
    ----------
    holders
        The keys of who asks; new drawings go by the first.
    """

    def __init__(self, context: Context, holders: Sequence[str]) -> None:
        self._context, self._ledger, self._holders = context, context.ledger, list(holders)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._context.state / FOLDER

    def find(self, image: str) -> Drawing | None:
        """Return what this person has drawn of a volume; None where nothing is kept."""
        found = self._ledger.drawing(image, self._holders)
        return found if found is not None and self.file(found).is_file() else None

    def all(self) -> list[Drawing]:
        """Return what this person has drawn and not submitted, the latest first."""
        return [one for one in self._ledger.drawings(self._holders) if self.file(one).is_file()]

    def file(self, drawing: Drawing) -> Path:
        """Return the label file of a drawing."""
        return self.folder / drawing.file

    def current(self, image: str) -> Path | None:
        """Return the file of a drawing on the CT as it is now; None where there is none."""
        found = self.find(image)
        if found is None or found.fingerprint != self._context.studies.fingerprint(image):
            return None
        return self.file(found)

    def save(
        self,
        image: str,
        sent: Path | None,
        *,
        version: int,
        fingerprint: str,
        said: Mapping[str, Any],
        part: Part | None = None,
        begun: Path | None = None,
    ) -> Drawing:
        """Keep a drawing.

        Parameters
        ----------
        sent
            The label, on the CT's grid or on a block of it; None: what was drawn before stays,
            and what is said of the organs is new.
        version
            Of the drawing that this one goes on from, 0 for none.
        fingerprint
            Of the CT that it was drawn on.
        said
            What is said of the organs so far; JSON-ready.
        part
            The block of the CT that `sent` covers; None: it covers all.
        begun
            The label that the case began with: around the block that is drawn first, it stays.

        Raises
        ------
        ConflictError
            The case was never in this person's hands; another tab or computer has saved
            meanwhile; the CT is not the one it was drawn on.
        NotFoundError
            The CT is gone.
        GridMismatchError
            It is not on the CT's grid, or on the block.
        """
        context, before = self._context, self.find(image)
        ct = context.studies.image_path(image)
        held = any(
            one.volume == image and one.holder in self._holders for one in self._ledger.leases()
        )
        if before is None and not held:
            raise ConflictError(
                f"{image}: is not in your hands (submitted, given back, run out, or somebody "
                "else's); take it before you draw"
            )
        if fingerprint != context.studies.fingerprint(image):
            raise ConflictError(
                f"{image}: the CT was replaced since you opened it, and what you drew belongs to "
                "the one before; download it, then open the case again"
            )
        grid = read_grid(ct)
        as_sent = sent if part is None else None
        if as_sent is not None and read_grid(as_sent, block=True).shape != grid.shape:
            raise GridMismatchError(f"drawing of {image}", "it has not the shape of the CT")
        if version != (before.version if before is not None else 0):
            raise stale(image, before)
        if before is None:
            self._forget_lost(image)
        holder = before.holder if before is not None else self._holders[0]
        name = f"{uuid.uuid4().hex}.nii.gz"
        kept = self.folder / name
        try:
            if as_sent is not None:
                copy_whole(as_sent, kept)
            else:
                around = self.current(image) or begun
                array = pasted(sent, part or whole(grid.shape), grid, around)
                write_nifti(kept, array, grid.served)
            row: dict[str, Any] = {
                "version": version + 1,
                "file": name,
                "sha256": sha256_of(kept),
                "fingerprint": fingerprint,
                "said": dict(said),
            }
            note = {"volume": image, "holder": holder, "saved_at": time.time(), **row}
            write_json(_note_of(kept), note)
            taken = self._ledger.save_drawing(image, holder, **row)
        except BaseException:
            # The store may have it all the same: what failed may have come after the transaction.
            with contextlib.suppress(LedgerError):
                if name not in self._ledger.drawing_files():
                    _remove(kept)
            raise
        if not taken:  # by a save at the same moment
            _remove(kept)
            raise stale(image, self.find(image))
        self._clear(before)
        found = self._ledger.drawing(image, [holder])
        assert found is not None
        return found

    def discard(self, image: str) -> None:
        """Forget what this person has drawn of a volume."""
        for holder in self._holders:
            self._ledger.remove_drawing(image, holder)
        for note in self.folder.glob(f"*{NOTE}"):  # or a store that is made anew had it again
            with contextlib.suppress(OSError, ValueError):
                said = read_json(note)
                if said.get("volume") == image and said.get("holder") in self._holders:
                    _remove(note.with_name(note.name.removesuffix(NOTE)))
        self._clear(None)

    def _clear(self, before: Drawing | None) -> None:
        """Remove the files that no row names: that of the version before, and left-overs."""
        now = time.time()
        if before is not None:
            for path in (self.file(before), _note_of(self.file(before))):
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path, (now, now - LEFT_OVER_S + REPLACED_S))
        named = self._ledger.drawing_files()
        for path in self.folder.glob("*"):
            try:
                gone = path.name.removesuffix(NOTE) not in named
                if gone and path.stat().st_mtime < now - LEFT_OVER_S:
                    path.unlink()
            except FileNotFoundError:
                continue

    def _forget_lost(self, image: str) -> None:
        """Remove a row whose file is gone, as after a restore: one begins anew."""
        lost = self._ledger.drawing(image, self._holders)
        if lost is not None and not self.file(lost).is_file():
            self._ledger.remove_drawing(image, lost.holder)


def _note_of(label: Path) -> Path:
    return label.with_name(label.name + NOTE)


def _remove(label: Path) -> None:
    label.unlink(missing_ok=True)
    _note_of(label).unlink(missing_ok=True)


def noted(folder: Path) -> list[tuple[Drawing, Path]]:
    """Return the drawings whose files are whole, by what lies beside each; the last of each person.

    Parameters
    ----------
    folder
        Where drawings lie.
    """
    found: dict[tuple[str, str], tuple[Drawing, Path]] = {}
    for path in sorted(folder.glob(f"*{NOTE}")):
        label = path.with_name(path.name.removesuffix(NOTE))
        try:
            drawing = Drawing(**read_json(path))
            whole = label.name == drawing.file and sha256_of(label) == drawing.sha256
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s: is no note of a drawing, or its label is gone (%s)", path, error)
            continue
        key = (drawing.volume, drawing.holder)
        if whole and (key not in found or found[key][0].version < drawing.version):
            found[key] = drawing, label
    return list(found.values())


def stale(image: str, now: Drawing | None) -> ConflictError:
    """Return why a drawing does not go on from the version that is kept now."""
    if now is None:
        return ConflictError(
            f"{image}: what you drew was submitted or discarded in another tab or on another "
            "computer; what this one shows is not saved"
        )
    return ConflictError(
        f"{image}: another tab or computer has saved version {now.version} of what you draw; "
        "what this one shows is not saved over it"
    )
