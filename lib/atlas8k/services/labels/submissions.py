"""A client's label made into a submission: understood, written whole, booked.

What takes time (reading, comparing) is done before the volume is locked. Under the lock,
the file comes first and the ledger second: a process that is killed leaves a file with a
reserved number, booked later from what the file says of itself, or nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import LedgerError, VolumeError
from atlas8k.core.files import sha256_of
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import read_label
from atlas8k.labels.ingest import Submitted, ingest
from atlas8k.labels.plausibility import find_impossible
from atlas8k.labels.provenance import Provenance, read_provenance, write_label
from atlas8k.labels.submission_diff import (
    KEYS,
    Statement,
    add_rest_of_ct,
    add_unnamed_organs,
    check_reviewed,
    compare_readings,
    compare_with_draft,
    withhold_odd_volumes,
)
from atlas8k.services.labels.drafts import LABEL_NAMES, DraftLabels, as_json, from_json, signature
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.services.studies.plain import merged
from atlas8k.services.studies.versions import Version, Versions
from atlas8k.store import Begun, Holder, Ledger, OrganChange, OrganSource, Submission

logger = logging.getLogger(__name__)

OWN_KEYS = frozenset(
    {
        *("present", "absent", "organs", "submission", "model_signature", "start_sha256"),
        *(
            "provenance",
            "holder",
            "params",
            "read_by",
            "notes",
            "overlaps",
            "ts",
            "attention_ml",
            "model",
        ),
    }
)
"""What a label's info says by the server's word alone."""

IMPORTED_BY = Holder("folder:labels/final")
"""Stands for who made a label that was in the folder."""

HUMAN = ("confirmed", "revised", "absent")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A submission that has been understood, not yet booked.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids, organs that were not named as in the start label.
    organs
        What it says of each organ.
    inherited
        Source of each organ in the start label.
    """

    volume: str
    holder: Holder
    lease: int | None
    array: npt.NDArray[np.uint8]
    grid: Grid
    organs: dict[str, OrganChange]
    inherited: dict[str, OrganSource]
    begun: Begun
    begun_from: int
    start_sha256: str | None
    model_signature: str | None
    content: str
    info: dict[str, Any]
    detail: dict[str, Any]


