"""A client's label made into a submission: understood, written whole, entered in the store.

What takes time (reading, comparing) is done before the volume is locked. Under the lock,
the file comes first and the store second: a process that is killed leaves a submission that is
entered, or a file that nobody knows of.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import LedgerError
from atlas8k.core.files import sha256_of
from atlas8k.core.findings import Finding
from atlas8k.core.grid import Grid
from atlas8k.core.organ_states import QualityFound
from atlas8k.core.volume import read_label
from atlas8k.labels.checks import label_findings
from atlas8k.labels.ingest import Submitted, ingest
from atlas8k.labels.places_changed import places_changed
from atlas8k.labels.plausibility import find_impossible
from atlas8k.labels.provenance import Provenance
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
from atlas8k.services.calibrations import Calibrations
from atlas8k.services.labels.drafts import (
    DraftLabels,
    DraftPlan,
    Drawn,
    as_json,
    from_json,
    label_names,
    learnable,
    model_version,
)
from atlas8k.services.labels.reconcile import Reconciler
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL, StudiesFolder
from atlas8k.services.studies.plain import merged
from atlas8k.services.studies.versions import Version, Versions
from atlas8k.store import (
    BLIND,
    Assistance,
    Holder,
    NewLabel,
    NumberTakenError,
    OrganChange,
    OrganSource,
    Submission,
    SubmissionContext,
    checks,
    label_files,
    scores,
    submissions,
)
from atlas8k.store.transaction import Transaction

logger = logging.getLogger(__name__)

OWN_KEYS = frozenset(
    {
        "absent",
        "attention_ml",
        "holder",
        "model",
        "model_version",
        "model_signature",  # its name before 0.2
        "notes",
        "organs",
        "overlaps",
        "params",
        "present",
        "provenance",
        "read_by",
        "tools",
        "start_sha256",
        "submission",
        "ts",
    }
)
"""What a label's info says by the server's word alone."""

TOOLS = "tools"
"""Of a submission's detail: by organ, the tools from outside that helped, with their licences."""
BOOKED = ("read_by", "client_id", "notes", "note", "places", "quality", TOOLS)
"""Of what is said of a submission in its file's header, what the store keeps too."""

IMPORTED_BY = Holder("folder:labels/final")
"""Stands for who made a label that was in the folder."""

