"""Import public label files into a studies folder, in one process or several.

First find the dataset's version and check its numbers, then import one file after another.
"""

from __future__ import annotations

import contextlib
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

from atlas8k.core.csv_text import csv_text
from atlas8k.core.errors import Atlas8kError, VolumeError
from atlas8k.core.grid_alignment import TOLERANCE_VOXELS
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_label
from atlas8k.core.voxels import renamed
from atlas8k.labels.datasets import Dataset, DatasetMapError, find_versions, known_datasets
from atlas8k.labels.matching import LabelFile, LabelFiles, Matcher, MatchError, parse_rule
from atlas8k.labels.public import UNKNOWN_TAG, PublicLabel, read_public
from atlas8k.labels.survey import described, others_that_fit, survey, version_of, votes_text
from atlas8k.services.exporting.bring_in import bring_in, records
from atlas8k.store import OrganSource, UnknownVolumeError, VolumeEntry

if TYPE_CHECKING:
    from atlas8k.services.labels.service import LabelService

SHOWN = 10
"""Most files named in a message."""

Result = Literal["imported", "unchanged", "skipped", "refused"]


@dataclass(frozen=True)
class Outcome:
    """The result of importing one label file.

    ``skipped``: there is no CT of that name; ``refused``: see `reason`.
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
        parts = [self.reason] if self.reason else []
        if self.states:
            present = [organ for organ, state in self.states.items() if state == "present"]
            parts.append(f"{len(present)} organ{'s' * (len(present) != 1)}")
            for state in ("absent", "unknown"):
                organs = [
                    organ for organ, organ_state in self.states.items() if organ_state == state
                ]
                parts += [f"{state}: {' '.join(organs)}"] if organs else []
        parts += self.notes
        if self.rules:
            parts.append(f"look at: {', '.join(self.rules)}")
        return f"{text}: {'; '.join(parts)}" if parts else text


class Planned(NamedTuple):
    """A label file and its CT, or the outcome where it has none."""

    file: LabelFile
    shown: str
    volume: str | None
    outcome: Outcome | None


def plan(label_files: LabelFiles, folder: Path, matcher: Matcher) -> list[Planned]:
    """Find the CT of every label file; refuse all files that share one."""
    planned = []
    for file in label_files.files:
        shown_name = str(file.path.relative_to(folder))
        try:
            planned.append(Planned(file, shown_name, matcher.volume(file.name), None))
        except MatchError as error:
            result: Result = "skipped" if error.missing else "refused"
            planned.append(
                Planned(file, shown_name, None, Outcome(shown_name, None, result, error.reason))
            )
    counts = Counter(p.volume for p in planned if p.volume is not None)
    return [
        p._replace(outcome=_shared(p, planned)) if p.volume and counts[p.volume] > 1 else p
        for p in planned
    ]


def _shared(file: Planned, planned: Sequence[Planned]) -> Outcome:
    others = [p.shown for p in planned if p.volume == file.volume and p is not file]
    reason = f"{', '.join(others)} would be the label of the same CT; give one of them only"
    return Outcome(file.shown, file.volume, "refused", reason)


@dataclass(frozen=True)
class Importer:
    """Imports label files into a studies folder; can be sent to another process."""

    studies: Path
    ledger: Path | None
    dataset: Dataset
    dry_run: bool = False
    tolerance: float = TOLERANCE_VOXELS
    stated: str | None = None

    def run(self, planned: Sequence[Planned], jobs: int = 1) -> Iterator[Outcome]:
        """Yield outcomes in the order of the files; a bad file does not stop the others."""
        if jobs <= 1:
            yield from map(self, planned)
            return
        # Not forked: the libraries underneath have threads of their own by now.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(jobs, max(1, len(planned))), mp_context=context) as pool:
            yield from pool.map(self, planned)

    def __call__(self, planned: Planned) -> Outcome:
        """Import one file, unless its outcome is known already."""
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
        stored = _Stored.of(label_service, volume, self.dataset)
        organs = stored.organs_to_record(label)
        unchanged = stored.has(label, organs)
        if not unchanged and not self.dry_run:
            # A volume came from one dataset, even where others label it again.
            first = stored.datasets() <= {self.dataset.name}
            entry = VolumeEntry(volume, source=self.dataset.name if first else None)
            label_service.ledger.add_volumes([entry])
            _store_unknown(label_service, volume, label, self.dataset)
            label_service.keep_public(volume, label.array, label.grid, organs)
        return Outcome(
            planned.shown,
            volume,
            "unchanged" if unchanged else "imported",
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
class _Stored:
    """The public label that a volume has already, and its datasets' answer for each organ."""

    array: npt.NDArray[np.uint8] | None
    unknown: npt.NDArray[np.uint8] | None
    """Voxels that this dataset left open."""
    organs: Mapping[str, OrganSource]

    @classmethod
    def of(cls, label_service: LabelService, volume: str, dataset: Dataset) -> _Stored:
        organs: Mapping[str, OrganSource] = {}
        with contextlib.suppress(UnknownVolumeError):
            organs = label_service.ledger.dataset_organs(volume)
        own = _own_mask(label_service, volume, dataset)
        unknown = _array(label_service, volume, UNKNOWN_TAG) if own else None
        return cls(_array(label_service, volume, "public"), unknown, organs)

    def datasets(self) -> set[str | None]:
        """Return the datasets that public organs come from."""
        return {source.dataset for source in self.organs.values() if source.source == "public"}

    def organs_to_record(self, label: PublicLabel) -> dict[str, OrganSource]:
        """Return the sources to record; an unknown organ does not replace another dataset's."""
        silent = {
            organ
            for organ, source in label.organs.items()
            if source.source != "public"
            and (before := self.organs.get(organ)) is not None
            and (before.source == "public" and before.dataset != source.dataset)
        }
        return {organ: s for organ, s in label.organs.items() if organ not in silent}

    def has(self, label: PublicLabel, organs: Mapping[str, OrganSource]) -> bool:
        """Return whether all of `organs` are stored already, voxel for voxel."""
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
    """Read a stored label; None where there is none, or it is damaged and to be written anew."""
    row = label_service.folder.label(volume, tag)
    if row is None or row.ext is None:
        return None
    with contextlib.suppress(VolumeError):
        return np.asarray(read_label(label_service.folder.labels.path(volume, tag, row.ext)).array)
    return None


