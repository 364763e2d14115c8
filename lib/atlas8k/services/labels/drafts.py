"""The draft label of a volume, fused from every source there is, and its current label."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import VolumeError
from atlas8k.core.findings import Finding
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_grid, read_label
from atlas8k.labels.checks import label_findings
from atlas8k.labels.fusion import FusedLabel, SourceLabel, fuse
from atlas8k.labels.provenance import Provenance, write_label
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL, StudiesFolder
from atlas8k.store import (
    LabelVersion,
    NewLabel,
    OrganChange,
    OrganSource,
    Submission,
    checks,
    label_files,
    provenance,
    submissions,
    volumes,
)
from atlas8k.store.transaction import Transaction

logger = logging.getLogger(__name__)

PSEUDO, PUBLIC = "pseudo", "public"
_UNKNOWN = OrganSource("pseudo", "unknown")


def label_names() -> dict[str, dict[str, int]]:
    """Return what a label's info says of its values."""
    return {"label_names": dict(ORGAN_IDS)}


"""3D Slicer reads the names of a stored label here."""


def as_json(organs: Mapping[str, OrganSource]) -> dict[str, dict[str, Any]]:
    """Return sources by organ as JSON, for the info of a label."""
    return {organ: source._asdict() for organ, source in organs.items()}


def from_json(info: Mapping[str, Any]) -> dict[str, OrganSource]:
    """Return what :func:`as_json` wrote under ``organs``; what is not understood is left out."""
    found = {}
    organs = info.get("organs")
    for organ, fields in organs.items() if isinstance(organs, dict) else ():
        if organ in ORGAN_IDS and isinstance(fields, dict):
            try:
                found[organ] = OrganSource(**fields)
            except TypeError:
                continue
    return found


class Drawn(NamedTuple):
    """A submission's array ``(X, Y, Z)`` uint8, and what anatomical rules have against it."""

    array: npt.NDArray[np.uint8]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class DraftPlan:
    """What the draft label of a volume is to be made of.

    Attributes
    ----------
    sources
        Where each organ comes from; organs not named are pseudo labels.
    current
        The current submission.
    changes
        What it says of each organ.
    public, pseudo
        The labels of these tags.
    """

    sources: dict[str, OrganSource]
    current: Submission | None
    changes: dict[str, OrganChange]
    public: LabelVersion | None
    pseudo: LabelVersion | None

    @classmethod
    def of(cls, tx: Transaction, volume: str) -> Self:
        """Return what follows from the store as it is in a transaction."""
        if not volumes.is_known(tx, volume):
            return cls({}, None, {}, None, None)
        current = submissions.current(tx, volume)
        said = None if current is None else current.restored or current.id
        return cls(
            provenance.sources(tx, volume),
            current,
            {} if said is None else provenance.changes(tx, said),
            label_files.current_version(tx, volume, PUBLIC),
            label_files.current_version(tx, volume, PSEUDO),
        )

    def same_as(self, other: DraftPlan) -> bool:
        """Return whether both make the same draft label."""
        return self._key() == other._key()

    def has_current_of(self, other: DraftPlan) -> bool:
        """Return whether the same submission is current in both."""
        now, then = self.current, other.current
        return now is not None and then is not None and now.id == then.id

    def _key(self) -> tuple[object, ...]:
        files = [one.sha256 if one else None for one in (self.public, self.pseudo)]
        current = self.current and (self.current.id, self.current.sha256)
        return (self.sources, current, *files)


class CheckedDraft(NamedTuple):
    """A fused label that is written, and what anatomical rules have against it."""

    label: NewLabel
    findings: tuple[Finding, ...]


