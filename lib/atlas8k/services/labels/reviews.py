"""What happens to a case after it was submitted: looked at, decided, restored, opened again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atlas8k.core.errors import LedgerError
from atlas8k.core.files import sha256_of
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.labels.reconcile import Reconciler
from atlas8k.services.labels.submissions import IMPORTED_BY
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.versions import Versions
from atlas8k.store import Holder, Ledger, OrganChange, Review, Seen, Submission, decisions

ALIKE = (
    "the first reader was anonymous: whoever has the same address and software does not get "
    "it, although it may be somebody else; have people set a client id"
)


@dataclass(frozen=True)
class Revision:
    """A line of a volume's history; ``file`` is None where it is gone."""

    submission: Submission
    organs: dict[str, OrganChange]
    is_current: bool
    file: Path | None


def _as_any(one: Submission) -> Submission:
    """Return a reading of a gold case as its reader knows it."""
    if one.purpose != "gold":
        return one
    return replace(one, purpose="revise" if one.restored is None else "restore")


class Reviews:
    """History and reviews of the submissions of one studies folder."""

    def __init__(self, ledger: Ledger, versions: Versions, reconciler: Reconciler) -> None:
        self._ledger, self._versions, self._reconciler = ledger, versions, reconciler

    # --- history ------------------------------------------------------------------------

    def history(self, volume: str, seen: Seen | None = None) -> list[Revision]:
        """Return every submission of a volume, oldest first.

        Parameters
        ----------
        seen
            A gold case as an annotator sees it: their own submissions alone, the last of which is
            current to them, and all of which were readings like any other.

        Raises
        ------
        UnknownVolumeError
            No such volume.
        """
        current = self._ledger.current_submission(volume)
        number = seen.own if seen is not None else current and current.id
        known = self._ledger.submissions(volume)
        if seen is not None:
            own = (one for one in known if one.holder == seen.holder or one.id == seen.own)
            known = [_as_any(one) for one in own]
        return [
            Revision(
                one,
                self._ledger.changes(one.id if one.restored is None else one.restored),
                one.id == number,
                self._file(one),
            )
            for one in known
        ]

    def _file(self, one: Submission) -> Path | None:
        if one.sha256 is None:  # from an earlier release
            found = self._versions.current(one.volume, FINAL)
        else:
            found = self._versions.find(one.volume, one.sha256)
        return found.path if found is not None else None

    def own(self, volume: str, submission: int) -> Submission:
        """Return a submission of this volume.

        Raises
        ------
        NotFoundError
            It has none of that number.
        """
        for one in self._ledger.submissions(volume):
            if one.id == submission:
                return one
        raise NotFoundError(f"submission of {volume}", submission)

    def file_of(self, volume: str, submission: int) -> Path:
        """Return the file of a submission; :class:`NotFoundError` where it is gone."""
        path = self._file(self.own(volume, submission))
        if path is None:
            raise NotFoundError(f"file of {volume}, submission", submission)
        return path

    def restore(self, volume: str, submission: int, holder: Holder) -> Submission:
        """Make an earlier submission current again; a new entry, nothing is lost.

        Raises
        ------
        NotFoundError
            No such submission, or its file is gone.
        ConflictError
            Its file is not what was submitted any more.
        """
        path = self.file_of(volume, submission)
        one = self.own(volume, submission)
        if sha256_of(path) != str(one.sha256).removeprefix("SHA256:"):
            raise ConflictError(
                f"{path.name}: changed since it was submitted; put a copy of the original back"
            )
        with self._reconciler.lock(volume):
            return self._reconciler.change(
                volume, lambda tx: decisions.restore(tx, volume, submission, holder)
            )

    def reopen(
        self, volume: str, *, to: str | None = None, note: str = "", reviewer: str = ""
    ) -> None:
        """Offer a submitted case again, before all others, with its last revision on it.

        Parameters
        ----------
        to
            Key of the only holder it is for, see :class:`~atlas8k.store.Holder`; else
            anybody.
        note
            Comes with the sample.

        Raises
        ------
        ConflictError
            It was not submitted.
        """
        self._hand_back(volume, to, note, reviewer, "reopened")

    def _hand_back(
        self, volume: str, to: str | None, note: str, reviewer: str, decision: str
    ) -> None:
        if not self._ledger.submitted(volume):
            raise ConflictError(f"{volume}: is not submitted, there is nothing to open again")
        with self._reconciler.lock(volume):
            self._reconciler.change(
                volume,
                lambda tx: decisions.hand_back(
                    tx, volume, to=to, note=note, reviewer=reviewer, decision=decision
                ),
            )

    # --- what a reviewer does -----------------------------------------------------------

    def accept(self, volume: str, reviewer: str) -> list[Review]:
        """Keep what is current; close every question but disputes and return those that are left.

        Raises
        ------
        ConflictError
            There was no such question.
        """
        with self._reconciler.lock(volume):
            if not self._reconciler.change(
                volume, lambda tx: decisions.accept(tx, volume, reviewer)
            ):
                raise ConflictError(
                    f"{volume}: nothing to accept; disputes are decided organ by organ"
                )
        return self._ledger.reviews(volume)

    def give_back(
        self, volume: str, reviewer: str, note: str, *, to_anybody: bool = False
    ) -> str | None:
        """Return a case with a note, to who submitted it or to anybody; return whom to.

        Raises
        ------
        RequestError
            No note: an annotator must know why.
        ConflictError
            It was not submitted.
        """
        if not note.strip():
            raise RequestError("note: say what is to be done; the annotator reads it")
        current = self._ledger.current_submission(volume)
        to = None if to_anybody or current is None else self._author(current)
        self._hand_back(volume, to, note.strip()[:2000], reviewer, "returned")
        return to

    def _author(self, one: Submission) -> str | None:
        """Return who drew a submission; nobody for a label that was in the folder."""
        if one.restored is not None:
            one = self._ledger.submission(one.restored)
        return None if one.holder == IMPORTED_BY.key else one.holder

    def decide_submission(self, volume: str, submission: int, reviewer: str) -> None:
        """End a conflict or a double reading: this submission is current.

        Raises
        ------
        NotFoundError
            No such submission.
        """
        self.own(volume, submission)
        with self._reconciler.lock(volume):
            self._reconciler.change(
                volume, lambda tx: decisions.resolve(tx, volume, submission, reviewer)
            )

    def decide_organ(self, volume: str, organ: str, source: str, reviewer: str) -> None:
        """Decide a disputed organ: ``public`` or ``revised``.

        Raises
        ------
        ConflictError
            There is nothing to choose between.
        """
        with self._reconciler.lock(volume):
            current = self._ledger.current_submission(volume)
            public = self._ledger.dataset_organs(volume).get(organ)
            revised = self._ledger.revised_organs(current.id) if current is not None else {}
            if public is None or public.source != "public" or organ not in revised:
                raise ConflictError(
                    f"{volume}: {organ}: nothing to choose; it takes a public label and a "
                    "submission that says something of it"
                )
            self._reconciler.change(
                volume, lambda tx: decisions.choose(tx, volume, organ, source, reviewer)
            )

    def ask_again(self, volume: str, reviewer: str) -> list[Review]:
        """Undo the latest decision about a case; return the questions that are open again.

        Raises
        ------
        ConflictError
            There is none, or the case went on since.
        """
        with self._reconciler.lock(volume):
            try:
                self._reconciler.change(
                    volume, lambda tx: decisions.ask_again(tx, volume, reviewer)
                )
            except LedgerError as err:
                raise ConflictError(str(err)) from err
        return self._ledger.reviews(volume)

    def take_over(self, volume: str, holder: Holder) -> int:
        """Give a case to a reviewer, who decides by a submission; return the lease's number.

        Raises
        ------
        ConflictError
            Somebody else holds it.
        """
        lease = self._ledger.lease(volume, holder, purpose="review")
        if lease is None:
            raise ConflictError(f"{volume}: somebody else has it now; try again later")
        return lease.id

    # --- what a reviewer is shown -------------------------------------------------------

    def queue(self) -> dict[str, Any]:
        """Return open questions, oldest first, and what waits for somebody else.

        Returns
        -------
        dict
            ``open``: the questions; ``second_readings``: volumes that wait for another reader,
            with ``anonymous`` where it cannot be told who that may be; ``returned``: cases
            that wait for their annotator.
        """
        offers = self._ledger.offers()
        return {
            "open": [asdict(one) for one in self._ledger.reviews()],
            "second_readings": [
                {
                    "volume": one.volume,
                    "since": one.at,
                    "anonymous": ALIKE if (one.not_holder or "").startswith("anonymous:") else None,
                }
                for one in offers
                if one.purpose == "double_read"
            ],
            "returned": [
                {"volume": one.volume, "to": one.holder, "note": one.note, "since": one.at}
                for one in offers
                if one.purpose == "returned"
            ],
        }

    def case(self, volume: str) -> dict[str, Any]:
        """Return everything about one case that a decision may rest on."""
        return {
            "volume": volume,
            "status": self._ledger.status(volume),
            "reviews": [asdict(one) for one in self._ledger.reviews(volume, closed=True)],
            "submissions": [
                {
                    "id": one.submission.id,
                    "holder": one.submission.holder,
                    "anonymous": one.submission.anonymous,
                    "submitted_at": one.submission.submitted_at,
                    "minutes": one.submission.minutes,
                    "purpose": one.submission.purpose,
                    "conflict": one.submission.conflict,
                    "in_force": one.is_current,
                    "file": None
                    if one.file is None
                    else str(one.file.relative_to(self._versions.root)),
                    "organs": {organ: change._asdict() for organ, change in one.organs.items()},
                }
                for one in self.history(volume)
            ],
            "organs": {o: one._asdict() for o, one in self._ledger.sources(volume).items()},
            "agreement": [
                {
                    "first": first,
                    "second": second,
                    "organs": {organ: change._asdict() for organ, change in organs.items()},
                }
                for _, first, second, organs in self._ledger.agreements(volume)
            ],
        }
