"""A change of a volume's labels, whole or not at all, and files put in place after it.

Files come first: they are written under their hash, where nobody looks for them. One
transaction then enters them and says what is current. ``labels/final`` and ``labels/original``
are made of what it says, at once, or by whoever asks next where a process was killed before.
"""

from __future__ import annotations

import contextlib
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from atlas8k.core.errors import Atlas8kError
from atlas8k.core.files import locked
from atlas8k.services.errors import ConflictError, NotFoundError
from atlas8k.services.labels.drafts import PSEUDO, PUBLIC, DraftLabels, DraftPlan, Drawn
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL, StudiesFolder
from atlas8k.store import Ledger, OrganSource, label_files
from atlas8k.store.transaction import Transaction

logger = logging.getLogger(__name__)
T = TypeVar("T")

_TAGS = (FINAL, ORIGINAL, PSEUDO, PUBLIC)
_TRIES = 5
_TO_REMAKE, _NOT_RECORDED = "labels_to_remake", "submissions_not_recorded"
"""What an upgrade has left to do, see ``store/schema_upgrade.sql``."""


class Reconciler:
    """Change what the store says of a volume's labels, and bring its files to that.

    Parameters
    ----------
    folder
        The studies folder.
    drafts
        Makes draft labels.
    """

    def __init__(self, folder: StudiesFolder, drafts: DraftLabels) -> None:
        self._folder, self._drafts = folder, drafts
        self._ledger: Ledger = folder.ledger
        self._locks = self._ledger.path.parent / "locks"

    @contextlib.contextmanager
    def lock(self, volume: str) -> Iterator[None]:
        """Hold one volume's labels alone, between threads and processes."""
        stripe = zlib.crc32(volume.encode()) % 64
        with locked(self._locks / f"booking-{stripe:02d}"):
            yield

    def change(
        self,
        volume: str,
        action: Callable[[Transaction], T],
        *,
        anew: bool = False,
        durable: bool = True,
        drawn: Drawn | None = None,
    ) -> T:
        """Do `action` and what follows from it in one transaction; hold the volume's lock.

        The transaction is looked at once before, and rolled back: the draft label that follows
        from it takes a while to fuse, and is to be on disk before it is entered.

        Parameters
        ----------
        action
            Gets the transaction; done twice, so it must do the same both times.
        anew
            Fuse the draft label even where it would be made of the same as now.
        durable
            Wait until the disk has it; not for what the machine can do again.
        drawn
            The submission that `action` enters.
        """
        self._take_as_pseudo(volume)
        for _ in range(_TRIES):
            with self._ledger.preview() as tx:
                before = DraftPlan.of(tx, volume)
                action(tx)
                plan = DraftPlan.of(tx, volume)
            fuse = anew or not plan.same_as(before)
            entered = plan.current is not None and not plan.has_current_of(before)
            made = None
            if fuse:
                made = self._drafts.make_draft(volume, plan, drawn if entered else None)
            with self._folder.labels.lock(volume):
                for tag in (FINAL, ORIGINAL):
                    self._folder.labels.keep_foreign_files(volume, tag)
            try:
                with self._ledger.write(durable=durable) as tx:
                    result = action(tx)
                    if not DraftPlan.of(tx, volume).same_as(plan):
                        raise _ChangedMeanwhileError
                    self._drafts.make_final_current(tx, volume, plan)
                    if fuse:
                        self._drafts.make_draft_current(tx, volume, plan, made)
            except _ChangedMeanwhileError:
                continue
            try:
                self.put_in_place(volume)
            except OSError as error:  # it is there; whoever asks for the label tries again
                logger.error("%s: its label files are not in place yet: %s", volume, error)
            self._folder.catalogue.let_in(volume)
            return result
        raise ConflictError(f"{volume}: its labels change too often; try again")

    def put_in_place(self, volume: str) -> None:
        """Make the files in place what the store says; next to nothing where they are."""
        with self._folder.labels.lock(volume):
            for tag in _TAGS:
                self._folder.labels.put_in_place(volume, tag)
        self._folder.now()

    def _take_as_pseudo(self, volume: str) -> None:
        """Have a draft label that no server has fused count as the pseudo label.

        Stock MONAI Label keeps what networks predict as the draft, and so did early releases.
        """
        index, files = self._folder.index, self._folder.labels
        if index.label_version(volume, PSEUDO) is not None:
            return
        with files.lock(volume):
            if index.label_version(volume, ORIGINAL) is None:
                files.adopt_foreign_file(volume, ORIGINAL)
            draft = index.label_version(volume, ORIGINAL)
            if draft is not None and "organs" not in draft.info:
                with self._ledger.write() as tx:
                    label_files.make_current(tx, volume, PSEUDO, draft.id, draft.info)

    def remake_draft(self, volume: str) -> dict[str, OrganSource]:
        """Fuse the draft label anew; return where each organ comes from."""
        with self.lock(volume):
            self.change(volume, lambda tx: None, anew=True)
        return self._ledger.sources(volume)

    def recover(self) -> None:
        """Put in place what is not, volume by volume; for the start of a server.

        A process was killed between a transaction and its files, or files were deleted. What an
        upgrade of the store has left to do is done, too.
        """
        for volume in self._left_by_upgrade(_NOT_RECORDED):
            logger.warning(
                "%s: a submission was written and never recorded by the release before; its "
                "annotator got no reply. Its file is in labels/.history/final/%s",
                volume,
                volume,
            )
        self._forget(_NOT_RECORDED)
        for volume in self._left_by_upgrade(_TO_REMAKE):
            self._try(volume, self.remake_draft)
        self._forget(_TO_REMAKE)
        index, files = self._folder.index, self._folder.labels
        for label in index.changes().labels:
            if label.tag in _TAGS and label.version is not None and not files.is_in_place(label):
                self._try(label.image, self._put_back)

    def _put_back(self, volume: str) -> None:
        files = self._folder.labels
        with files.lock(volume):
            for tag in _TAGS:
                if not files.foreign_files(volume, tag):
                    files.put_in_place(volume, tag)

    def _try(self, volume: str, do: Callable[[str], object]) -> None:
        try:
            do(volume)
        except NotFoundError:
            pass  # its image is gone; its labels stay as they are
        except (Atlas8kError, OSError) as error:
            logger.error("%s: its labels cannot be brought up to date: %s", volume, error)

    def _left_by_upgrade(self, key: str) -> list[str]:
        with self._ledger.read() as tx:
            return list(json.loads(tx.setting(key) or "[]"))

    def _forget(self, key: str) -> None:
        with self._ledger.read() as tx:
            there = tx.setting(key) is not None
        if there:
            with self._ledger.write(durable=True) as tx:
                tx.run("DELETE FROM setting WHERE key = ?", key)


class _ChangedMeanwhileError(Exception):
    """Somebody else has changed what a draft label is made of."""
