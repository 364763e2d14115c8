"""The cases that somebody has open or has submitted: what is there, and what may be done with them.

OHIF can show a case but not submit one; this is where it is confirmed, corrected or given
back. Nothing here knows how a request looks.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.grid import Grid
from atlas8k.core.parts import Part
from atlas8k.core.structure_sets import Organ
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_grid, read_label, write_nifti
from atlas8k.labels.plausibility import find_odd_volumes
from atlas8k.labels.submission_diff import Statement
from atlas8k.services.case_facts import Case, case_of, start_of
from atlas8k.services.case_parts import View, nearest, view_of
from atlas8k.services.case_tools import Drawn, Tool, change
from atlas8k.services.checked_uploads import Checked, CheckedUploads
from atlas8k.services.context import Context
from atlas8k.services.drawings import Drawings, stale
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.labels.reviews import Revision
from atlas8k.services.labels.service import Receipt
from atlas8k.services.studies.names import check_id
from atlas8k.services.studies.versions import Version
from atlas8k.store import Holder, Lease, Offer, Seen, Submission

SHOWN_SUBMISSIONS = 20


def organ_info() -> list[dict[str, Any]]:
    """Return the structures in use as 3D Slicer's module sends them with a label."""
    return [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()]


class Cases:
    """What one person has, under one or more keys, and may do with it.

    Parameters
    ----------
    holders
        Who asks: the first is what new leases and entries go by, the others are the same
        person under other keys (a browser before a name was typed).
    client
        Client id or typed name, for the records.
    seen
        Gold cases as this person sees them, by name; nothing for who may know of them.
    """

    def __init__(
        self,
        context: Context,
        holders: Sequence[Holder],
        client: str | None = None,
        seen: Mapping[str, Seen] | None = None,
    ) -> None:
        self.context, self._labels, self._ledger = context, context.label_service, context.ledger
        self._client = {"client_id": client} if client else {}
        self._holders = {one.key: one for one in holders}
        self._me, self._seen = holders[0], seen or {}
        self.drawings = Drawings(context, list(self._holders))
        self._uploads = CheckedUploads(context.state / "held")

    @property
    def keys(self) -> list[str]:
        """What this person is known by."""
        return list(self._holders)

    # --- what is there ------------------------------------------------------------------

    def open(self) -> list[Case]:
        """Return the cases that this person holds, the one that runs out first on top."""
        mine = [one for one in self._ledger.leases() if one.holder in self._holders]
        mine.sort(key=lambda one: (one.expires_at, one.volume))
        model_version = self.context.ranked_by()
        return [case_of(self.context, one, model_version, self._masked(one.volume)) for one in mine]

    def look(self, image: str) -> Case:
        """Return one case, in this person's hands or not: then its lease is 0.

        Raises
        ------
        NotFoundError
            There is no such case.
        """
        held = self._held_or_not(image)
        return case_of(self.context, held, self.context.ranked_by(), self._masked(image))

    def past(self) -> list[tuple[Revision, bool]]:
        """Return this person's last submissions, newest first, and which cases are theirs again."""
        mine = {one.volume for one in self._ledger.leases() if one.holder in self._holders}
        mine |= {one.volume for one in self._ledger.offers() if one.holder in self._holders}
        return [
            (line, one.volume in mine)
            for one in self._ledger.submitted_by(list(self._holders), SHOWN_SUBMISSIONS)
            for line in self.history(one.volume)
            if line.submission.id == one.id
        ]

    def returned(self) -> list[Offer]:
        """Return what a reviewer has returned to this person, with a note, and nobody holds."""
        held = {one.volume for one in self._ledger.leases()}
        return [
            one
            for one in self._ledger.offers()
            if one.holder in self._holders and one.note and one.volume not in held
        ]

    def start_label(self, image: str, lease: int | None = None) -> Version:
        """Return the label that a case of this person's began with.

        Raises
        ------
        ConflictError
            It is not in this person's hands.
        NotFoundError
            It has none yet.
        """
        held = self._held(image, lease)
        version = start_of(self.context, held)
        if version is None:
            raise NotFoundError("draft label", f"{image} has none yet: it was not scored")
        return version

    def begins_with(self, image: str) -> Version | None:
        """Return the label that a case begins with, in this person's hands or not."""
        held = self._held_or_not(image)
        return start_of(self.context, held, self._masked(image))

    def history(self, image: str) -> list[Revision]:
        """Return the submissions of a case that this person may know of, oldest first."""
        return self._labels.reviews.history(image, self._seen.get(image))

    def state(self, image: str) -> str:
        """Return a case's state as this person sees it."""
        if (gold := self._masked(image)) is not None:
            return "open" if gold.own is None else "submitted"
        return self._ledger.status(image)

    def is_mine(self, image: str) -> bool:
        """Return whether the current submission of a case, as this person sees it, is theirs."""
        if (gold := self._masked(image)) is not None:
            return gold.own is not None
        current = self._ledger.current_submission(image)
        return current is not None and self.is_own(current)

    def _masked(self, image: str) -> Seen | None:
        """Return how this person sees a gold case whose current submission is hidden from them."""
        gold = self._seen.get(image)
        return None if gold is None or gold.is_current else gold

    def is_own(self, one: Submission) -> bool:
        """Return whether a submission is this person's."""
        return self._author(one) in self._holders

    # --- what may be done ---------------------------------------------------------------

    def confirm(self, image: str, said: Mapping[str, Any], *, lease: int | None = None) -> Receipt:
        """Submit the draft label as it is, without the organs that are not there.

        Parameters
        ----------
        said
            What is said of its organs, see :class:`~atlas8k.labels.submission_diff.Statement`.

        Raises
        ------
        RequestError
            Nothing is said: there is nothing to confirm.
        ConflictError
            The case is not in this person's hands, or they have drawn on it.
        NotFoundError
            It has no draft label.
        """
        held = self._held(image, lease)
        if self.drawings.find(image) is not None:  # which a submission would end
            raise ConflictError(
                f"{image}: you have drawn on it and not submitted that; submit it on the page of "
                "the case, or begin anew there"
            )
        version = self.start_label(image, held.id)
        statement = Statement.of(said)
        if not (statement.absent or statement.looked_at or statement.all_looked_at):
            raise RequestError(
                f'{image}: say what you looked at: looked_at, a list of organs or "all", and '
                "absent, organs that are not there; nothing was recorded"
            )
        with _without(version.path, sorted(statement.absent)) as path:
            return self._submit(held, path, said)

    def upload(
        self, image: str, sent: Path, said: Mapping[str, Any], *, lease: int | None = None
    ) -> Receipt:
        """Submit a corrected label; `said` is as in :meth:`confirm`.

        Raises
        ------
        ConflictError
            The case is not in this person's hands.
        VolumeError
            The label is refused; the current one stays.
        """
        return self._submit(self._held(image, lease), sent, said)

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
        ready = self._labels.check(image, sent, _holder(held), said, lease=held.id)
        voxels = {organ: change.voxels_after or 0 for organ, change in ready.organs.items()}
        odd = find_odd_volumes(ready.array, ready.grid, voxels)
        token = self._uploads.keep(sent, image, held)
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
        return self._uploads.find(token, image, self._held(image, lease))

    def change(
        self,
        image: str,
        sent: Path,
        do: Tool,
        organ: Organ,
        *,
        plane: str = "axial",
        other: Path | None = None,
        part: Part | None = None,
        predicted: bool = True,
    ) -> tuple[npt.NDArray[np.uint8], Grid, int]:
        """Return a label as a tool changes it, see :func:`atlas8k.services.case_tools.change`.

        Parameters
        ----------
        predicted
            Between slices, networks guide where they have predicted the CT; False: they do not.
        part
            The block of the CT that `sent` and `other` cover; None: all of it.

        Raises
        ------
        VolumeError
            A label does not fit the CT.
        """
        self._known(image)
        grid = read_grid(self.context.studies.image_path(image))
        begun = self.begun(image)
        drawn = Drawn(sent, part, self.drawings.current(image) or begun, begun)
        guide = self._predicted(image, grid, organ) if do == "between" and predicted else None
        return change(drawn, grid, do, organ, plane=plane, other=other, guide=guide)

    def _predicted(self, image: str, grid: Grid, organ: Organ) -> npt.NDArray[np.bool_] | None:
        """Return where networks have an organ; None where nobody has predicted the CT yet."""
        context = self.context
        path = context.studies.image_path(image)
        if not context.settings.networks or not context.engine.holds(path, image):
            return None
        _, answers, _ = context.engine.answers(path, volume=image)
        there: npt.NDArray[np.bool_] = answers.label_on(grid) == organ.id
        return there

    def begun(self, image: str) -> Path | None:
        """Return the file of the label that a case begins with."""
        version = self.begins_with(image)
        return None if version is None else version.path

    def view(self, image: str, near: Sequence[float] | None = None) -> tuple[View, Grid]:
        """Return what of a CT the page of its case shows, and its grid as clients get it.

        Parameters
        ----------
        near
            Place about which full resolution is wanted, RAS+ mm.

        Raises
        ------
        VolumeError
            The CT cannot be read.
        """
        ct = self.context.studies.image_path(image)
        grid = read_grid(ct).served
        most = round(self.context.settings.browser_mvoxels * 1e6)
        return view_of(ct, grid, None if near is None else nearest(grid, near), most), grid

    def submit_drawing(
        self, image: str, version: int, said: Mapping[str, Any], *, lease: int | None = None
    ) -> Receipt:
        """Submit what was drawn and kept; `said` is as in :meth:`confirm`.

        Like any submission it counts without the case in hand, too: a reviewer decides then.

        Raises
        ------
        ConflictError
            It is not that version, or the CT was replaced since.
        VolumeError
            The label is refused; the current one stays.
        """
        self._known(image)
        drawing, file = self.drawings.find(image), self.drawings.current(image)
        if drawing is None or drawing.version != version:
            raise stale(image, drawing)
        if file is None:
            raise ConflictError(f"{image}: the CT was replaced since it was drawn on; draw anew")
        with _without(file, sorted(Statement.of(said).absent)) as path:
            words = {"label_info": organ_info(), **said, **self._client}
            return self._labels.submit(
                image,
                path,
                self._holders[drawing.holder],
                words,
                lease=lease,
                blind=self._masked(image) is not None,
            )

    def release(self, image: str, *, lease: int | None = None) -> bool:
        """Give a case back without submitting; one that was opened again is closed by it.

        Returns
        -------
        bool
            It is closed: the current label stays, and nobody gets the case.

        Raises
        ------
        ConflictError
            It is not in this person's hands.
        """
        self._known(image)
        held = self._mine(image, lease)
        closed = [key for key in self._holders if self._ledger.close_again(image, key)]
        if held is not None:
            self._ledger.release(image, _holder(held))
        elif not closed:
            raise _not_held(image)
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
        gold, state, offers = self._masked(image), self.state(image), self._ledger.offers()
        offer = next((one for one in offers if one.volume == image and gold is None), None)
        if offer is not None and offer.holder not in self._holders:
            raise ConflictError(f"{image}: is kept for a second look; it comes with Next Sample")
        if offer is None and state not in ("open", "leased"):
            raise ConflictError(f"{image}: is {state}; open it again if you have submitted it")
        found = self._lease(image, "revise" if gold is None else "gold")
        if found is None:
            raise ConflictError(f"{image}: somebody else has it now; try again later")
        return found

    def renew(self, image: str, lease: int) -> Lease:
        """Keep a case for another full time: its holder is at work on it.

        Raises
        ------
        ConflictError
            It is not in this person's hands any more; says what can be done.
        NotFoundError
            There is no such case.
        """
        held = self._held(image, lease)
        found = self._ledger.renew(held.id)
        if found is None:
            raise _not_held(image)
        return found

    def at_hand(self, image: str) -> Lease:
        """Return the lease of a case of this person's, taken or opened again now if need be.

        Raises
        ------
        ConflictError, NotFoundError
            As :meth:`take` and :meth:`reopen`.
        """
        self._known(image)
        if (held := self._mine(image, None)) is not None:
            return held
        return self.reopen(image) if self.is_mine(image) else self.take(image)

    def reopen(self, image: str) -> Lease:
        """Open a case again that this person submitted, and take it.

        Raises
        ------
        ConflictError
            It is somebody else's, is open already, or somebody has it.
        """
        self._own_in_force(image)
        if self.state(image) == "conflict":
            raise ConflictError(f"{image}: two submissions crossed; a reviewer decides")
        if any(one.volume == image for one in self._ledger.leases()):
            raise ConflictError(f"{image}: somebody has it now; try again later")
        if self._masked(image) is None:
            self._labels.reviews.reopen(image, to=self._me.key, reviewer=self._me.key)
            return self.take(image)
        if (found := self._lease(image, "gold")) is None:
            raise ConflictError(f"{image}: somebody else has it now; try again later")
        return found

    def restore(self, image: str, submission: int) -> Submission:
        """Make an own submission current again.

        Raises
        ------
        ConflictError
            It, or the current one now, is somebody else's.
        """
        self._known(image)
        if image in self._seen and all(
            one.submission.id != submission for one in self.history(image)
        ):
            raise NotFoundError(f"submission of {image}", submission)
        if self._author(self._labels.reviews.own(image, submission)) not in self._holders:
            raise ConflictError(f"{image}: submission {submission} is somebody else's")
        self._own_in_force(image)
        return self._labels.reviews.restore(image, submission, self._me)

    def exclude(self, image: str, reason: str) -> None:
        """Leave a CT out until somebody includes it; its holder no longer has it.

        Raises
        ------
        RequestError
            No reason is given.
        NotFoundError
            There is no such volume.
        ConflictError
            Somebody else works on it.
        """
        self._listed(image)
        if not reason.strip():
            raise RequestError(f"{image}: say why it is not usable")
        leases = [one for one in self._ledger.leases() if one.volume == image]
        if any(one.holder not in self._holders for one in leases):
            raise ConflictError(f"{image}: somebody else works on it now; try again later")
        self._ledger.exclude(image, reason, _holder(leases[0]) if leases else self._me)

    def include(self, image: str, reason: str) -> bool:
        """Let a CT count again; False where it does.

        Raises
        ------
        NotFoundError
            There is no such volume.
        """
        self._listed(image)
        return self._ledger.include(image, reason, self._me)

    # --- how ----------------------------------------------------------------------------

    def _listed(self, image: str) -> None:
        self.context.sync()
        self.context.know(image)

    def _submit(self, held: Lease, path: Path, params: Mapping[str, Any]) -> Receipt:
        words = {**params, **self._client}
        blind = self._masked(held.volume) is not None
        return self._labels.submit(
            held.volume, path, _holder(held), words, lease=held.id, blind=blind
        )

    def _lease(self, image: str, purpose: str) -> Lease | None:
        version = self.context.ranked_by()
        return self._ledger.lease(image, self._me, model_version=version, purpose=purpose)

    def _own_in_force(self, image: str) -> None:
        self._known(image)
        gold = self._masked(image)
        if self._ledger.current_submission(image) is None or (gold is not None and not gold.own):
            raise ConflictError(f"{image}: was not submitted")
        if not self.is_mine(image):
            raise ConflictError(f"{image}: the current label is somebody else's; ask a reviewer")

    def _author(self, one: Submission) -> str:
        return one.holder if one.restored is None else self._ledger.submission(one.restored).holder

    def _known(self, image: str) -> None:
        self._labels.folder.known_image(check_id(image))
        self.context.know(image)

    def _held(self, image: str, lease: int | None) -> Lease:
        self._known(image)
        held = self._mine(image, lease)
        if held is None:
            raise _not_held(image)
        return held

    def _held_or_not(self, image: str) -> Lease:
        """Return this person's lease of a case, or one of nobody."""
        self._known(image)
        return self._mine(image, None) or Lease(0, image, "", True, 0.0, 0.0)

    def _mine(self, image: str, lease: int | None) -> Lease | None:
        for one in self._ledger.leases():
            if one.volume == image and lease in (None, one.id) and one.holder in self._holders:
                return one
        return None


def _holder(held: Lease) -> Holder:
    return Holder(held.holder, held.anonymous)


@contextlib.contextmanager
def _without(label: Path, absent: Sequence[str]) -> Iterator[Path]:
    """Hold a label without some organs on disk for the block."""
    if not absent:
        yield label
        return
    found = read_label(label)
    gone = np.isin(found.array, [ORGAN_IDS[name] for name in absent])
    with tempfile.TemporaryDirectory(prefix="atlas8k-") as folder:
        path = Path(folder) / "label.nii.gz"
        yield write_nifti(path, np.where(gone, 0, found.array).astype(np.uint8), found.grid)


def _not_held(image: str) -> ConflictError:
    return ConflictError(
        f"{image}: is not in your hands (submitted, given back, run out, or somebody else's)"
    )
