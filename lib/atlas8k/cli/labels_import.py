"""Public label files into a studies folder, in one process or several.

First which version of a dataset they are and whether its numbers fit, then one after another.
"""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import typer
from tqdm import tqdm

from atlas8k.core.errors import Atlas8kError, VolumeError
from atlas8k.core.grid_alignment import TOLERANCE_VOXELS
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_label
from atlas8k.core.voxels import renamed
from atlas8k.labels.datasets import Dataset, DatasetMapError, known_datasets
from atlas8k.labels.matching import LabelFile, LabelFiles, Matcher, MatchError
from atlas8k.labels.public import UNKNOWN_TAG, PublicLabel, read_public
from atlas8k.labels.survey import others_that_fit, survey, version_of, votes_text
from atlas8k.store import OrganSource, UnknownVolumeError, VolumeEntry

if TYPE_CHECKING:
    from atlas8k.services.labels.service import LabelService

SHOWN = 10
"""Files that are named where more do not fit."""

Result = Literal["imported", "unchanged", "skipped", "refused"]


@dataclass(frozen=True)
class Outcome:
    """What became of one label file.

    ``skipped``: no CT of that name is there; ``refused``: `reason` says why not.
    """

    file: str
    volume: str | None
    result: Result
    reason: str = ""
    states: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    def line(self, *, dry_run: bool = False) -> str:
        """Return one line for people."""
        result = "to import" if dry_run and self.result == "imported" else self.result
        text = f"{result:9s} {self.file}"
        if self.volume is not None and self.volume != self.file.partition(".nii")[0]:
            text += f" -> {self.volume}"
        said = [self.reason] if self.reason else []
        if self.states:
            present = [organ for organ, state in self.states.items() if state == "present"]
            said.append(f"{len(present)} organ{'s' * (len(present) != 1)}")
            for state in ("absent", "unknown"):
                organs = [organ for organ, its in self.states.items() if its == state]
                said += [f"{state}: {' '.join(organs)}"] if organs else []
        said += self.notes
        if self.rules:
            said.append(f"look at: {', '.join(self.rules)}")
        return f"{text}: {'; '.join(said)}" if said else text


class Planned(NamedTuple):
    """A label file and its CT, or why it has none."""

    file: LabelFile
    shown: str
    volume: str | None
    outcome: Outcome | None


def plan(found: LabelFiles, folder: Path, matcher: Matcher) -> list[Planned]:
    """Return the CT of every label file; files that share one are refused, all of them."""
    planned = []
    for file in found.files:
        shown = str(file.path.relative_to(folder))
        try:
            planned.append(Planned(file, shown, matcher.volume(file.name), None))
        except MatchError as error:
            result: Result = "skipped" if error.missing else "refused"
            planned.append(Planned(file, shown, None, Outcome(shown, None, result, error.reason)))
    counts = Counter(p.volume for p in planned if p.volume is not None)
    return [
        p._replace(outcome=_shared(p, planned)) if p.volume and counts[p.volume] > 1 else p
        for p in planned
    ]


def _shared(one: Planned, planned: Sequence[Planned]) -> Outcome:
    others = [p.shown for p in planned if p.volume == one.volume and p is not one]
    reason = f"{', '.join(others)} would be the label of the same CT; give one of them only"
    return Outcome(one.shown, one.volume, "refused", reason)


