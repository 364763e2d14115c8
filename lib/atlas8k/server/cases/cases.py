"""What may be done with the cases that somebody has open or has submitted.

OHIF can show a case but not submit one; this is where it is confirmed, corrected or given
back. Nothing here knows how a request looks.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atlas8k.labels.anatomy import odd_volumes
from atlas8k.labels.submission_diff import Statement
from atlas8k.ledger import Holder, Lease, OrganChange, Submission, Usability
from atlas8k.organs import ORGAN_IDS
from atlas8k.server import usability
from atlas8k.server.cases.held import HeldUploads
from atlas8k.server.cases.shown import CaseList, not_held
from atlas8k.server.desk.service import Receipt
from atlas8k.server.errors import ConflictError, RequestError
from atlas8k.server.studies.versions import Version
from atlas8k.volume import read_label, write_nifti


@dataclass(frozen=True)
class Checked:
    """What would be recorded of an uploaded label.

    Attributes
    ----------
    lease
        Of the case.
    token
        What the file is fetched by.
    odd
        What is odd about the volume of an organ, changed or not.
    partial
        What was said of the rest, where it covers a part of the CT.
    """

    lease: int
    token: str
    organs: dict[str, OrganChange]
    odd: dict[str, str]
    partial: bool | None


class Cases(CaseList):
    """What one person may do; see :class:`~atlas8k.server.cases.shown.CaseList`."""

    def confirm(
        self,
        image: str,
        said: Mapping[str, Any],
        *,
        lease: int | None = None,
        client: str | None = None,
    ) -> Receipt:
        """Submit the start label as it is, without the organs that are not there.

        Parameters
        ----------
        said
            What is said of its organs, see :class:`~atlas8k.labels.submission_diff.Statement`.

        Raises
        ------
        RequestError
            Nothing is said: there is nothing to confirm.
        ConflictError
            The case is not in this person's hands.
        NotFoundError
            It has no start label.
        """
        held = self._held(image, lease)
        version = self.start_label(image, held.id)
        statement = Statement.of(said)
        if not (statement.absent or statement.looked_at or statement.all_looked_at):
            raise RequestError(
                f'{image}: say what you looked at: looked_at, a list of organs or "all", and '
                "absent, organs that are not there; nothing was recorded"
            )
        with self._without(version, sorted(statement.absent)) as path:
            return self._submit(held, path, said, client)

    def upload(
        self,
        image: str,
        sent: Path,
        said: Mapping[str, Any],
        *,
        lease: int | None = None,
        client: str | None = None,
    ) -> Receipt:
        """Submit a corrected label; `said` is as in :meth:`confirm`.

        Raises
        ------
        ConflictError
            The case is not in this person's hands.
        VolumeError
            The label is refused; the one in force stays.
        """
        return self._submit(self._held(image, lease), sent, said, client)

    def check(
        self, image: str, sent: Path, said: Mapping[str, Any], *, lease: int | None = None
    ) -> Checked:
        """Keep a corrected label and say what would be recorded of it; nothing is submitted.

        Raises
        ------
        ConflictError, VolumeError
            As :meth:`upload`.
        """
        held = self._held(image, lease)
        ready = self._desk.check(image, sent, self._who(held), said, lease=held.id)
        voxels = {organ: change.voxels_after or 0 for organ, change in ready.organs.items()}
        odd = odd_volumes(ready.array, ready.grid, voxels)
        token = self._uploads.keep(sent, image, self._who(held))
        return Checked(held.id, token, ready.organs, odd, said.get("partial"))

    def checked(self, image: str, token: str, *, lease: int | None = None) -> Path:
        """Return a file that :meth:`check` has kept.

        Raises
        ------
        ConflictError
            The case is not in this person's hands.
        NotFoundError
            There is no such file any more.
        """
        return self._uploads.path(token, image, self._who(self._held(image, lease)))

    def release(self, image: str, *, lease: int | None = None) -> bool:
        """Give a case back without submitting; one that was opened again is closed by it.

        Returns
        -------
        bool
            It is closed: the label in force stays, and nobody gets the case.

        Raises
        ------
        ConflictError
            It is not in this person's hands.
        """
        self._known(image)
        held = self._mine(image, lease)
        closed = [key for key in self._holders if self._ledger.close_again(image, key)]
        if held is not None:
            self._ledger.release(image, Holder(held.holder, held.anonymous))
        elif not closed:
            raise not_held(image)
        return bool(closed)

    def take(self, image: str) -> Lease:
        """Take a case by name, such as one just given back.

        Raises
        ------
        ConflictError
            Somebody else has it, or it is submitted: that is opened again by who did it.
        NotFoundError
            There is no such case.
        """
        self._known(image)
        state, offers = self._ledger.status(image), self._ledger.offers()
        offer = next((one for one in offers if one.volume == image), None)
        if offer is not None and offer.holder not in self._holders:
            raise ConflictError(f"{image}: is kept for a second look; it comes with Next Sample")
        if offer is None and state not in ("open", "leased"):
            raise ConflictError(f"{image}: is {state}; open it again if you have submitted it")
        found = self._ledger.lease(image, self._me, signature=self._ranked_by())
        if found is None:
            raise ConflictError(f"{image}: somebody else has it now; try again later")
        self._desk.reconciler.reconcile(image)
        return found

    def reopen(self, image: str) -> Lease:
        """Open a case again that this person submitted, and take it.

        Raises
        ------
        ConflictError
            It is somebody else's, is open already, or somebody has it.
        """
        self._own_in_force(image)
        if self._ledger.status(image) == "conflict":
            raise ConflictError(f"{image}: two submissions crossed; a reviewer decides")
        if any(one.volume == image for one in self._ledger.leases()):
            raise ConflictError(f"{image}: somebody has it now; try again later")
        self._desk.reviews.reopen(image, to=self._me.key, reviewer=self._me.key)
        return self.take(image)

    def restore(self, image: str, submission: int) -> Submission:
        """Put an own submission in force again.

        Raises
        ------
        ConflictError
            It, or the one in force now, is somebody else's.
        """
        self._known(image)
        if self._author(self._desk.reviews.own(image, submission)) not in self._holders:
            raise ConflictError(f"{image}: submission {submission} is somebody else's")
        self._own_in_force(image)
        return self._desk.reviews.restore(image, submission, self._me)

    def exclude(self, image: str, reason: str) -> None:
        """Say that a CT is not usable; see :func:`~atlas8k.server.usability.exclude`."""
        held = self._mine(image, None)
        who = self._me if held is None else Holder(held.holder, held.anonymous)
        usability.exclude(self._context, image, reason, who)

    def include(self, image: str, reason: str) -> bool:
        """Let a CT count again; see :func:`~atlas8k.server.usability.include`."""
        return usability.include(self._context, image, reason, self._me)

    def not_usable(self) -> list[Usability]:
        """Volumes that are left out, with the reason."""
        return self._ledger.not_usable()

    def _submit(
        self, held: Lease, path: Path, params: Mapping[str, Any], client: str | None
    ) -> Receipt:
        words = {**params, **({"client_id": client} if client else {})}
        return self._desk.submit(held.volume, path, self._who(held), words, lease=held.id)

    @property
    def _uploads(self) -> HeldUploads:
        return HeldUploads(self._context.state / "held")

    def _who(self, held: Lease) -> Holder:
        return Holder(held.holder, held.anonymous)

    def _own_in_force(self, image: str) -> None:
        self._known(image)
        current = self._ledger.in_force(image)
        if current is None:
            raise ConflictError(f"{image}: was not submitted")
        if self._author(current) not in self._holders:
            raise ConflictError(f"{image}: the label in force is somebody else's; ask a reviewer")

    def _author(self, one: Submission) -> str:
        return one.holder if one.restored is None else self._ledger.submission(one.restored).holder

    @contextlib.contextmanager
    def _without(self, version: Version, absent: Sequence[str]) -> Iterator[Path]:
        if not absent:
            yield version.path
            return
        label = read_label(version.path)
        gone = np.isin(label.array, [ORGAN_IDS[name] for name in absent])
        with tempfile.TemporaryDirectory(prefix="atlas8k-") as folder:
            path = Path(folder) / "label.nii.gz"
            yield write_nifti(path, np.where(gone, 0, label.array).astype(np.uint8), label.grid)