def _key(source: OrganSource) -> tuple[str, str, str | None]:
    """Return the parts of a source that must agree for a label to be unchanged."""
    return source.source, source.state, source.dataset if source.source == "public" else None


def _store_unknown(
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
    """Return whether there is a mask of open voxels, from this dataset."""
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
    """Choose the version to import as, and check all files against it.

    Parameters
    ----------
    name
        Name of the dataset, as the user gave it.
    force
        Import in spite of objections; they are printed all the same.

    Raises
    ------
    DatasetMapError
        The version must be named, or files do not fit; nothing has been written.
    """
    files = [file for file in planned if file.outcome is None and file.volume is not None]
    paths = [file.file.path for file in files]
    # The bar shows in a terminal only.
    progress = tqdm(survey(paths, versions, jobs), total=len(paths), desc="looking", disable=None)
    surveys = list(progress)
    entry = version_of(surveys, versions)
    if entry is None:
        choices = " or ".join(f"{version.name!r}" for version in versions)
        raise DatasetMapError(
            name,
            f"has versions with other numbers, and the files do not tell which these are "
            f"({votes_text(surveys, versions)}); say which, such as "
            f"`atlas8k labels import {versions[-1].name!r} {folder} …`: {choices}",
        )
    if len(versions) > 1:
        typer.echo(f"{name}: these are labels of {entry.name} ({votes_text(surveys, versions)})")
    shown_names = {file.file.path: file.shown for file in files}
    # A value that the dataset lacks gets its own file refused; it may be that file alone.
    wrong = [file for file in surveys if file.objections[entry.name]]
    if not wrong:
        return entry
    lines = [
        f"{shown_names[file.path]}: {'; '.join(file.objections[entry.name])}" for file in wrong
    ]
    listing = "\n".join(f"  {line}" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        listing += f"\n  and {len(lines) - SHOWN} more"
    if force:
        typer.echo(f"imported all the same (--force), {len(wrong)} of {len(surveys)} files:")
        typer.echo(listing)
        return entry
    fitting = others_that_fit(
        [file.path for file in wrong], entry, list(known_datasets(maps).values())
    )
    advice = f"Their numbers fit {', '.join(fitting)}: give that name. " if fitting else ""
    raise DatasetMapError(
        folder,
        f"nothing was imported: as labels of {entry.name}, {len(wrong)} of {len(surveys)} files "
        f"show what no patient has, or say so themselves:\n{listing}\n{advice}Where they are right "
        "as they are (situs inversus, a rare anatomy): add --force",
    )


def versions_of(name: str, folder: Path, maps: Path | None) -> tuple[Dataset, ...]:
    """Return every dataset that a name can mean; of one that is not known, as it says itself.

    Raises
    ------
    DatasetMapError
        No such dataset, and the folder has no ``dataset.json`` that names an organ.
    """
    try:
        return find_versions(name, maps)
    except DatasetMapError:
        own = described(folder, name)
        if own is None or maps is not None:
            raise
        return (own,)


def bring_in_all(
    name: str,
    folder: Path,
    studies: Path,
    ledger: Path | None,
    rules: Sequence[str],
    prefix: str,
    dry_run: bool,
) -> None:
    """Bring an export of ours into a campaign, a line a volume; exit with 1 where one is refused.

    Parameters
    ----------
    name
        What the release is called in the records.
    rules, prefix
        See :class:`~atlas8k.labels.matching.Matcher`.
    """
    service = _label_service(studies, ledger)
    try:
        own = [parse_rule(text) for text in rules]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--match") from error
    there = service.folder.now().ids()
    matcher = Matcher(there, prefix=prefix, rules=own)
    counts: Counter[str] = Counter()
    for record in tqdm(list(records(folder)), desc=name, unit="volume", disable=None):
        result, reason = "imported", ""
        try:
            series = record["ct"].get("series")  # of a CT that was exported as DICOM
            volume = series if series in there else matcher.volume(record["name"])
            if not dry_run and not bring_in(service, volume, folder, record, name):
                result = "unchanged"
        except MatchError as error:
            result, reason = "skipped" if error.missing else "refused", error.reason
        except (Atlas8kError, OSError) as error:
            result, reason = "refused", str(error)
        counts[result] += 1
        tqdm.write(f"{result:9s} {record['name']}{': ' + reason if reason else ''}")
    typer.echo(f"{name}: {', '.join(f'{n} {result}' for result, n in counts.items())}")
    service.close()
    if counts["refused"] or not counts["imported"] + counts["unchanged"]:
        raise typer.Exit(1)


def write_report(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write a CSV of all outcomes, one row a file."""
    rows = [["file", "volume", "result", "reason", *ORGAN_NAMES, "notes", "findings"]]
    for o in outcomes:
        states = [o.states.get(organ, "") for organ in ORGAN_NAMES]
        texts = ["; ".join(o.notes), "; ".join(o.findings)]
        rows.append([o.file, o.volume or "", o.result, o.reason, *states, *texts])
    path.write_text(csv_text(rows), encoding="utf-8", newline="")