@dataclass(frozen=True)
class Importer:
    """Where labels go and how they are read; can be sent to another process."""

    studies: Path
    ledger: Path | None
    dataset: Dataset
    dry_run: bool = False
    tolerance: float = TOLERANCE_VOXELS
    stated: str | None = None

    def run(self, planned: Sequence[Planned], jobs: int = 1) -> Iterator[Outcome]:
        """Yield outcomes in the order of the files; one bad file ends nothing."""
        if jobs <= 1:
            yield from map(self, planned)
            return
        # Not forked: the libraries underneath have threads of their own by now.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(jobs, max(1, len(planned))), mp_context=context) as pool:
            yield from pool.map(self, planned)

    def __call__(self, planned: Planned) -> Outcome:
        """Import one file, unless it was found not to be importable."""
        if planned.outcome is not None or planned.volume is None:
            return planned.outcome or Outcome(planned.shown, None, "skipped")
        try:
            label_service = _label_service(self.studies, self.ledger)
            return self._take(label_service, planned, planned.volume)
        except VolumeError as error:
            # The line names the file already, as it lies in the dataset's folder.
            own = error.path == str(planned.file.path)
            reason = error.reason if own else str(error)
        except (Atlas8kError, OSError, MemoryError) as error:
            reason = str(error) or type(error).__name__
        return Outcome(planned.shown, planned.volume, "refused", reason)

    def _take(self, label_service: LabelService, planned: Planned, volume: str) -> Outcome:
        image = label_service.folder.known_image(volume)
        label = read_public(
            planned.file.path,
            label_service.folder.path / image.path,
            self.dataset,
            tolerance=self.tolerance,
            stated=self.stated,
        )
        kept = _Kept.of(label_service, volume, self.dataset)
        organs = kept.to_keep(label)
        same = kept.says(label, organs)
        if not same and not self.dry_run:
            # A volume came from one dataset, even where others label it again.
            first = kept.datasets() <= {self.dataset.name}
            entry = VolumeEntry(volume, source=self.dataset.name if first else None)
            label_service.ledger.add_volumes([entry])
            _keep_unknown(label_service, volume, label, self.dataset)
            label_service.keep_public(volume, label.array, label.grid, organs)
        return Outcome(
            planned.shown,
            volume,
            "unchanged" if same else "imported",
            states={organ: source.state for organ, source in label.organs.items()},
            notes=label.notes,
            findings=tuple(finding.text for finding in label.findings),
            rules=tuple(dict.fromkeys(f"{f.organ} {f.rule}" for f in label.findings)),
        )


@cache
def _label_service(studies: Path, ledger: Path | None) -> LabelService:
    from atlas8k.services.labels.service import LabelService

    return LabelService.open(studies, ledger)


@dataclass(frozen=True, eq=False)
class _Kept:
    """The public label a volume has already, and what its datasets say of each organ."""

    array: npt.NDArray[np.uint8] | None
    unknown: npt.NDArray[np.uint8] | None
    """Voxels that this dataset left open."""
    organs: Mapping[str, OrganSource]

    @classmethod
    def of(cls, label_service: LabelService, volume: str, dataset: Dataset) -> _Kept:
        organs: Mapping[str, OrganSource] = {}
        with contextlib.suppress(UnknownVolumeError):
            organs = label_service.ledger.dataset_organs(volume)
        own = _own_mask(label_service, volume, dataset)
        unknown = _array(label_service, volume, UNKNOWN_TAG) if own else None
        return cls(_array(label_service, volume, "public"), unknown, organs)

    def datasets(self) -> set[str | None]:
        """Return where public organs come from."""
        return {source.dataset for source in self.organs.values() if source.source == "public"}

    def to_keep(self, label: PublicLabel) -> dict[str, OrganSource]:
        """Return what to record of each organ; not knowing one takes none from others."""
        silent = {
            organ
            for organ, source in label.organs.items()
            if source.source != "public"
            and (before := self.organs.get(organ)) is not None
            and (before.source == "public" and before.dataset != source.dataset)
        }
        return {organ: s for organ, s in label.organs.items() if organ not in silent}

    def says(self, label: PublicLabel, organs: Mapping[str, OrganSource]) -> bool:
        """Return whether all of `organs` is known already, voxel for voxel."""
        if self.array is None or self.array.shape != label.array.shape:
            return False
        before = {organ: _key(source) for organ, source in self.organs.items()}
        if any(before.get(organ) != _key(source) for organ, source in organs.items()):
            return False
        public = np.zeros(256, np.uint8)
        for organ, source in organs.items():
            public[ORGAN_IDS[organ]] = ORGAN_IDS[organ] if source.source == "public" else 0
        if not np.array_equal(renamed(self.array, public), renamed(label.array, public)):
            return False
        if self.unknown is None or label.unknown is None:
            return self.unknown is None and label.unknown is None
        return bool(np.array_equal(self.unknown > 0, label.unknown))