class DraftLabels:
    """Make the draft label of a volume, and say what is known of its current one.

    The caller holds the volume's lock.
    """

    def __init__(self, folder: StudiesFolder) -> None:
        self._folder, self._files = folder, folder.labels

    def grid(self, volume: str) -> Grid:
        """Return where a CT's voxels are."""
        return read_grid(self._folder.path / self._folder.known_image(volume).path)

    def make_final_current(self, tx: Transaction, volume: str, plan: DraftPlan) -> None:
        """Make the file of the current submission the current label."""
        submission = plan.current
        if submission is None or submission.sha256 is None:
            return  # recorded by an earlier release, which kept the current label in place
        kept = label_files.find(tx, volume, submission.sha256)
        if kept is None:
            logger.error(
                "%s: the file of submission %d is not there any more (sha256 %s)",
                volume,
                submission.id,
                submission.sha256,
            )
            return
        there = label_files.current(tx, volume, FINAL)
        same = there is not None and there.version == kept.id
        before = json.loads(there.info) if there is not None and same else kept.info
        info = {**before, **learnable(plan, submission, kept.info)}
        if not same or info != before:
            label_files.make_current(tx, volume, FINAL, kept.id, info)

    def make_draft(
        self, volume: str, plan: DraftPlan, drawn: Drawn | None = None
    ) -> CheckedDraft | None:
        """Fuse the draft label; None where it is the pseudo label, or where there is nothing.

        Parameters
        ----------
        drawn
            The current submission, where it is at hand.
        """
        sources, pseudo = plan.sources, plan.pseudo
        if not any(source.source != "pseudo" for source in sources.values()):
            return None
        grid = self.grid(volume)
        labels = self._labels(volume, grid, plan, drawn and drawn.array)
        if len(labels) == 1 and self._all_revised(labels[0], plan):
            made = FusedLabel(labels[0].array, {}, ())  # type: ignore[arg-type]
        else:
            made = fuse(grid.shape, labels)
        for overlap in made.overlaps:
            logger.info(
                "%s: %d voxels are %s in the %s label and %s in the %s one; the first counts",
                volume,
                overlap.voxels,
                overlap.kept,
                overlap.kept_source,
                overlap.lost,
                overlap.lost_source,
            )
        number = plan.current.id if plan.current is not None else None
        model = model_version(pseudo.info) if pseudo is not None else None
        stated = {**dict.fromkeys(ORGAN_NAMES, _UNKNOWN), **sources}
        info = {
            **({} if pseudo is None else pseudo.info),
            "organs": as_json(stated),
            "submission": number,
            "overlaps": [
                {"kept": one.kept, "lost": one.lost, "voxels": one.voxels} for one in made.overlaps
            ],
            "params": label_names(),
        }
        origin = Provenance(
            "assembled", organs=stated, submission=number, model_version=model, detail={}
        )
        # Where it is the submission as it is, that was checked.
        if drawn is not None and made.array is drawn.array:
            found = drawn.findings
        else:
            absent = [organ for organ, source in sources.items() if source.state == "absent"]
            found = tuple(label_findings(made.array, grid, absent))
        return CheckedDraft(self.write(volume, ORIGINAL, made.array, grid, origin, info), found)

    def make_draft_current(
        self, tx: Transaction, volume: str, plan: DraftPlan, made: CheckedDraft | None
    ) -> None:
        """Make a fused label, or the pseudo label where there is none, the current draft."""
        if made is not None:
            version = label_files.add(tx, volume, made.label)
            label_files.make_current(tx, volume, ORIGINAL, version, made.label.info)
            checks.record(tx, volume, "fused", made.findings)
            return
        checks.forget(tx, volume, "fused")
        if plan.pseudo is not None:
            info = dict(plan.pseudo.info)
            number = plan.current.id if plan.current is not None else None
            if plan.sources or number is not None:
                info |= {"organs": as_json(plan.sources), "submission": number}
            label_files.make_current(tx, volume, ORIGINAL, plan.pseudo.id, info)

    def _labels(
        self,
        volume: str,
        grid: Grid,
        plan: DraftPlan,
        drawn: npt.NDArray[np.uint8] | None,
    ) -> list[SourceLabel]:
        """Return the sources that organs come from, each with those that come from it.

        The store has decided which that is; fusion only puts voxels together.
        """
        by: dict[str, dict[str, OrganSource]] = {"public": {}, "revised": {}, "pseudo": {}}
        for organ in ORGAN_NAMES:
            source = plan.sources.get(organ, _UNKNOWN)
            by[source.source][organ] = source
        found = []
        if by["public"]:
            array = self._stored(volume, plan.public, grid)
            found.append(SourceLabel("public", array, by["public"]))
        if by["revised"] and plan.current is not None:
            array = drawn
            if array is None:
                kept = self._folder.index.find_label(volume, plan.current.sha256 or "")
                array = self._stored(volume, kept, grid)
            found.append(SourceLabel("revised", array, by["revised"]))
        pseudo = plan.pseudo
        if pseudo is not None and any(_drawn(pseudo.info, organ) for organ in by["pseudo"]):
            array = self._stored(volume, pseudo, grid)
            found.append(SourceLabel("pseudo", array, by["pseudo"]))
        return found

    def _all_revised(self, label: SourceLabel, plan: DraftPlan) -> bool:
        """Return whether a submission's label is the fused one as it is."""
        if label.kind != "revised" or label.array is None or plan.current is None:
            return False
        voxels = {organ for organ, change in plan.changes.items() if change.voxels_after != 0}
        there = {organ for organ, source in label.organs.items() if source.state != "absent"}
        return len(plan.changes) == len(ORGAN_NAMES) and voxels <= there

    def _stored(
        self, volume: str, version: LabelVersion | None, grid: Grid
    ) -> npt.NDArray[np.uint8] | None:
        return None if version is None else self.array(volume, self._files.file(version), grid)

    def array(self, volume: str, path: Path | None, grid: Grid) -> npt.NDArray[np.uint8] | None:
        """Return the voxels of a label file, ``(X, Y, Z)`` uint8 on `grid`.

        None, and why in the log, where there is none that can be used.
        """
        if path is None:
            return None
        try:
            label = read_label(path)
        except VolumeError as error:
            logger.error("%s: a label cannot be read and is left out: %s", volume, error)
            return None
        if not label.grid.same_as(grid):
            logger.error("%s: %s is not on the CT's grid", volume, path.name)
            return None
        return np.asarray(label.array, dtype=np.uint8)

    def write(
        self,
        volume: str,
        tag: str,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        origin: Provenance,
        info: Mapping[str, Any],
        at: float | None = None,
    ) -> NewLabel:
        """Write a label file with where it comes from in its header; it is not current yet."""
        with self._files.incoming(tag, ".nii.gz") as path:
            write_label(path, array, grid, origin)
            return self._files.keep(volume, tag, path, ".nii.gz", info, at)


def learnable(plan: DraftPlan, submission: Submission, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the organs of a submission's label that may be learnt from.

    Those that are current, and public ones that it has taken over as they are.
    """
    own = from_json(info)
    known = {}
    for organ, source in plan.sources.items():
        stated = own.get(organ)
        if (source.source == "revised" and source.state != "not_assessed") or (
            source.source == "public" and stated is not None and stated.source == "public"
        ):
            known[organ] = source.state
    return {
        "present": [o for o in ORGAN_NAMES if o in known and known[o] != "absent"],
        "absent": [o for o in ORGAN_NAMES if known.get(o) == "absent"],
        "submission": submission.id,
        "params": label_names(),
    }


def _drawn(info: Mapping[str, Any], organ: str) -> bool:
    """Return whether a pseudo label has voxels of an organ, as far as its info says."""
    voxels = info.get("voxels")
    return not isinstance(voxels, dict) or bool(voxels.get(organ))


def model_version(info: Mapping[str, Any]) -> str | None:
    """Return the model version a label was made under, as far as its info says."""
    value = info.get("model_version")
    return value if isinstance(value, str) else None
