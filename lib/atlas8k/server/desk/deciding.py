"""What happens to a case after it was submitted: looked at, decided, restored, opened again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atlas8k.ledger import Holder, OrganChange, Review, Submission
from atlas8k.server.desk.existing import ADOPTED
from atlas8k.server.desk.settling import Settling
from atlas8k.server.errors import ConflictError, NotFoundError, RequestError
from atlas8k.server.studies.catalogue import FINAL
from atlas8k.server.studies.versions import sha256_of


@dataclass(frozen=True)
class Revision:
    """A line of a volume's history; ``file`` is None where it is gone."""

    submission: Submission
    organs: dict[str, OrganChange]
    in_force: bool
    file: Path | None


class Deciding(Settling):
    """History and reviews; see :class:`~atlas8k.server.desk.desk.Desk`."""

    # --- history ------------------------------------------------------------------------

    def history(self, volume: str) -> list[Revision]:
        """Every submission of a volume, oldest first.

        Raises
        ------
        UnknownVolumeError
            No such volume.
        """
        current = self.ledger.in_force(volume)
        return [
            Revision(
                one,
                self.ledger.changes(one.id if one.restored is None else one.restored),
                current is not None and one.id == current.id,
                self._file(one),
            )
            for one in self.ledger.submissions(volume)
        ]

    def _file(self, one: Submission) -> Path | None:
        if one.sha256 is None:  # from an earlier release
            found = self.versions.current(one.volume, FINAL)
        else:
            found = self.versions.find(one.volume, FINAL, one.sha256)
        return found.path if found is not None else None

    def own(self, volume: str, submission: int) -> Submission:
        """A submission of this volume.

        Raises
        ------
        NotFoundError
            It has none of that number.
        """
        for one in self.ledger.submissions(volume):
            if one.id == submission:
                return one
        raise NotFoundError(f"submission of {volume}", submission)

    def file_of(self, volume: str, submission: int) -> Path:
        """The file of a submission; :class:`NotFoundError` where it is gone."""
        path = self._file(self.own(volume, submission))
        if path is None:
            raise NotFoundError(f"file of {volume}, submission", submission)
        return path

    def restore(self, volume: str, submission: int, holder: Holder) -> Submission:
        """Put an earlier submission in force again; a new entry, nothing is lost.

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
        with self.alone(volume):
            self._settle(volume)
            restored = self.ledger.restore(volume, submission, holder)
            self._settle(volume)
        return restored

    def reopen(
        self, volume: str, *, to: str | None = None, note: str = "", reviewer: str = ""
    ) -> None:
        """Offer a submitted case again, before all others, with its last revision on it.

        Parameters
        ----------
        to
            Key of the only holder it is for, see :class:`~atlas8k.ledger.Holder`; else
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
        if not self.ledger.submitted(volume):
            raise ConflictError(f"{volume}: is not submitted, there is nothing to open again")
        with self.alone(volume):
            self.ledger.hand_back(volume, to=to, note=note, reviewer=reviewer, decision=decision)
            self._settle(volume)

    # --- what a reviewer does -----------------------------------------------------------

    def reviews(self, volume: str | None = None) -> list[Review]:
        """What a reviewer has to decide, oldest first."""
        return self.ledger.reviews(volume)

    def accept(self, volume: str, reviewer: str) -> list[Review]:
        """What is in force stays; closes every question but disputes. Those that are left.

        Raises
        ------
        ConflictError
            There was no such question.
        """
        with self.alone(volume):
            if not self.ledger.accept(volume, reviewer):
                raise ConflictError(
                    f"{volume}: nothing to accept; disputes are decided organ by organ"
                )
            self._settle(volume)
        return self.ledger.reviews(volume)

    def give_back(
        self, volume: str, reviewer: str, note: str, *, to_anybody: bool = False
    ) -> str | None:
        """Return a case with a note: to who submitted it, or to anybody. Whom to.

        Raises
        ------
        RequestError
            No note: an annotator must know why.
        ConflictError
            It was not submitted.
        """
        if not note.strip():
            raise RequestError("note: say what is to be done; the annotator reads it")
        current = self.ledger.in_force(volume)
        to = None if to_anybody or current is None else self._author(current)
        self._hand_back(volume, to, note.strip()[:2000], reviewer, "returned")
        return to

    def _author(self, one: Submission) -> str | None:
        """Who drew a submission; nobody for a label that was in the folder."""
        if one.restored is not None:
            one = self.ledger.submission(one.restored)
        return None if one.holder == ADOPTED.key else one.holder

    def decide_submission(self, volume: str, submission: int, reviewer: str) -> None:
        """End a conflict or a double reading: this submission is in force.

        Raises
        ------
        NotFoundError
            No such submission.
        """
        self.own(volume, submission)
        with self.alone(volume):
            self.ledger.resolve(volume, submission, reviewer)
            self._settle(volume)

    def decide_organ(self, volume: str, organ: str, source: str, reviewer: str) -> None:
        """Decide a disputed organ: ``public`` or ``revised``.

        Raises
        ------
        ConflictError
            There is nothing to choose between.
        """
        with self.alone(volume):
            current = self.ledger.in_force(volume)
            public = self.ledger.dataset_organs(volume).get(organ)
            revised = self.ledger.revised_organs(current.id) if current is not None else {}
            if public is None or public.source != "public" or organ not in revised:
                raise ConflictError(
                    f"{volume}: {organ}: nothing to choose; it takes a public label and a "
                    "submission that says something of it"
                )
            self.ledger.choose(volume, organ, source, reviewer)
            self._settle(volume)

    def take_over(self, volume: str, holder: Holder) -> int:
        """Give a case to a reviewer, who decides by a submission; the lease's number.

        Raises
        ------
        ConflictError
            Somebody else holds it.
        """
        lease = self.ledger.lease_for_review(volume, holder)
        if lease is None:
            raise ConflictError(f"{volume}: somebody else has it now; try again later")
        return lease.id