def _array(label_service: LabelService, volume: str, tag: str) -> npt.NDArray[np.uint8] | None:
    """Return a label that is there; one that cannot be read any more is written anew."""
    row = label_service.folder.label(volume, tag)
    if row is None or row.ext is None:
        return None
    with contextlib.suppress(VolumeError):
        return np.asarray(read_label(label_service.folder.labels.path(volume, tag, row.ext)).array)
    return None


def _key(source: OrganSource) -> tuple[str, str, str | None]:
    """Return what must be the same for a label to be the one that is there."""
    return source.source, source.state, source.dataset if source.source == "public" else None


def _keep_unknown(
    label_service: LabelService, volume: str, label: PublicLabel, dataset: Dataset
) -> None:
    """Store the mask of voxels left open, before the label that leaves them open."""
    if label.unknown is not None:
        info = {"dataset": dataset.name, "voxels": int(np.count_nonzero(label.unknown))}
        mask = label.unknown.astype(np.uint8)
        label_service.folder.store_label(volume, UNKNOWN_TAG, mask, label.grid, info)
    elif _own_mask(label_service, volume, dataset):
        label_service.folder.remove_label(volume, UNKNOWN_TAG)


def _own_mask(label_service: LabelService, volume: str, dataset: Dataset) -> bool:
    """Return whether there is a mask of voxels left open, and this dataset left them so."""
    row = label_service.folder.label(volume, UNKNOWN_TAG)
    return row is not None and json.loads(row.info).get("dataset") == dataset.name


def chosen_version(
    name: str,
    folder: Path,
    versions: Sequence[Dataset],
    planned: Sequence[Planned],
    maps: Path | None,
    *,
    force: bool,
    jobs: int,
) -> Dataset:
    """Return the version to import under, once nothing in the files speaks against it.

    Parameters
    ----------
    name
        Of the dataset, as the user gave it.
    force
        Import whatever speaks against it; it is printed all the same.

    Raises
    ------
    DatasetMapError
        The version must be said, or files do not fit; nothing has been written.
    """
    files = [one for one in planned if one.outcome is None and one.volume is not None]
    paths = [one.file.path for one in files]
    # The bar shows in a terminal only.
    looked = tqdm(survey(paths, versions, jobs), total=len(paths), desc="looking", disable=None)
    looks = list(looked)
    entry = version_of(looks, versions)
    if entry is None:
        said = " or ".join(f"{version.name!r}" for version in versions)
        raise DatasetMapError(
            name,
            f"has versions with other numbers, and the files do not tell which these are "
            f"({votes_text(looks, versions)}); say which, such as "
            f"`atlas8k labels import {versions[-1].name!r} {folder} …`: {said}",
        )
    if len(versions) > 1:
        typer.echo(f"{name}: these are labels of {entry.name} ({votes_text(looks, versions)})")
    shown = {one.file.path: one.shown for one in files}
    # A value that the dataset lacks gets its own file refused; it may be that file alone.
    wrong = [one for one in looks if one.objections[entry.name]]
    if not wrong:
        return entry
    lines = [f"{shown[one.path]}: {'; '.join(one.objections[entry.name])}" for one in wrong]
    listing = "\n".join(f"  {line}" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        listing += f"\n  and {len(lines) - SHOWN} more"
    if force:
        typer.echo(f"imported all the same (--force), {len(wrong)} of {len(looks)} files:")
        typer.echo(listing)
        return entry
    fitting = others_that_fit(
        [one.path for one in wrong], entry, list(known_datasets(maps).values())
    )
    advice = f"Their numbers fit {', '.join(fitting)}: give that name. " if fitting else ""
    raise DatasetMapError(
        folder,
        f"nothing was imported: as labels of {entry.name}, {len(wrong)} of {len(looks)} files "
        f"show what no patient has, or say so themselves:\n{listing}\n{advice}Where they are right "
        "as they are (situs inversus, a rare anatomy): add --force",
    )


def write_report(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write a CSV of all outcomes, one row a file."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "volume", "result", "reason", *ORGAN_NAMES, "notes", "findings"])
        for o in outcomes:
            states = [o.states.get(organ, "") for organ in ORGAN_NAMES]
            texts = ["; ".join(o.notes), "; ".join(o.findings)]
            writer.writerow([o.file, o.volume or "", o.result, o.reason, *states, *texts])