class Submissions:
    """Understand, write and book submissions of one studies folder."""

    def __init__(self, ledger: Ledger, versions: Versions, drafts: DraftLabels) -> None:
        self._ledger, self._versions, self._drafts = ledger, versions, drafts

    def start(self, volume: str, begun: Begun) -> Version | None:
        """Return the draft label a submission began from: the current one at its lease.

        A second reading began from what the first reader was given.
        """
        if begun.purpose == "double_read":
            return self.first_start(volume)
        if begun.taken_at is None:
            return self._versions.current(volume, ORIGINAL)
        return self._versions.at(volume, ORIGINAL, begun.taken_at)

    def first_start(self, volume: str) -> Version | None:
        """Return the draft label that a volume's first submission began from."""
        known = self._ledger.submissions(volume)
        if not known:
            return self._versions.current(volume, ORIGINAL)
        if known[0].start_sha256 is None:
            return None
        return self._versions.find(volume, ORIGINAL, known[0].start_sha256)

    def prepare(
        self,
        volume: str,
        sent: Path,
        holder: Holder,
        params: Mapping[str, Any],
        lease: int | None = None,
    ) -> Prepared:
        """Understand what a client sent.

        Raises
        ------
        VolumeError
            It is refused; the reason says what to do.
        """
        grid = self._drafts.grid(volume)
        begun = self._ledger.begun(volume, holder, lease)
        said = Statement.of(params, sent, default=begun.looked_at)
        start = self.start(volume, begun)
        before = self._drafts.array(volume, start, grid)
        submitted = ingest(
            sent,
            grid,
            params.get("label_info"),
            absent=sorted(said.absent),
            may_be_empty=before is not None and not before.any(),
        )
        submitted = add_rest_of_ct(
            before, submitted, partial=said.partial, absent=said.absent, path=sent
        )
        organs = compare_with_draft(before, submitted, said)
        check_reviewed(organs, submitted, said, sent.name)
        array = add_unnamed_organs(before, submitted, organs)
        organs = withhold_odd_volumes(organs, array, grid, said.volume_is_right)
        info = start.info if start is not None else {}
        number = info.get("submission")
        kept = {key: value for key, value in params.items() if key not in OWN_KEYS}
        return Prepared(
            volume=volume,
            holder=holder,
            lease=lease,
            array=array,
            grid=grid,
            organs=organs,
            inherited=from_json(info),
            begun=begun,
            begun_from=number if isinstance(number, int) and before is not None else 0,
            start_sha256=start.sha256 if start is not None else None,
            model_signature=signature(info),
            content=_content(sent, params),
            info=merged({}, kept),
            detail={**said.as_dict(), **_detail(submitted, params, begun)},
        )

    def book(
        self,
        ready: Prepared,
        *,
        sample: bool = False,
        second_reading: bool = False,
        adopted: bool = False,
        at: float | None = None,
    ) -> Submission:
        """Write its file and note it in the ledger; alone with the volume.

        Parameters
        ----------
        adopted
            It was in the folder, and is nobody's work in a round.
        at
            When it was made, UTC seconds since 1970, where not now.
        """
        number = self._ledger.reserve(ready.volume)
        try:
            at = time.time() if at is None else at
            stated = stated_organs(ready.organs, ready.inherited, number)
            info = {
                **ready.info,
                "organs": as_json(stated),
                "submission": number,
                "model_signature": ready.model_signature,
                "read_by": ready.detail["read_by"],
                **({"notes": ready.detail["notes"]} if "notes" in ready.detail else {}),
                "params": LABEL_NAMES,
            }
            origin = Provenance(
                "submission",
                organs=stated,
                changes=ready.organs,
                holder=ready.holder.key,
                anonymous=ready.holder.anonymous,
                submission=number,
                at=at,
                minutes=None if ready.begun.taken_at is None else (at - ready.begun.taken_at) / 60,
                signature=ready.model_signature,
                start_sha256=ready.start_sha256,
                detail={
                    **ready.detail,
                    **({"adopted": True} if adopted else {}),
                    "begun_from": ready.begun_from,
                    "base": ready.begun.base,
                    "purpose": ready.begun.purpose,
                    "content": ready.content,
                    "lease": ready.lease,
                    "sample": sample,
                    "second_reading": second_reading,
                },
            )
            with self._versions.incoming(FINAL) as path:
                write_label(path, ready.array, ready.grid, origin)
                kept = self._versions.keep(ready.volume, FINAL, path, info, at)
            return self._submit(ready.volume, kept, origin, ready.array)
        except OSError:
            self._ledger.forget(number)
            raise

    def _submit(
        self,
        volume: str,
        kept: Version,
        origin: Provenance,
        array: npt.NDArray[np.uint8] | None = None,
    ) -> Submission:
        """Book a file by what it says of itself."""
        said = dict(origin.detail)
        holder = Holder(origin.holder or "unknown", origin.anonymous)
        lease = said.get("lease")
        lease = lease if isinstance(lease, int) else None
        begun = self._ledger.begun(volume, holder, lease, at=origin.at)
        agreement = {}
        first = self._ledger.in_force(volume)
        if begun.purpose == "double_read" and first is not None:
            agreement = self._agreement(volume, first, kept, array)
        return self._ledger.submit(
            volume,
            holder,
            file=str(kept.path.relative_to(self._versions.root)),
            sha256=kept.sha256,
            signature=self._known(origin.signature),
            organs=origin.changes,
            detail={k: said[k] for k in ("read_by", "client_id", "adopted", "notes") if k in said},
            number=origin.submission,
            lease=lease,
            content=said.get("content"),
            begun_from=said.get("begun_from", 0),
            start_sha256=origin.start_sha256,
            sample=bool(said.get("sample")),
            second_reading=bool(said.get("second_reading")),
            agreement=agreement,
            at=origin.at,
            adopted=bool(said.get("adopted")),
        )

    def _known(self, name: str | None) -> str | None:
        """Return a model version where the ledger has it: a rebuilt one may not."""
        if name is None:
            return None
        try:
            self._ledger.signature_detail(name)
        except LedgerError:
            return None
        return name

    def _agreement(
        self,
        volume: str,
        first: Submission,
        second: Version,
        array: npt.NDArray[np.uint8] | None,
    ) -> dict[str, OrganChange]:
        """Return how far two readings agree, organ by organ."""
        one = self._versions.find(volume, FINAL, first.sha256 or "")
        if one is None:
            return {}
        before = read_label(one.path)
        after = read_label(second.path).array if array is None else array
        return compare_readings(before.array, after, before.grid)

    def book_left_behind(self, volume: str) -> list[Submission]:
        """Book what killed processes had written; the caller holds the volume's lock."""
        booked = []
        for one in self._ledger.reserved(volume):
            found = self._unbooked(volume, one.number)
            if found is None:
                self._ledger.forget(one.number)
                continue
            kept, origin = found
            logger.info("%s: submission %d was written but not booked", volume, one.number)
            booked.append(self._submit(volume, kept, origin))
        return booked

    def _unbooked(self, volume: str, number: int) -> tuple[Version, Provenance] | None:
        for kept in self._versions.kept(volume, FINAL):
            try:
                origin = read_provenance(kept.path)
            except VolumeError:
                continue
            if origin is not None and origin.submission == number:
                return kept, origin
        return None

    def describe(self, volume: str, submission: Submission) -> None:
        """Record what an imported label says, file against draft label; without names."""
        kept = self._versions.find(volume, FINAL, submission.sha256 or "")
        if kept is None:
            return
        try:
            label = read_label(kept.path)
        except VolumeError as error:
            logger.warning("%s: its submitted label cannot be read: %s", volume, error)
            return
        begun = Begun(None, None, False, 0, None, "revise", False)
        before = self._drafts.array(volume, self.start(volume, begun), label.grid)
        present = frozenset(ORGAN_NAMES[i - 1] for i in np.unique(label.array) if 1 <= i <= 9)
        submitted = Submitted(label.array, label.grid, present, "organ ids", {})
        self._ledger.describe(submission.id, compare_with_draft(before, submitted))