HUMAN = ("confirmed", "revised", "absent")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A submission that has been understood, not yet booked.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids, organs that were not named as in the draft label.
    organs
        What it says of each organ.
    inherited
        Source of each organ in the draft label.
    findings
        What anatomical rules have against it.
    """

    volume: str
    holder: Holder
    lease: int | None
    array: npt.NDArray[np.uint8]
    grid: Grid
    organs: dict[str, OrganChange]
    inherited: dict[str, OrganSource]
    context: SubmissionContext
    begun_from: int
    start_sha256: str | None
    model_version: str | None
    content: str
    info: dict[str, Any]
    detail: dict[str, Any]
    findings: tuple[Finding, ...]


class Submissions:
    """Understand, write and book submissions of one studies folder."""

    def __init__(
        self, folder: StudiesFolder, versions: Versions, drafts: DraftLabels, reconciler: Reconciler
    ) -> None:
        self._ledger, self._index, self._files = folder.ledger, folder.index, folder.labels
        self._versions, self._drafts, self._reconciler = versions, drafts, reconciler
        self._calibrations = Calibrations(folder.ledger)
        self.from_scratch = False
        """A second reader begins with no label."""

    def start(self, volume: str, context: SubmissionContext) -> Version | None:
        """Return the draft label a submission began from: the current one at its lease.

        A second reading began from what the first reader was given, or from nothing.
        """
        if context.purpose == "double_read":
            return self.first_start(volume)
        if context.purpose == "gold" and context.draft is None:  # without a lease
            return self.given_first(volume)
        draft = None if context.draft is None else self._index.find_version(context.draft)
        if draft is not None and self._files.file(draft).is_file():
            return self._versions.of(draft)
        # Without a lease, or one of an image that had no draft label then.
        return self._versions.current(volume, ORIGINAL)

    def first_start(self, volume: str) -> Version | None:
        """Return the draft label that a volume's second reading begins from: the first one's."""
        return None if self.from_scratch else self.given_first(volume)

    def given_first(self, volume: str) -> Version | None:
        """Return the draft label that the first reader of a volume was given."""
        known = self._ledger.submissions(volume)
        if not known:
            return self._versions.current(volume, ORIGINAL)
        if known[0].start_sha256 is None:
            return None
        return self._versions.find(volume, known[0].start_sha256)

    def prepare(
        self,
        volume: str,
        sent: Path,
        holder: Holder,
        params: Mapping[str, Any],
        lease: int | None = None,
        helped: Mapping[str, Sequence[Assistance]] | None = None,
        *,
        blind: bool = False,
    ) -> Prepared:
        """Understand what a client sent.

        Parameters
        ----------
        helped
            What helped with organs that are from elsewhere, as an export says of its labels; of
            these organs nothing else counts.
        blind
            It is a gold case, and the holder was shown nothing of the current submission.

        Raises
        ------
        VolumeError
            It is refused; the reason says what to do.
        """
        grid = self._drafts.grid(volume)
        context = self._ledger.submission_context(volume, holder, lease)
        if blind and context.purpose == "revise":
            context = replace(context, purpose="gold")
        said = Statement.of(params, sent, default=context.looked_at)
        start = self.start(volume, context)
        before = self._drafts.array(volume, None if start is None else start.path, grid)
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
        absent = [organ for organ, change in organs.items() if change.state == "absent"]
        inherited = from_json(info)
        evidence = self._evidence(volume, context, before, array, grid, organs)
        if evidence and (model := model_version(info)) is not None:
            evidence |= self._quality(volume, model, grid, organs, inherited)
        evidence |= self._tools(volume, holder, organs, inherited, helped or {})
        kept = {key: value for key, value in params.items() if key not in OWN_KEYS}
        return Prepared(
            volume=volume,
            holder=holder,
            lease=lease,
            array=array,
            grid=grid,
            organs=organs,
            inherited=inherited,
            context=context,
            begun_from=number if isinstance(number, int) and before is not None else 0,
            start_sha256=start.sha256 if start is not None else None,
            model_version=model_version(info),
            content=_content(sent, params),
            info=merged({}, kept),
            detail={**said.as_dict(), **_detail(submitted, params, context), **evidence},
            findings=tuple(label_findings(array, grid, absent)),
        )

    def _evidence(
        self,
        volume: str,
        context: SubmissionContext,
        before: npt.NDArray[np.uint8] | None,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        organs: Mapping[str, OrganChange],
    ) -> dict[str, Any]:
        """Return how the changes lie to the places that were shown; nothing where none were."""
        if before is None or context.model_version is None or context.lease is None:
            return {}
        shown = self._ledger.explanation(volume, context.model_version)
        if shown is None or "regions" not in shown:
            return {}
        return {"places": places_changed(before, array, grid, organs, shown["regions"])}

    def _quality(
        self,
        volume: str,
        model: str,
        grid: Grid,
        organs: Mapping[str, OrganChange],
        inherited: Mapping[str, OrganSource],
    ) -> dict[str, Any]:
        """Return what was predicted of the draft label beside what was found.

        Of organs that were assessed, and that are the networks' own in the draft label.
        """
        said = (self._ledger.explanation(volume, model) or {}).get("quality")
        if not said:
            return {}
        shown = self._calibrations.of(model).applied(said)
        found = {}
        for organ, change in organs.items():
            own = organ not in inherited or inherited[organ].source == "pseudo"
            known = said.get(organ, {}).get("spread") is not None
            if change.state in HUMAN and change.dsc is not None and own and known:
                before, now = said[organ], shown[organ]
                found[organ] = QualityFound(
                    dice=before["dice"],
                    spread=before["spread"],
                    wrong_ml=before["wrong_ml"],
                    shown=now["dice"],
                    low=now["low"],
                    high=now["high"],
                    calibrated=now["calibrated"],
                    found_dice=round(change.dsc, 4),
                    found_ml=round((change.voxels_changed or 0) * grid.voxel_ml, 3),
                )
        return {"quality": found} if found else {}

    def _tools(
        self,
        volume: str,
        holder: Holder,
        organs: Mapping[str, OrganChange],
        inherited: Mapping[str, OrganSource],
        helped: Mapping[str, Sequence[Assistance]],
    ) -> dict[str, Any]:
        """Return what helped with organs, also with those that a submission before had drawn."""
        used = self._ledger.assistance(volume, holder.key)
        earlier: dict[int, dict[str, list[Assistance]]] = {}
        found: dict[str, list[dict[str, str]]] = {}
        for organ, change in organs.items():
            drawn = change.state == "revised" or change.drawn_unassessed
            if not drawn and change.state != "confirmed":
                continue
            before = inherited[organ].submission if organ in inherited else None
            made = set(used.get(organ, [])) if drawn else set()
            if organ in helped:  # it is taken from there, whatever was drawn here
                made = set(helped[organ])
            elif before is not None:
                if before not in earlier:
                    earlier[before] = self._ledger.helped(before)
                made |= set(earlier[before].get(organ, []))
            if made:
                found[organ] = [asdict(one) for one in sorted(made)]
        return {TOOLS: found} if found else {}

    def record(
        self,
        ready: Prepared,
        *,
        sample: bool = False,
        second_reading: bool = False,
        adopted: bool = False,
        at: float | None = None,
    ) -> Submission:
        """Write its file and enter it in the store; the caller holds the volume's lock.

        Parameters
        ----------
        adopted
            It was in the folder, and is nobody's work in a round.
        at
            When it was made, UTC seconds since 1970, where not now.
        """
        at = time.time() if at is None else at
        agreement, said = self._agreement(ready), ready.detail
        while True:
            number = self._ledger.next_number()
            label = self._write(ready, number, at, sample, second_reading, adopted)
            label, draft = self._as_current(ready, number, label)

            def enter(
                tx: Transaction,
                number: int = number,
                label: NewLabel = label,
                draft: NewLabel | None = draft,
            ) -> Submission:
                submissions.submit(
                    tx,
                    ready.volume,
                    ready.holder,
                    file=label.file,
                    sha256=label.sha256,
                    model_version=scores.known(tx, ready.model_version),
                    organs=ready.organs,
                    detail={
                        **{key: said[key] for key in BOOKED if key in said},
                        **({"adopted": True} if adopted else {}),
                    },
                    number=number,
                    lease=ready.lease,
                    content=ready.content,
                    begun_from=ready.begun_from,
                    start_sha256=ready.start_sha256,
                    sample=sample,
                    second_reading=second_reading,
                    agreement=agreement,
                    at=at,
                    adopted=adopted,
                    blind=ready.context.purpose == "gold",
                )
                label_files.add(tx, ready.volume, label, submission=number, at=at)
                if draft is not None:
                    label_files.add(tx, ready.volume, draft, submission=number, at=at)
                if ready.context.purpose not in BLIND:  # which are not current
                    checks.record(tx, ready.volume, "submitted", ready.findings)
                return submissions.get(tx, number)

            try:
                return self._reconciler.change(
                    ready.volume, enter, drawn=Drawn(ready.array, ready.findings)
                )
            except NumberTakenError:
                # Another process was quicker; the file says a number that is not its own.
                self._files.file(label).unlink(missing_ok=True)
            except Exception:
                # Whoever sent it is told so, and has it; a rebuild must not count it beside the
                # one that is sent again.
                with contextlib.suppress(LedgerError), self._ledger.read() as tx:
                    if label_files.of_file(tx, ready.volume, label.file) is None:
                        self._files.file(label).unlink(missing_ok=True)
                raise

    def _as_current(
        self, ready: Prepared, number: int, label: NewLabel
    ) -> tuple[NewLabel, NewLabel | None]:
        """Return a reading's label, and the draft label that would follow from it.

        Only of a gold case that another's reading is current of: its reader is shown these.
        """
        current = self._ledger.current_submission(ready.volume)
        if ready.context.purpose != "gold" or current is None:
            return label, None
        sources = self._ledger.sources_of(ready.volume, ready.organs, ready.begun_from, number)
        with self._ledger.read() as tx:
            plan = DraftPlan.of(tx, ready.volume)
        own = replace(current, id=number, sha256=label.sha256, restored=None)
        plan = replace(plan, sources=sources, current=own, changes=ready.organs)
        made = self._drafts.make_draft(ready.volume, plan, Drawn(ready.array, ready.findings))
        info = {**label.info, **learnable(plan, own, label.info)}
        draft = None if made is None else made.label._replace(tag=label_files.BESIDE)
        return label._replace(info=info), draft

    def _write(
        self,
        ready: Prepared,
        number: int,
        at: float,
        sample: bool,
        second_reading: bool,
        adopted: bool,
    ) -> NewLabel:
        """Write the file of a submission; a store can be made anew from what its header says."""
        stated = stated_organs(ready.organs, ready.inherited, number)
        info = {
            **ready.info,
            "organs": as_json(stated),
            "submission": number,
            "model_version": ready.model_version,
            "read_by": ready.detail["read_by"],
            **({"notes": ready.detail["notes"]} if "notes" in ready.detail else {}),
            "params": label_names(),
        }
        origin = Provenance(
            "submission",
            organs=stated,
            changes=ready.organs,
            holder=ready.holder.key,
            anonymous=ready.holder.anonymous,
            submission=number,
            at=at,
            minutes=None if ready.context.taken_at is None else (at - ready.context.taken_at) / 60,
            model_version=ready.model_version,
            start_sha256=ready.start_sha256,
            detail={
                **ready.detail,
                **({"adopted": True} if adopted else {}),
                "begun_from": ready.begun_from,
                "base": ready.context.base,
                # Its reader can read this.
                "purpose": "revise" if ready.context.purpose == "gold" else ready.context.purpose,
                "content": ready.content,
                "lease": ready.lease,
                "sample": sample,
                "second_reading": second_reading,
            },
        )
        return self._drafts.write(ready.volume, FINAL, ready.array, ready.grid, origin, info, at)

    def _agreement(self, ready: Prepared) -> dict[str, OrganChange]:
        """Return how far a second reading agrees with the first, organ by organ."""
        first = self._ledger.current_submission(ready.volume)
        if ready.context.purpose != "double_read" or first is None:
            return {}
        one = self._versions.find(ready.volume, first.sha256 or "")
        if one is None:
            return {}
        before = read_label(one.path)
        return compare_readings(before.array, ready.array, before.grid)


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


def _detail(
    submitted: Submitted, params: Mapping[str, Any], context: SubmissionContext
) -> dict[str, Any]:
    client = params.get("client_id")
    found = find_impossible(submitted.array, submitted.grid)
    odd = (f"look again: {one.text}" for one in found if one.rule != "volume")  # asked about
    notes = [*submitted.notes, *odd]
    return {
        "read_by": submitted.read_by,
        **({"client_id": str(client)[:80]} if client else {}),
        **({"note": note} if (note := _note(params.get("note"))) else {}),
        **({"ignored": list(submitted.ignored)[:50]} if submitted.ignored else {}),
        **({"notes": notes} if notes else {}),
        **(
            {"overlaps": [[one.kept, one.lost, one.voxels] for one in submitted.overlaps]}
            if submitted.overlaps
            else {}
        ),
        **({"ambiguous_lease": True} if context.ambiguous else {}),
    }


def _note(given: Any) -> dict[str, Any]:
    """Return an annotator's words about a case: ``comment``, ``difficulty``, ``kinds`` of error."""
    if not isinstance(given, dict):
        return {}
    kinds = given.get("kinds")
    words = {
        "comment": str(given.get("comment") or "")[:2000],
        "difficulty": str(given.get("difficulty") or "")[:80],
        "kinds": [str(one)[:80] for one in kinds[:20]] if isinstance(kinds, list) else [],
    }
    return {key: value for key, value in words.items() if value}
