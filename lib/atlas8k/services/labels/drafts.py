"""The draft label of a volume: fused from every source there is, made current."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import VolumeError
from atlas8k.core.files import sha256_of
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_grid, read_label
from atlas8k.labels.fusion import FusedLabel, SourceLabel, fuse
from atlas8k.labels.provenance import Provenance, write_label
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL, StudiesFolder
from atlas8k.services.studies.versions import Version, Versions
from atlas8k.store import LabelFile, Ledger, OrganSource, Submission

logger = logging.getLogger(__name__)

PSEUDO, PUBLIC = "pseudo", "public"
_UNKNOWN = OrganSource("pseudo", "unknown")
LABEL_NAMES = {"label_names": dict(ORGAN_IDS)}
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


class DraftLabels:
    """Write ``labels/original`` and ``labels/final`` of one studies folder.

    The caller holds the volume's lock.
    """

    def __init__(self, folder: StudiesFolder, ledger: Ledger, versions: Versions) -> None:
        self._folder, self._ledger, self._versions = folder, ledger, versions

    def grid(self, volume: str) -> Grid:
        """Return where a CT's voxels are."""
        return read_grid(self._folder.path / self._folder.known_image(volume).path)

    def make_current(self, volume: str, submission: Submission) -> None:
        """Make a submission's file the current label."""
        if submission.sha256 is None:
            return  # recorded by an earlier release, which kept the current label in place
        kept = self._versions.find(volume, FINAL, submission.sha256)
        there = self._versions.current(volume, FINAL)
        if kept is None:
            logger.error(
                "%s: the file of submission %d is not there any more (sha256 %s)",
                volume,
                submission.id,
                submission.sha256,
            )
            return
        same = there is not None and there.sha256 == kept.sha256
        before = there.info if there is not None and same else kept.info
        info = {**before, **self._known(volume, submission, kept.info)}
        self._versions.put_in_force(volume, FINAL, kept.path, kept.sha256, info)
        self.record(volume, FINAL, kept.sha256, submission=submission.id)

    def _known(
        self, volume: str, submission: Submission, info: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the organs of a submission's label that may be learnt from.

        Those that are current, and public ones that it has taken over as they are.
        """
        ruling = self._ledger.sources(volume)
        file = from_json(info) or self._ledger.revised_organs(submission.id)
        known = {}
        for organ, source in ruling.items():
            own = file.get(organ)
            if (source.source == "revised" and source.state != "not_assessed") or (
                source.source == "public" and own is not None and own.source == "public"
            ):
                known[organ] = source.state
        return {
            "present": [o for o in ORGAN_NAMES if o in known and known[o] != "absent"],
            "absent": [o for o in ORGAN_NAMES if known.get(o) == "absent"],
            "submission": submission.id,
            "params": LABEL_NAMES,
        }

    def make_draft(
        self,
        volume: str,
        current: Submission | None,
        drawn: npt.NDArray[np.uint8] | None = None,
    ) -> dict[str, OrganSource]:
        """Fuse the draft label from what is there now; return where each organ comes from.

        `drawn` is the array of the current submission, where it is at hand.
        """
        sources = self._ledger.sources(volume)
        pseudo = self._pseudo(volume)
        number = current.id if current is not None else None
        if not any(source.source != "pseudo" for source in sources.values()):
            if pseudo is not None:
                info = dict(pseudo.info)
                if sources or number is not None:
                    info |= {"organs": as_json(sources), "submission": number}
                self._versions.put_in_force(volume, ORIGINAL, pseudo.path, pseudo.sha256, info)
                self.record(volume, ORIGINAL, pseudo.sha256, signature(pseudo.info), number)
            return sources
        grid = self.grid(volume)
        labels = self._labels(volume, grid, sources, pseudo, current, drawn)
        if len(labels) == 1 and self._all_revised(labels[0], current):
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
        model = signature(pseudo.info) if pseudo is not None else None
        stated = {**dict.fromkeys(ORGAN_NAMES, _UNKNOWN), **sources}
        info = {
            **({} if pseudo is None else pseudo.info),
            "organs": as_json(stated),
            "submission": number,
            "overlaps": [
                {"kept": one.kept, "lost": one.lost, "voxels": one.voxels} for one in made.overlaps
            ],
            "params": LABEL_NAMES,
        }
        origin = Provenance(
            "assembled", organs=stated, submission=number, signature=model, detail={}
        )
        sha256 = self.write(volume, ORIGINAL, made.array, grid, origin, info)
        self.record(volume, ORIGINAL, sha256, model, number)
        return sources

    def _labels(
        self,
        volume: str,
        grid: Grid,
        sources: Mapping[str, OrganSource],
        pseudo: Version | None,
        current: Submission | None,
        drawn: npt.NDArray[np.uint8] | None,
    ) -> list[SourceLabel]:
        """Return the sources that organs come from, each with those that come from it.

        The ledger has decided which that is; fusion only puts voxels together.
        """
        by: dict[str, dict[str, OrganSource]] = {"public": {}, "revised": {}, "pseudo": {}}
        for organ in ORGAN_NAMES:
            source = sources.get(organ, _UNKNOWN)
            by[source.source][organ] = source
        found = []
        if by["public"]:
            array = self.array(volume, self._versions.current(volume, PUBLIC), grid)
            found.append(SourceLabel("public", array, by["public"]))
        if by["revised"] and current is not None:
            array = drawn
            if array is None:
                kept = self._versions.find(volume, FINAL, current.sha256 or "")
                array = self.array(volume, kept, grid)
            found.append(SourceLabel("revised", array, by["revised"]))
        if pseudo is not None and any(_drawn(pseudo.info, organ) for organ in by["pseudo"]):
            array = self.array(volume, pseudo, grid)
            found.append(SourceLabel("pseudo", array, by["pseudo"]))
        return found

    def _all_revised(self, label: SourceLabel, current: Submission | None) -> bool:
        """Return whether a submission's label is the fused one as it is."""
        if label.kind != "revised" or label.array is None or current is None:
            return False
        said = self._ledger.changes(current.restored or current.id)
        voxels = {organ for organ, change in said.items() if change.voxels_after != 0}
        there = {organ for organ, source in label.organs.items() if source.state != "absent"}
        return len(said) == len(ORGAN_NAMES) and voxels <= there

    def array(
        self, volume: str, version: Version | None, grid: Grid
    ) -> npt.NDArray[np.uint8] | None:
        """Return the voxels of a label file, ``(X, Y, Z)`` uint8 on `grid`.

        None, and why in the log, where there is none that can be used.
        """
        if version is None:
            return None
        try:
            label = read_label(version.path)
        except VolumeError as error:
            logger.error("%s: a label cannot be read and is left out: %s", volume, error)
            return None
        if not label.grid.same_as(grid):
            logger.error("%s: %s is not on the CT's grid", volume, version.path.name)
            return None
        return np.asarray(label.array, dtype=np.uint8)

    def _pseudo(self, volume: str) -> Version | None:
        """Return the networks' label; what an earlier release kept as the draft was that."""
        there = self._versions.current(volume, PSEUDO)
        if there is not None:
            return there
        start = self._versions.current(volume, ORIGINAL)
        if start is None or "organs" in start.info:
            return None
        self._versions.put_in_force(volume, PSEUDO, start.path, start.sha256, start.info)
        return self._versions.current(volume, PSEUDO)

    def write(
        self,
        volume: str,
        tag: str,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        origin: Provenance,
        info: Mapping[str, Any],
    ) -> str:
        """Write a label with where it comes from and make it current; return its sha256."""
        with self._versions.incoming(tag) as path:
            write_label(path, array, grid, origin)
            sha256 = sha256_of(path)
            self._folder.labels.commit(volume, tag, path, ".nii.gz", dict(info), sha256)
        self._folder.now()
        return sha256

    def record(
        self,
        volume: str,
        tag: str,
        sha256: str,
        model: str | None = None,
        submission: int | None = None,
    ) -> None:
        file = f"labels/{tag}/{volume}.nii.gz"
        self._ledger.keep_label(volume, LabelFile(tag, file, sha256, model, submission))


def _drawn(info: Mapping[str, Any], organ: str) -> bool:
    """Return whether a pseudo label has voxels of an organ, as far as its info says."""
    voxels = info.get("voxels")
    return not isinstance(voxels, dict) or bool(voxels.get(organ))


def signature(info: Mapping[str, Any]) -> str | None:
    """Return the model version a label was made under, as far as its info says."""
    value = info.get("model_signature")
    return value if isinstance(value, str) else None