def stated_organs(
    organs: Mapping[str, OrganChange], inherited: Mapping[str, OrganSource], number: int
) -> dict[str, OrganSource]:
    """Return where each organ in a submission's own file comes from."""
    found = {}
    for organ, change in organs.items():
        # A dispute belongs to the volume, not to a file.
        before = inherited.get(organ, OrganSource("pseudo", "unknown"))._replace(disputed=False)
        own = change.state in HUMAN or change.drawn_unassessed
        if own and not (change.state == "confirmed" and before.source == "public"):
            before = OrganSource("revised", change.state, submission=number)
        found[organ] = before
    return found


def _content(sent: Path, params: Mapping[str, Any]) -> str:
    """Return the sha256 of a file with what is said beside it: said otherwise, it is another."""
    digest = sha256_of(sent)
    said = {key: params[key] for key in KEYS if params.get(key) is not None}
    if not said:
        return digest
    return hashlib.sha256(f"{digest} {json.dumps(said, sort_keys=True)}".encode()).hexdigest()


def _detail(submitted: Submitted, params: Mapping[str, Any], begun: Begun) -> dict[str, Any]:
    client = params.get("client_id")
    found = find_impossible(submitted.array, submitted.grid)
    odd = (f"look again: {one.text}" for one in found if one.rule != "volume")  # asked about
    notes = [*submitted.notes, *odd]
    return {
        "read_by": submitted.read_by,
        **({"client_id": str(client)[:80]} if client else {}),
        **({"ignored": list(submitted.ignored)[:50]} if submitted.ignored else {}),
        **({"notes": notes} if notes else {}),
        **(
            {"overlaps": [[one.kept, one.lost, one.voxels] for one in submitted.overlaps]}
            if submitted.overlaps
            else {}
        ),
        **({"ambiguous_lease": True} if begun.ambiguous else {}),
    }
